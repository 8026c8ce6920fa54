/// Runs the statements of one template once.
final class TemplateInterpreter {
    /// Calls of macros may be nested this deep.
    private static let maximumDepth = 100

    /// Expressions may be nested this deep, over all calls: more could overflow the stack.
    private static let maximumExpressionDepth = 400

    private var output = ""
    private var expressionDepth = 0
    private var depth = 0
    /// How many blocks around the current one capture their text.
    private var numCaptures = 0
    /// The size of the top-level text when the outermost capture began.
    private var numBytesBeforeCapture = 0
    /// The texts that enclosing filter blocks and set blocks work on.
    private var capturedTexts: [String] = []
    private var generations: [(startByte: Int, numScalars: Int)] = []

    /// How a statement ends.
    private enum Flow {
        case next
        case exitLoop
        case nextIteration
    }

    /// Renders `statements` with the given variables.
    func render(
        _ statements: [TemplateStatement], variables: [String: TemplateValue]
    ) throws(TemplateError) -> RenderedChat {
        _ = try run(statements, TemplateScope(variables))
        return RenderedChat(text: output, generationSpans: generations.map(span))
    }

    /// Where transformers' tracker sees a generation block: from the end of the text that was
    /// complete when the block began, as many scalars as the block has.
    private func span(_ generation: (startByte: Int, numScalars: Int)) -> Range<Int> {
        let utf8 = output.utf8
        let start = min(generation.startByte, utf8.count)
        var remaining = generation.numScalars
        var end = start
        for byte in utf8.dropFirst(start) {
            if byte & 0xC0 != 0x80 {
                if remaining == 0 { break }
                remaining -= 1
            }
            end += 1
        }
        return start..<end
    }

    /// The text of a macro's body.
    func callBody(
        _ body: [TemplateStatement], _ scope: TemplateScope
    ) throws(TemplateError) -> String {
        guard depth < Self.maximumDepth else {
            throw TemplateError(
                .value, "macros and loops call each other more than \(Self.maximumDepth) deep")
        }
        depth += 1
        defer { depth -= 1 }
        return try capture { () throws(TemplateError) in _ = try run(body, scope) }.text
    }

    /// Notes that the evaluation of an expression begins.
    func enterExpression() throws(TemplateError) {
        guard expressionDepth < Self.maximumExpressionDepth else {
            throw TemplateError(
                .unsupported,
                "an expression is nested more than \(Self.maximumExpressionDepth) deep")
        }
        expressionDepth += 1
    }

    /// Notes that the evaluation of an expression has ended.
    func leaveExpression() { expressionDepth -= 1 }

    /// Runs `body` and returns what it writes instead of adding it to the output.
    private func capture<Result>(
        _ body: () throws(TemplateError) -> Result
    ) throws(TemplateError) -> (text: String, result: Result) {
        if numCaptures == 0 { numBytesBeforeCapture = output.utf8.count }
        numCaptures += 1
        let outer = output
        output = ""
        defer {
            output = outer
            numCaptures -= 1
        }
        let result = try body()
        return (output, result)
    }

    /// The text that the innermost filter or set block has captured.
    var capturedText: String { capturedTexts.last ?? "" }

    // MARK: Statements

    private func run(
        _ statements: [TemplateStatement], _ scope: TemplateScope
    ) throws(TemplateError) -> Flow {
        for statement in statements {
            let flow: Flow
            do {
                flow = try run(statement, scope)
            } catch {
                throw error.located(at: statement.line)
            }
            if flow != .next { return flow }
        }
        return .next
    }

    private func run(
        _ statement: TemplateStatement, _ scope: TemplateScope
    ) throws(TemplateError) -> Flow {
        switch statement.kind {
        case .text(let text): output += text
        case .output(let expression): output += try evaluate(expression, scope).string()
        case .condition(let branches, let alternative):
            for branch in branches where try evaluate(branch.test, scope).isTrue {
                return try run(branch.body, scope)
            }
            return try run(alternative, scope)
        case .loop(let loop): return try run(loop, scope)
        case .assign(let target, let expression):
            try assign(try evaluate(expression, scope), to: target, scope)
        case .assignBlock(let target, let value, let body):
            return try runBlock(body, value, scope) { (value) throws(TemplateError) in
                try assign(value, to: target, scope)
            }
        case .filterBlock(let value, let body):
            return try runBlock(body, value, scope) { (value) throws(TemplateError) in
                output += try value.string()
            }
        case .macro(let definition):
            guard let name = definition.name else { break }
            scope.set(name, .object(TemplateMacro(definition, in: scope)))
        case .callBlock(let definition, let call):
            let caller = TemplateValue.object(TemplateMacro(definition, in: scope))
            output += try evaluateCall(call, scope, caller: caller).string()
        case .with(let bindings, let body):
            let inner = TemplateScope(parent: scope)
            for binding in bindings {
                try assign(try evaluate(binding.value, scope), to: binding.target, inner)
            }
            return try run(body, inner)
        case .generation(let body): try runGeneration(body, scope)
        case .exitLoop: return .exitLoop
        case .nextIteration: return .nextIteration
        }
        return .next
    }

    /// Runs a filter or set block; where the body leaves a loop, its text is lost, as in Jinja2.
    private func runBlock(
        _ body: [TemplateStatement], _ value: TemplateExpression, _ scope: TemplateScope,
        _ use: (TemplateValue) throws(TemplateError) -> Void
    ) throws(TemplateError) -> Flow {
        let inner = TemplateScope(parent: scope)
        let captured = try capture { () throws(TemplateError) in try run(body, inner) }
        guard captured.result == .next else { return captured.result }
        capturedTexts.append(captured.text)
        defer { capturedTexts.removeLast() }
        try use(try evaluate(value, inner))
        return .next
    }

    private func runGeneration(
        _ body: [TemplateStatement], _ scope: TemplateScope
    ) throws(TemplateError) {
        let inner = TemplateScope(parent: scope)
        inner.set("caller", .undefined("No caller defined"))
        inner.set("varargs", .tuple([]))
        inner.set("kwargs", .dictionary(TemplateDictionary()))
        let start = numCaptures == 0 ? output.utf8.count : numBytesBeforeCapture
        let text = try callBody(body, inner)
        generations.append((start, text.unicodeScalars.count))
        output += text
    }

    // MARK: Loops

    private func run(
        _ loop: TemplateLoopStatement, _ scope: TemplateScope
    ) throws(TemplateError) -> Flow {
        let iterable = try evaluate(loop.iterable, scope)
        guard loop.isRecursive else { return try run(loop, iterable, scope, depth0: 0) }
        output += try recurse(loop, iterable, scope, depth0: 0).string()
        return .next
    }

    private func recurse(
        _ loop: TemplateLoopStatement, _ iterable: TemplateValue, _ scope: TemplateScope,
        depth0: Int
    ) throws(TemplateError) -> TemplateValue {
        guard depth < Self.maximumDepth else {
            throw TemplateError(
                .value, "macros and loops call each other more than \(Self.maximumDepth) deep")
        }
        depth += 1
        defer { depth -= 1 }
        let captured = try capture { () throws(TemplateError) in
            try run(loop, iterable, scope, depth0: depth0)
        }
        return .string(captured.text)
    }

    private func run(
        _ statement: TemplateLoopStatement, _ iterable: TemplateValue, _ scope: TemplateScope,
        depth0: Int
    ) throws(TemplateError) -> Flow {
        var items = try iterable.makeIterator()
        var length = try iterable.length()
        if let filter = statement.filter {
            items = filtered(items, filter, statement.target, scope)
            length = nil
        }
        let recurse: (TemplateValue, Int) throws(TemplateError) -> TemplateValue = {
            (iterable, depth0) throws(TemplateError) in
            try self.recurse(statement, iterable, scope, depth0: depth0)
        }
        let loop = TemplateLoop(
            items, length: length, depth0: depth0,
            recurse: statement.isRecursive ? recurse : nil)
        var hasFinishedIteration = false
        iterations: while let item = try loop.next() {
            let inner = TemplateScope(parent: scope)
            try assign(item, to: statement.target, inner)
            inner.set("loop", .object(loop))
            switch try run(statement.body, inner) {
            case .next: hasFinishedIteration = true
            case .nextIteration: continue
            case .exitLoop: break iterations
            }
        }
        // Jinja2 counts only iterations that come to their end without break and continue.
        if hasFinishedIteration || statement.alternative.isEmpty { return .next }
        return try run(statement.alternative, TemplateScope(parent: scope))
    }

    /// The elements for which the test holds; tuples of targets are passed on as tuples.
    private func filtered(
        _ items: TemplateIterator, _ test: TemplateExpression, _ target: TemplateTarget,
        _ scope: TemplateScope
    ) -> TemplateIterator {
        items.compactMap { (item) throws(TemplateError) in
            let inner = TemplateScope(parent: scope)
            try self.assign(item, to: target, inner)
            guard try self.evaluate(test, inner).isTrue else { return nil }
            return Self.value(of: target, inner)
        }
    }

    private static func value(of target: TemplateTarget, _ scope: TemplateScope) -> TemplateValue {
        switch target {
        case .name(let name): scope.value(of: name)
        case .tuple(let targets): .tuple(targets.map { value(of: $0, scope) })
        case .namespaceAttribute: .null
        }
    }

    // MARK: Assignment

    private func assign(
        _ value: TemplateValue, to target: TemplateTarget, _ scope: TemplateScope
    ) throws(TemplateError) {
        switch target {
        case .name(let name): scope.set(name, value)
        case .namespaceAttribute(let name, let attribute):
            guard case .object(let namespace as TemplateNamespace) = scope.value(of: name) else {
                throw TemplateError(
                    .type,
                    "cannot assign attribute '\(attribute)' on non-namespace object '\(name)'")
            }
            try namespace.set(attribute, value)
        case .tuple(let targets):
            let items = try value.elements()
            guard items.count == targets.count else {
                throw TemplateError(
                    .value, "expected \(targets.count) values to unpack, found \(items.count)")
            }
            for (target, item) in zip(targets, items) { try assign(item, to: target, scope) }
        }
    }
}
