/// Python's `format % values`.
enum PythonPercentFormat {
    /// Replaces each directive of `format` by the next value, or by the value under its name.
    ///
    /// - Parameters:
    ///   - format: text with `%s`, `%5.2f`, `%(name)d`, ...
    ///   - values: a tuple, a dictionary, or a single value.
    ///   - escapes: whether strings are escaped for HTML.
    /// - Returns: the text.
    /// - Throws: `TemplateError` for directives that do not fit the values.
    static func apply(
        _ format: String, _ values: TemplateValue, escapes: Bool = false
    ) throws(TemplateError) -> String {
        var arguments: [TemplateValue] = [values]
        if case .tuple(let tuple) = values { arguments = tuple.items }
        var position = 0
        var usesNames = false
        func next() throws(TemplateError) -> TemplateValue {
            guard position < arguments.count else {
                throw TemplateError(.type, "not enough arguments for format string")
            }
            position += 1
            return arguments[position - 1]
        }
        var result = String.UnicodeScalarView()
        var rest = Array(format.unicodeScalars)[...]
        while let scalar = rest.popFirst() {
            guard scalar == "%" else {
                result.append(scalar)
                continue
            }
            if rest.first == "%" {
                result.append("%")
                rest.removeFirst()
                continue
            }
            var named: TemplateValue?
            if rest.first == "(" {
                named = try namedValue(takeName(&rest), in: values)
                usesNames = true
            }
            var spec = PythonFormatSpec()
            try takeFlags(&rest, &spec, next)
            guard let type = rest.popFirst() else {
                throw TemplateError(.value, "incomplete format '\(format)'")
            }
            spec.type = type
            let value: TemplateValue
            if let named { value = named } else { value = try next() }
            let text = try apply(spec, value, escapes)
            result.append(contentsOf: text.unicodeScalars)
        }
        if position < arguments.count, !usesNames, !isMapping(values) {
            throw TemplateError(.type, "not all arguments converted during string formatting")
        }
        return String(result)
    }

    /// Whether Python does not complain about a value that the format ignores.
    private static func isMapping(_ value: TemplateValue) -> Bool {
        switch value {
        case .dictionary, .list, .range, .undefined: true
        default: false
        }
    }

    private static func takeName(_ rest: inout ArraySlice<Unicode.Scalar>) -> String {
        var depth = 0
        var name = String.UnicodeScalarView()
        while let scalar = rest.popFirst() {
            if scalar == ")" { depth -= 1 }
            if depth == 0, scalar == ")" { break }
            if depth > 0 { name.append(scalar) }
            if scalar == "(" { depth += 1 }
        }
        return String(name)
    }

    private static func namedValue(
        _ name: String, in values: TemplateValue
    ) throws(TemplateError) -> TemplateValue {
        guard case .dictionary(let dictionary) = values else {
            throw TemplateError(.type, "format requires a mapping, found \(values.typeName)")
        }
        guard let value = dictionary[name] else {
            throw TemplateError(.value, "the format's name '\(name)' is not in the dictionary")
        }
        return value
    }

    private static func takeFlags(
        _ rest: inout ArraySlice<Unicode.Scalar>, _ spec: inout PythonFormatSpec,
        _ next: () throws(TemplateError) -> TemplateValue
    ) throws(TemplateError) {
        flags: while let flag = rest.first {
            switch flag {
            case "-": spec.alignment = "<"
            case "+": spec.sign = "+"
            case " ": if spec.sign != "+" { spec.sign = " " }
            case "#": spec.isAlternate = true
            case "0": spec.fill = "0"
            default: break flags
            }
            rest.removeFirst()
        }
        if spec.alignment == "<" { spec.fill = " " }
        if let width = try takeNumber(&rest, next) {
            spec.width = abs(width)
            if width < 0 { (spec.alignment, spec.fill) = ("<", " ") }
        }
        if rest.first == "." {
            rest.removeFirst()
            spec.precision = max(0, try takeNumber(&rest, next) ?? 0)
        }
        while let mark = rest.first, ["h", "l", "L"].contains(mark) { rest.removeFirst() }
    }

    private static func takeNumber(
        _ rest: inout ArraySlice<Unicode.Scalar>,
        _ next: () throws(TemplateError) -> TemplateValue
    ) throws(TemplateError) -> Int? {
        if rest.first == "*" {
            rest.removeFirst()
            let value = try next()
            guard let width = value.integer, (-(1 << 20)...1 << 20).contains(width) else {
                throw TemplateError(.type, "expected an integer for '*', found \(value.typeName)")
            }
            return width
        }
        let digits = rest.prefix { $0.isPythonDigit }
        rest = rest.dropFirst(digits.count)
        guard let value = Int(String(digits)) else { return nil }
        guard value <= 1 << 20 else {
            throw TemplateError(.value, "the format width \(value) is too large")
        }
        return value
    }

    private static func apply(
        _ spec: PythonFormatSpec, _ value: TemplateValue, _ escapes: Bool
    ) throws(TemplateError) -> String {
        var spec = spec
        let type = spec.type ?? "s"
        switch type {
        case "s", "r", "a":
            var text = type == "s" ? try value.string() : try value.representation()
            if escapes, type == "s" { text = try value.escaped() }
            if type == "a" {
                text = text.unicodeScalars.reduce(into: "") {
                    $0 += $1.isASCII ? String($1) : $1.pythonEscape
                }
            }
            (spec.fill, spec.alignment) = (" ", spec.alignment ?? ">")
            return spec.format(text)
        case "d", "i", "u", "x", "X", "o":
            if spec.fill == "0" { spec.alignment = "=" }
            if let number = value.integer { return try spec.format(number) }
            guard case .double(let number) = value, ["d", "i", "u"].contains(type) else { break }
            return try spec.format(try PythonNumber.integer(number))
        case "c":
            spec.fill = " "
            spec.alignment = spec.alignment ?? ">"
            if let number = value.integer { return try spec.format(number) }
            guard let text = value.text, text.unicodeScalars.count == 1 else { break }
            return spec.format(text)
        case "e", "E", "f", "F", "g", "G":
            if spec.fill == "0" { spec.alignment = "=" }
            if let number = value.number { return try spec.format(number) }
        default:
            throw TemplateError(.value, "unsupported format character '\(type)'")
        }
        if case .undefined(let undefined) = value { throw undefined.error }
        throw TemplateError(.type, "%\(type) format: a number is required, not \(value.typeName)")
    }
}
