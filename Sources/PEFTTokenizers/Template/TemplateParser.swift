/// Builds the statements of a template from its tokens.
///
/// - Source: jinja2 3.1.6 `parser.py`; inheritance, imports and `autoescape` are refused.
struct TemplateParser {
    private let tokens: [TemplateToken]
    private var position = 0
    /// Tests and filters that nobody knows, and that Jinja2 reports before rendering.
    var unknownNames: [TemplateError] = []
    /// Whether unknown filters and tests are reported only when they run.
    var isSoft = false
    /// The depth of nested expressions and statements.
    var depth = 0
    /// How many loops `break` could leave; a macro starts again at 0.
    private var loopDepth = 0
    /// Loops around the current place, macros or not.
    private var enclosingLoops = 0
    /// For each macro that is being parsed: which special names it reads.
    private var specialNames: [Set<String>] = []

    /// Parses a whole template.
    static func parse(_ source: String) throws(TemplateError) -> [TemplateStatement] {
        var parser = TemplateParser(tokens: try TemplateLexer.tokens(of: source))
        let statements = try parser.parseBody(until: [], of: nil)
        if let error = parser.unknownNames.first { throw error }
        return statements
    }

    private init(tokens: [TemplateToken]) { self.tokens = tokens }

    // MARK: Tokens

    /// The token to be read next.
    var current: TemplateToken { tokens[position] }

    /// The token after the next.
    var following: TemplateToken { tokens[min(position + 1, tokens.count - 1)] }

    /// Reads a token; the end token stays.
    @discardableResult
    mutating func advance() -> TemplateToken {
        let token = tokens[position]
        if position < tokens.count - 1 { position += 1 }
        return token
    }

    /// Reads the next token if it is `kind`.
    mutating func skip(_ kind: TemplateToken.Kind) -> Bool {
        guard current.kind == kind else { return false }
        advance()
        return true
    }

    /// Reads the next token, which must be `kind`.
    @discardableResult
    mutating func expect(_ kind: TemplateToken.Kind) throws(TemplateError) -> TemplateToken {
        guard current.kind == kind else {
            throw unexpected(TemplateToken(kind: kind, line: 0).description)
        }
        return advance()
    }

    /// Reads the next token, which must be a name.
    mutating func expectName() throws(TemplateError) -> String {
        guard case .name(let name) = current.kind else { throw unexpected("a name") }
        advance()
        return name
    }

    /// The error that something other than the next token was expected.
    func unexpected(_ expected: String) -> TemplateError {
        TemplateError(
            .syntax, "expected \(expected), found \(current.description)", line: current.line)
    }

    /// Notes that the current macros read or assign `name`.
    mutating func note(_ name: String) {
        guard name == "caller" || name == "kwargs" || name == "varargs" else { return }
        for index in specialNames.indices { specialNames[index].insert(name) }
    }

    /// Runs `parse` one level deeper and refuses templates that would overflow the stack.
    mutating func nested<Result>(
        _ parse: (inout TemplateParser) throws(TemplateError) -> Result
    ) throws(TemplateError) -> Result {
        guard depth < 100 else {
            throw TemplateError(
                .unsupported, "statements and expressions are nested more than 100 deep",
                line: current.line)
        }
        depth += 1
        defer { depth -= 1 }
        return try parse(&self)
    }
}

// MARK: Statements

extension TemplateParser {
    /// Parses up to a tag named in `ends`, and leaves that name as the next token.
    private mutating func parseBody(
        until ends: [String], of tag: TemplateToken?
    ) throws(TemplateError) -> [TemplateStatement] {
        var statements: [TemplateStatement] = []
        while true {
            let token = current
            switch token.kind {
            case .data(let text):
                advance()
                statements.append(TemplateStatement(kind: .text(text), line: token.line))
            case .variableBegin:
                advance()
                let value = try parseTuple()
                try expect(.variableEnd)
                statements.append(TemplateStatement(kind: .output(value), line: token.line))
            case .blockBegin:
                advance()
                if case .name(let name) = current.kind, ends.contains(name) { return statements }
                let kinds = try nested { (parser) throws(TemplateError) in
                    try parser.parseStatement(ends: ends)
                }
                statements += kinds.map { TemplateStatement(kind: $0, line: token.line) }
                try expect(.blockEnd)
            case .end where tag == nil:
                return statements
            default:
                let opening = tag.map { " for \($0.description) of line \($0.line)" } ?? ""
                throw unexpected(Self.list(ends) + opening)
            }
        }
    }

    private static func list(_ names: [String]) -> String {
        names.map { "'{% \($0) %}'" }.joined(separator: " or ")
    }

    /// Parses the rest of an opening tag and the statements behind it, up to a tag in `ends`.
    private mutating func parseBlock(
        until ends: String..., of tag: TemplateToken, soft: Bool = false
    ) throws(TemplateError) -> [TemplateStatement] {
        _ = skip(.symbol(":"))
        try expect(.blockEnd)
        let wasSoft = isSoft
        isSoft = soft
        defer { isSoft = wasSoft }
        return try parseBody(until: ends, of: tag)
    }

    private mutating func parseStatement(
        ends: [String]
    ) throws(TemplateError) -> [TemplateStatement.Kind] {
        let tag = current
        switch try expectName() {
        case "if": return [try parseCondition(tag)]
        case "for": return [try parseLoop(tag)]
        case "set": return [try parseAssignment(tag)]
        case "macro": return [try parseMacro(tag)]
        case "call": return [try parseCallBlock(tag)]
        case "filter": return [try parseFilterBlock(tag)]
        case "with": return [try parseWith(tag)]
        case "print": return try parsePrint()
        case "generation":
            let definition = try parseMacroBody(
                named: nil, parameters: [], until: "endgeneration", of: tag)
            return [.generation(body: definition.body)]
        case "break": return [try parseLoopControl(.exitLoop, tag)]
        case "continue": return [try parseLoopControl(.nextIteration, tag)]
        case let name
        where ["block", "extends", "include", "import", "from", "autoescape"].contains(name):
            throw TemplateError(
                .unsupported, "the statement '\(name)' is not supported in chat templates",
                line: tag.line)
        default:
            let expected = ends.isEmpty ? "a statement" : "a statement or " + Self.list(ends)
            throw TemplateError(
                .syntax, "expected \(expected), found the unknown tag \(tag.description)",
                line: tag.line)
        }
    }

    private func parseLoopControl(
        _ kind: TemplateStatement.Kind, _ tag: TemplateToken
    ) throws(TemplateError) -> TemplateStatement.Kind {
        guard loopDepth > 0 else {
            throw TemplateError(
                .syntax, "expected a loop around \(tag.description), found none", line: tag.line)
        }
        return kind
    }

    private mutating func parseCondition(
        _ tag: TemplateToken
    ) throws(TemplateError) -> TemplateStatement.Kind {
        var branches: [TemplateBranch] = []
        while true {
            let numUnknown = unknownNames.count
            let test = try parseTuple(allowsConditional: false)
            unknownNames.removeSubrange(numUnknown...)
            let body = try parseBlock(until: "elif", "else", "endif", of: tag, soft: true)
            branches.append(TemplateBranch(test: test, body: body))
            switch try expectName() {
            case "elif": continue
            case "else":
                let alternative = try parseBlock(until: "endif", of: tag, soft: true)
                advance()
                return .condition(branches, alternative: alternative)
            default: return .condition(branches, alternative: [])
            }
        }
    }

    private mutating func parseLoop(
        _ tag: TemplateToken
    ) throws(TemplateError) -> TemplateStatement.Kind {
        enclosingLoops += 1
        let target = try parseTarget()
        enclosingLoops -= 1
        try expect(.name("in"))
        let iterable = try parseTuple(allowsConditional: false)
        let filter = skip(.name("if")) ? try parseExpression() : nil
        let isRecursive = skip(.name("recursive"))
        loopDepth += 1
        enclosingLoops += 1
        let body = try parseBlock(until: "endfor", "else", of: tag)
        loopDepth -= 1
        var alternative: [TemplateStatement] = []
        if try expectName() == "else" {
            alternative = try parseBlock(until: "endfor", of: tag)
            advance()
        }
        enclosingLoops -= 1
        return .loop(
            TemplateLoopStatement(
                target: target, iterable: iterable, filter: filter, isRecursive: isRecursive,
                body: body, alternative: alternative))
    }

    private mutating func parseAssignment(
        _ tag: TemplateToken
    ) throws(TemplateError) -> TemplateStatement.Kind {
        let target = try parseTarget(allowsNamespace: true)
        if skip(.symbol("=")) { return .assign(target, try parseTuple()) }
        let text = TemplateExpression(kind: .capturedText, line: tag.line)
        let value = try parseFilters(of: text)
        let body = try parseBlock(until: "endset", of: tag)
        advance()
        return .assignBlock(target, value: value, body: body)
    }

    private mutating func parseFilterBlock(
        _ tag: TemplateToken
    ) throws(TemplateError) -> TemplateStatement.Kind {
        let text = TemplateExpression(kind: .capturedText, line: tag.line)
        let value = try parseFilters(of: text, startsInline: true)
        let body = try parseBlock(until: "endfilter", of: tag)
        advance()
        return .filterBlock(value: value, body: body)
    }

    private mutating func parseWith(
        _ tag: TemplateToken
    ) throws(TemplateError) -> TemplateStatement.Kind {
        var bindings: [TemplateBinding] = []
        while current.kind != .blockEnd {
            if !bindings.isEmpty { try expect(.symbol(",")) }
            let target = try parseTarget()
            try expect(.symbol("="))
            bindings.append(TemplateBinding(target: target, value: try parseExpression()))
        }
        let body = try parseBlock(until: "endwith", of: tag)
        advance()
        return .with(bindings, body: body)
    }

    private mutating func parsePrint() throws(TemplateError) -> [TemplateStatement.Kind] {
        var outputs: [TemplateStatement.Kind] = []
        while current.kind != .blockEnd {
            if !outputs.isEmpty { try expect(.symbol(",")) }
            outputs.append(.output(try parseExpression()))
        }
        return outputs
    }
}

// MARK: Macros and targets

extension TemplateParser {
    private mutating func parseMacro(
        _ tag: TemplateToken
    ) throws(TemplateError) -> TemplateStatement.Kind {
        let name = try expectName()
        try checkAssignable(name)
        let parameters = try parseParameters()
        return .macro(
            try parseMacroBody(named: name, parameters: parameters, until: "endmacro", of: tag))
    }

    private mutating func parseCallBlock(
        _ tag: TemplateToken
    ) throws(TemplateError) -> TemplateStatement.Kind {
        let parameters = current.kind == .symbol("(") ? try parseParameters() : []
        let call = try parseExpression()
        guard case .call = call.kind else {
            throw TemplateError(
                .syntax, "expected a call after 'call', found another expression", line: tag.line)
        }
        return .callBlock(
            try parseMacroBody(named: nil, parameters: parameters, until: "endcall", of: tag),
            call: call)
    }

    private mutating func parseParameters() throws(TemplateError) -> [TemplateParameter] {
        var parameters: [TemplateParameter] = []
        try expect(.symbol("("))
        while current.kind != .symbol(")") {
            if !parameters.isEmpty { try expect(.symbol(",")) }
            let name = try expectName()
            var defaultValue: TemplateExpression?
            if skip(.symbol("=")) {
                defaultValue = try parseExpression()
            } else if parameters.last?.defaultValue != nil {
                throw unexpected("a default for '\(name)', since the parameter before it has one")
            }
            parameters.append(TemplateParameter(name: name, defaultValue: defaultValue))
        }
        try expect(.symbol(")"))
        return parameters
    }

    private mutating func parseMacroBody(
        named name: String?, parameters: [TemplateParameter], until end: String,
        of tag: TemplateToken
    ) throws(TemplateError) -> TemplateMacroDefinition {
        let outerDepth = loopDepth
        loopDepth = 0
        specialNames.append([])
        let body = try parseBlock(until: end, of: tag)
        advance()
        loopDepth = outerDepth
        let special = specialNames.removeLast()
        if special.contains("caller"),
            parameters.contains(where: { $0.name == "caller" && $0.defaultValue == nil })
        {
            throw TemplateError(
                .syntax, "expected a default for the parameter 'caller', found none",
                line: tag.line)
        }
        return TemplateMacroDefinition(
            name: name, parameters: parameters, body: body,
            specialNames: special.subtracting(parameters.map(\.name)))
    }

    /// Parses what `for`, `set` and `with` assign to.
    private mutating func parseTarget(
        allowsNamespace: Bool = false
    ) throws(TemplateError) -> TemplateTarget {
        var targets: [TemplateTarget] = []
        var isTuple = false
        repeat {
            if current.kind == .blockEnd || current.kind == .symbol(")") { break }
            targets.append(try parseSingleTarget(allowsNamespace: allowsNamespace))
            if current.kind == .symbol(",") { isTuple = true }
        } while skip(.symbol(","))
        if isTuple { return .tuple(targets) }
        guard let target = targets.first else { throw unexpected("a name to assign to") }
        return target
    }

    private mutating func parseSingleTarget(
        allowsNamespace: Bool
    ) throws(TemplateError) -> TemplateTarget {
        if skip(.symbol("(")) {
            let target = try nested { (parser) throws(TemplateError) in
                try parser.parseTarget()
            }
            try expect(.symbol(")"))
            return target
        }
        let line = current.line
        let name = try expectName()
        if allowsNamespace, skip(.symbol(".")) {
            return .namespaceAttribute(name, try expectName())
        }
        guard !["true", "false", "none", "True", "False", "None"].contains(name) else {
            throw TemplateError(
                .syntax, "expected a name to assign to, found the constant '\(name)'", line: line)
        }
        try checkAssignable(name)
        return .name(name)
    }

    private func checkAssignable(_ name: String) throws(TemplateError) {
        if name == "loop", enclosingLoops > 0 {
            throw TemplateError(
                .syntax, "expected a name to assign to, found the special variable 'loop'",
                line: current.line)
        }
    }
}
