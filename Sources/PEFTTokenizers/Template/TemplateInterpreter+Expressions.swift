extension TemplateInterpreter {
    /// The value of an expression; errors get its line.
    func evaluate(
        _ expression: TemplateExpression, _ scope: TemplateScope
    ) throws(TemplateError) -> TemplateValue {
        try enterExpression()
        defer { leaveExpression() }
        do {
            return try value(of: expression, scope)
        } catch {
            throw error.located(at: expression.line)
        }
    }

    private func value(
        of expression: TemplateExpression, _ scope: TemplateScope
    ) throws(TemplateError) -> TemplateValue {
        switch expression.kind {
        case .literal(let literal): return TemplateValue(literal)
        case .name(let name): return scope.value(of: name)
        case .list(let items): return .list(try evaluate(items, scope))
        case .tuple(let items): return .tuple(try evaluate(items, scope))
        case .dictionary(let pairs): return try dictionary(pairs, scope)
        case .attribute(let value, let name): return try evaluate(value, scope).attribute(name)
        case .item(let value, let key):
            return try evaluate(value, scope).item(try evaluate(key, scope))
        case .slice(let value, let slice): return try sliced(value, slice, scope)
        case .call: return try evaluateCall(expression, scope)
        case .filter(let value, let name, let arguments):
            return try filtered(value, name, arguments, scope)
        case .test(let value, let name, let arguments):
            return try tested(value, name, arguments, scope)
        case .sign(let operand, let isNegative):
            return try evaluate(operand, scope).signed(isNegative: isNegative)
        case .arithmetic(let operation, let left, let right):
            return try evaluate(left, scope).apply(operation, try evaluate(right, scope))
        case .comparison(let first, let rest): return try comparison(first, rest, scope)
        case .and(let left, let right):
            let value = try evaluate(left, scope)
            return value.isTrue ? try evaluate(right, scope) : value
        case .or(let left, let right):
            let value = try evaluate(left, scope)
            return value.isTrue ? value : try evaluate(right, scope)
        case .not(let operand): return .bool(!(try evaluate(operand, scope).isTrue))
        case .concatenation(let parts): return try concatenated(parts, scope)
        case .conditional(let test, let value, let alternative):
            if try evaluate(test, scope).isTrue { return try evaluate(value, scope) }
            if let alternative { return try evaluate(alternative, scope) }
            return Self.missingAlternative(expression.line)
        case .capturedText: return .string(capturedText)
        }
    }

    private func evaluate(
        _ expressions: [TemplateExpression], _ scope: TemplateScope
    ) throws(TemplateError) -> [TemplateValue] {
        var values: [TemplateValue] = []
        values.reserveCapacity(expressions.count)
        for expression in expressions { values.append(try evaluate(expression, scope)) }
        return values
    }

    private static func missingAlternative(_ line: Int) -> TemplateValue {
        .undefined(
            "the inline if-expression on line \(line) evaluated to false and no else section was "
                + "defined.")
    }

    private func concatenated(
        _ parts: [TemplateExpression], _ scope: TemplateScope
    ) throws(TemplateError) -> TemplateValue {
        var text = ""
        for part in parts {
            text += try evaluate(part, scope).string()
            try TemplateValue.checkLength(text.utf8.count)
        }
        return .string(text)
    }

    private func filtered(
        _ value: TemplateExpression, _ name: String, _ arguments: TemplateCallArguments,
        _ scope: TemplateScope
    ) throws(TemplateError) -> TemplateValue {
        guard let filter = TemplateFilters.table[name] else { throw TemplateFilters.missing(name) }
        let value = try evaluate(value, scope)
        return try filter(name, value, try evaluate(arguments, scope), self)
    }

    private func tested(
        _ value: TemplateExpression, _ name: String, _ arguments: TemplateCallArguments,
        _ scope: TemplateScope
    ) throws(TemplateError) -> TemplateValue {
        guard let test = TemplateTests.table[name] else { throw TemplateTests.missing(name) }
        let value = try evaluate(value, scope)
        return .bool(try test(name, value, try evaluate(arguments, scope)))
    }

    private func dictionary(
        _ pairs: [TemplatePair], _ scope: TemplateScope
    ) throws(TemplateError) -> TemplateValue {
        var dictionary = TemplateDictionary()
        for pair in pairs {
            let key = try evaluate(pair.key, scope)
            try dictionary.set(key, try evaluate(pair.value, scope))
        }
        return .dictionary(dictionary)
    }

    private func sliced(
        _ value: TemplateExpression, _ slice: TemplateSlice, _ scope: TemplateScope
    ) throws(TemplateError) -> TemplateValue {
        let value = try evaluate(value, scope)
        let start = try slice.start.map { (bound) throws(TemplateError) in
            try evaluate(bound, scope)
        }
        let stop = try slice.stop.map { (bound) throws(TemplateError) in
            try evaluate(bound, scope)
        }
        let step = try slice.step.map { (bound) throws(TemplateError) in
            try evaluate(bound, scope)
        }
        return try value.slice(start: start ?? .null, stop: stop ?? .null, step: step ?? .null)
    }

    private func comparison(
        _ first: TemplateExpression, _ rest: [TemplateComparison], _ scope: TemplateScope
    ) throws(TemplateError) -> TemplateValue {
        var left = try evaluate(first, scope)
        for next in rest {
            let right = try evaluate(next.right, scope)
            guard try left.compare(next.comparison, right) else { return .bool(false) }
            left = right
        }
        return .bool(true)
    }

    // MARK: Calls

    /// The value of a call expression; a call block passes its body as `caller`.
    func evaluateCall(
        _ expression: TemplateExpression, _ scope: TemplateScope, caller: TemplateValue? = nil
    ) throws(TemplateError) -> TemplateValue {
        guard case .call(let callee, let written) = expression.kind else { return .null }
        let function = try evaluate(callee, scope)
        var arguments = try evaluate(written, scope)
        if let caller { arguments.named.append(("caller", caller)) }
        switch function {
        case .method(let method): return try TemplateMethods.call(method, arguments)
        case .object(let object): return try object.call(arguments, self)
        case .undefined(let undefined): throw undefined.error
        default:
            throw TemplateError(.type, "'\(function.typeName)' object is not callable")
        }
    }

    private func evaluate(
        _ arguments: TemplateCallArguments, _ scope: TemplateScope
    ) throws(TemplateError) -> TemplateArguments {
        var result = TemplateArguments()
        result.positional = try evaluate(arguments.positional, scope)
        for (name, value) in arguments.named {
            result.named.append((name, try evaluate(value, scope)))
        }
        if let unpacked = arguments.unpackedPositional {
            result.positional += try evaluate(unpacked, scope).elements()
        }
        if let unpacked = arguments.unpackedNamed {
            let value = try evaluate(unpacked, scope)
            guard case .dictionary(let dictionary) = value else {
                throw TemplateError(
                    .type, "argument after ** must be a mapping, not \(value.typeName)")
            }
            for (key, value) in zip(dictionary.keys, dictionary.values) {
                guard let name = key.text else {
                    throw TemplateError(.type, "keywords must be strings, not \(key.typeName)")
                }
                guard !result.named.contains(where: { $0.name == name }) else {
                    throw TemplateError(.type, "multiple values for keyword argument '\(name)'")
                }
                result.named.append((name, value))
            }
        }
        return result
    }
}
