extension TemplateParser {
    /// Parses an expression, with or without `x if y else z` at its top.
    mutating func parseExpression(
        allowsConditional: Bool = true
    ) throws(TemplateError) -> TemplateExpression {
        try nested { (parser) throws(TemplateError) in
            try allowsConditional ? parser.parseConditional() : parser.parseOr()
        }
    }

    /// Parses an expression, or several with commas between them as a tuple.
    mutating func parseTuple(
        allowsConditional: Bool = true, isParenthesized: Bool = false
    ) throws(TemplateError) -> TemplateExpression {
        let line = current.line
        var items: [TemplateExpression] = []
        var isTuple = false
        repeat {
            if isTupleEnd { break }
            items.append(try parseExpression(allowsConditional: allowsConditional))
            if current.kind == .symbol(",") { isTuple = true }
        } while skip(.symbol(","))
        if !isTuple {
            if let item = items.first { return item }
            guard isParenthesized else { throw unexpected("an expression") }
        }
        return TemplateExpression(kind: .tuple(items), line: line)
    }

    private var isTupleEnd: Bool {
        switch current.kind {
        case .variableEnd, .blockEnd, .symbol(")"): true
        default: false
        }
    }

    private mutating func parseConditional() throws(TemplateError) -> TemplateExpression {
        var line = current.line
        let numUnknown = unknownNames.count
        var value = try parseOr()
        while skip(.name("if")) {
            let test = try parseOr()
            let alternative = skip(.name("else")) ? try parseExpression() : nil
            value = TemplateExpression(
                kind: .conditional(test: test, value: value, alternative: alternative), line: line)
            unknownNames.removeSubrange(numUnknown...)
            line = current.line
        }
        return value
    }

    // MARK: Operators, from the loosest to the tightest

    private mutating func parseOr() throws(TemplateError) -> TemplateExpression {
        var left = try parseAnd()
        while skip(.name("or")) {
            left = TemplateExpression(kind: .or(left, try parseAnd()), line: left.line)
        }
        return left
    }

    private mutating func parseAnd() throws(TemplateError) -> TemplateExpression {
        var left = try parseNot()
        while skip(.name("and")) {
            left = TemplateExpression(kind: .and(left, try parseNot()), line: left.line)
        }
        return left
    }

    private mutating func parseNot() throws(TemplateError) -> TemplateExpression {
        let line = current.line
        guard skip(.name("not")) else { return try parseComparison() }
        return try nested { (parser) throws(TemplateError) in
            TemplateExpression(kind: .not(try parser.parseNot()), line: line)
        }
    }

    private mutating func parseComparison() throws(TemplateError) -> TemplateExpression {
        let left = try parseSum()
        var comparisons: [TemplateComparison] = []
        while let comparison = takeComparison() {
            comparisons.append(
                TemplateComparison(comparison: comparison, right: try parseSum()))
        }
        if comparisons.isEmpty { return left }
        return TemplateExpression(kind: .comparison(left, comparisons), line: left.line)
    }

    private mutating func takeComparison() -> TemplateComparison.Operator? {
        switch current.kind {
        case .symbol(let symbol):
            guard let comparison = TemplateComparison.Operator(rawValue: symbol) else {
                return nil
            }
            advance()
            return comparison
        case .name("in"):
            advance()
            return .isIn
        case .name("not") where following.kind == .name("in"):
            advance()
            advance()
            return .isNotIn
        default:
            return nil
        }
    }

    private mutating func takeOperator(_ allowed: [TemplateOperator]) -> TemplateOperator? {
        guard case .symbol(let symbol) = current.kind,
            let found = TemplateOperator(rawValue: symbol), allowed.contains(found)
        else { return nil }
        advance()
        return found
    }

    private mutating func parseSum() throws(TemplateError) -> TemplateExpression {
        var left = try parseConcatenation()
        while let found = takeOperator([.add, .subtract]) {
            let right = try parseConcatenation()
            left = TemplateExpression(kind: .arithmetic(found, left, right), line: left.line)
        }
        return left
    }

    private mutating func parseConcatenation() throws(TemplateError) -> TemplateExpression {
        let first = try parseProduct()
        guard current.kind == .symbol("~") else { return first }
        var parts = [first]
        while skip(.symbol("~")) { parts.append(try parseProduct()) }
        return TemplateExpression(kind: .concatenation(parts), line: first.line)
    }

    private mutating func parseProduct() throws(TemplateError) -> TemplateExpression {
        var left = try parsePower()
        while let found = takeOperator([.multiply, .divide, .floorDivide, .remainder]) {
            let right = try parsePower()
            left = TemplateExpression(kind: .arithmetic(found, left, right), line: left.line)
        }
        return left
    }

    /// As in Jinja2, and other than in Python, `**` groups to the left.
    private mutating func parsePower() throws(TemplateError) -> TemplateExpression {
        var left = try parseUnary()
        while takeOperator([.power]) != nil {
            let right = try parseUnary()
            left = TemplateExpression(kind: .arithmetic(.power, left, right), line: left.line)
        }
        return left
    }

    private mutating func parseUnary(
        allowsFilter: Bool = true
    ) throws(TemplateError) -> TemplateExpression {
        let line = current.line
        var value: TemplateExpression
        if let sign = takeOperator([.add, .subtract]) {
            let operand = try nested { (parser) throws(TemplateError) in
                try parser.parseUnary(allowsFilter: false)
            }
            value = TemplateExpression(
                kind: .sign(operand, isNegative: sign == .subtract), line: line)
        } else {
            value = try parsePrimary()
        }
        value = try parsePostfix(value)
        return allowsFilter ? try parseFiltersAndTests(value) : value
    }
}

// MARK: Primary expressions

extension TemplateParser {
    private mutating func parsePrimary() throws(TemplateError) -> TemplateExpression {
        let token = current
        switch token.kind {
        case .name(let name):
            advance()
            return TemplateExpression(kind: nameOrConstant(name), line: token.line)
        case .string(var text):
            advance()
            while case .string(let next) = current.kind {
                text += next
                advance()
            }
            return TemplateExpression(kind: .literal(.string(text)), line: token.line)
        case .integer(let value):
            advance()
            return TemplateExpression(kind: .literal(.int(value)), line: token.line)
        case .float(let value):
            advance()
            return TemplateExpression(kind: .literal(.double(value)), line: token.line)
        case .symbol("("):
            advance()
            let value = try parseTuple(isParenthesized: true)
            try expect(.symbol(")"))
            return value
        case .symbol("["):
            return try parseList()
        case .symbol("{"):
            return try parseDictionary()
        default:
            throw unexpected("an expression")
        }
    }

    private mutating func nameOrConstant(_ name: String) -> TemplateExpression.Kind {
        switch name {
        case "true", "True": return .literal(.bool(true))
        case "false", "False": return .literal(.bool(false))
        case "none", "None": return .literal(.null)
        default:
            note(name)
            return .name(name)
        }
    }

    private mutating func parseList() throws(TemplateError) -> TemplateExpression {
        let line = advance().line
        var items: [TemplateExpression] = []
        while current.kind != .symbol("]") {
            if !items.isEmpty {
                try expect(.symbol(","))
                if current.kind == .symbol("]") { break }
            }
            items.append(try parseExpression())
        }
        advance()
        return TemplateExpression(kind: .list(items), line: line)
    }

    private mutating func parseDictionary() throws(TemplateError) -> TemplateExpression {
        let line = advance().line
        var pairs: [TemplatePair] = []
        while current.kind != .symbol("}") {
            if !pairs.isEmpty {
                try expect(.symbol(","))
                if current.kind == .symbol("}") { break }
            }
            let key = try parseExpression()
            try expect(.symbol(":"))
            pairs.append(TemplatePair(key: key, value: try parseExpression()))
        }
        advance()
        return TemplateExpression(kind: .dictionary(pairs), line: line)
    }
}

// MARK: Postfixes, filters and tests

extension TemplateParser {
    private mutating func parsePostfix(
        _ value: TemplateExpression
    ) throws(TemplateError) -> TemplateExpression {
        var value = value
        while true {
            let line = current.line
            switch current.kind {
            case .symbol("."):
                advance()
                let kind = try parseAttribute(of: value)
                value = TemplateExpression(kind: kind, line: line)
            case .symbol("["):
                advance()
                let kind = try parseSubscript(of: value)
                value = TemplateExpression(kind: kind, line: line)
            case .symbol("("):
                value = TemplateExpression(
                    kind: .call(value, try parseCallArguments()), line: line)
            default:
                return value
            }
        }
    }

    private mutating func parseAttribute(
        of value: TemplateExpression
    ) throws(TemplateError) -> TemplateExpression.Kind {
        let token = current
        switch token.kind {
        case .name(let name):
            advance()
            return .attribute(value, name)
        case .integer(let index):
            advance()
            return .item(value, TemplateExpression(kind: .literal(.int(index)), line: token.line))
        default:
            throw unexpected("a name or a number after '.'")
        }
    }

    private mutating func parseSubscript(
        of value: TemplateExpression
    ) throws(TemplateError) -> TemplateExpression.Kind {
        let line = current.line
        var indices: [TemplateExpression] = []
        while current.kind != .symbol("]") {
            if !indices.isEmpty { try expect(.symbol(",")) }
            let start = current.kind == .symbol(":") ? nil : try parseExpression()
            if skip(.symbol(":")) {
                let slice = try parseSliceEnd(start: start)
                guard indices.isEmpty, skip(.symbol("]")) else {
                    throw TemplateError(
                        .unsupported, "a slice among several indices is not supported", line: line)
                }
                return .slice(value, slice)
            }
            if let start { indices.append(start) }
        }
        advance()
        guard indices.count == 1 else {
            return .item(value, TemplateExpression(kind: .tuple(indices), line: line))
        }
        return .item(value, indices[0])
    }

    private mutating func parseSliceEnd(
        start: TemplateExpression?
    ) throws(TemplateError) -> TemplateSlice {
        var stop: TemplateExpression?
        var step: TemplateExpression?
        if ![.symbol(":"), .symbol("]"), .symbol(",")].contains(current.kind) {
            stop = try parseExpression()
        }
        if skip(.symbol(":")), ![.symbol("]"), .symbol(",")].contains(current.kind) {
            step = try parseExpression()
        }
        return TemplateSlice(start: start, stop: stop, step: step)
    }

    private mutating func parseCallArguments() throws(TemplateError) -> TemplateCallArguments {
        var arguments = TemplateCallArguments()
        try expect(.symbol("("))
        var isFirst = true
        while current.kind != .symbol(")") {
            if !isFirst {
                try expect(.symbol(","))
                if current.kind == .symbol(")") { break }
            }
            isFirst = false
            try parseCallArgument(&arguments)
        }
        try expect(.symbol(")"))
        return arguments
    }

    private mutating func parseCallArgument(
        _ arguments: inout TemplateCallArguments
    ) throws(TemplateError) {
        let allowsMore = arguments.unpackedNamed == nil
        if skip(.symbol("*")) {
            guard allowsMore, arguments.unpackedPositional == nil else {
                throw unexpected("a single '*' argument before '**'")
            }
            arguments.unpackedPositional = try parseExpression()
        } else if skip(.symbol("**")) {
            guard allowsMore else { throw unexpected("a single '**' argument") }
            arguments.unpackedNamed = try parseExpression()
        } else if case .name(let name) = current.kind, following.kind == .symbol("=") {
            guard allowsMore else { throw unexpected("no argument after '**'") }
            advance()
            advance()
            arguments.named.append((name, try parseExpression()))
        } else {
            guard allowsMore, arguments.unpackedPositional == nil, arguments.named.isEmpty else {
                throw unexpected("no positional argument after named ones")
            }
            arguments.positional.append(try parseExpression())
        }
    }

    private mutating func parseFiltersAndTests(
        _ value: TemplateExpression
    ) throws(TemplateError) -> TemplateExpression {
        var value = value
        while true {
            switch current.kind {
            case .symbol("|"): value = try parseFilters(of: value)
            case .name("is"): value = try parseTest(of: value)
            case .symbol("("):
                let line = current.line
                value = TemplateExpression(
                    kind: .call(value, try parseCallArguments()), line: line)
            default: return value
            }
        }
    }

    /// Parses `|name(arguments)` any number of times; `startsInline` leaves out the first `|`.
    mutating func parseFilters(
        of value: TemplateExpression, startsInline: Bool = false
    ) throws(TemplateError) -> TemplateExpression {
        var value = value
        var isInline = startsInline
        while isInline || skip(.symbol("|")) {
            isInline = false
            let line = current.line
            let name = try parseDottedName()
            let arguments =
                current.kind == .symbol("(") ? try parseCallArguments() : TemplateCallArguments()
            if TemplateFilters.table[name] == nil {
                try report(TemplateFilters.missing(name).located(at: line))
            }
            value = TemplateExpression(kind: .filter(value, name, arguments), line: line)
        }
        return value
    }

    private mutating func parseTest(
        of value: TemplateExpression
    ) throws(TemplateError) -> TemplateExpression {
        let line = advance().line
        let isNegated = skip(.name("not"))
        let name = try parseDottedName()
        var arguments = TemplateCallArguments()
        switch current.kind {
        case .symbol("("):
            arguments = try parseCallArguments()
        case .name("else"), .name("or"), .name("and"):
            break
        case .name("is"):
            throw unexpected("no second test after 'is \(name)'")
        case .name, .string, .integer, .float, .symbol("["), .symbol("{"):
            arguments.positional = [try parsePostfix(try parsePrimary())]
        default:
            break
        }
        if TemplateTests.table[name] == nil {
            try report(TemplateTests.missing(name).located(at: line))
        }
        let test = TemplateExpression(kind: .test(value, name, arguments), line: line)
        return isNegated ? TemplateExpression(kind: .not(test), line: line) : test
    }

    private mutating func report(_ error: TemplateError) throws(TemplateError) {
        if !isSoft { unknownNames.append(error) }
    }

    private mutating func parseDottedName() throws(TemplateError) -> String {
        var name = try expectName()
        while skip(.symbol(".")) { name += "." + (try expectName()) }
        return name
    }
}
