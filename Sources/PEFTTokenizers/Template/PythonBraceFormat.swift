/// Python's `str.format` under Jinja2's sandbox.
struct PythonBraceFormat {
    private let positional: [TemplateValue]
    private let named: TemplateDictionary
    private var nextIndex = 0

    /// Replaces each field `{name.attribute[item]!conversion:spec}` of `format`.
    static func apply(
        _ format: String, positional: [TemplateValue], named: TemplateDictionary
    ) throws(TemplateError) -> String {
        var formatter = PythonBraceFormat(positional: positional, named: named)
        return try formatter.expand(format, depth: 2)
    }

    private init(positional: [TemplateValue], named: TemplateDictionary) {
        self.positional = positional
        self.named = named
    }

    private mutating func expand(_ format: String, depth: Int) throws(TemplateError) -> String {
        guard depth >= 0 else { throw TemplateError(.value, "max string recursion exceeded") }
        var result = String.UnicodeScalarView()
        var rest = Array(format.unicodeScalars)[...]
        while let scalar = rest.popFirst() {
            if scalar == "{" || scalar == "}", rest.first == scalar {
                result.append(scalar)
                rest.removeFirst()
            } else if scalar == "{" {
                let field = try Self.takeField(&rest)
                result.append(contentsOf: try expandField(field, depth: depth).unicodeScalars)
            } else if scalar == "}" {
                throw TemplateError(.value, "single '}' encountered in format string")
            } else {
                result.append(scalar)
            }
        }
        return String(result)
    }

    private static func takeField(
        _ rest: inout ArraySlice<Unicode.Scalar>
    ) throws(TemplateError) -> [Unicode.Scalar] {
        var depth = 1
        var field: [Unicode.Scalar] = []
        while let scalar = rest.popFirst() {
            if scalar == "{" { depth += 1 }
            if scalar == "}" { depth -= 1 }
            if depth == 0 { return field }
            field.append(scalar)
        }
        throw TemplateError(.value, "expected '}' before end of string")
    }

    private mutating func expandField(
        _ field: [Unicode.Scalar], depth: Int
    ) throws(TemplateError) -> String {
        let nameEnd = Self.nameEnd(of: field)
        var value = try lookUp(field[..<nameEnd])
        var rest = field[nameEnd...]
        if rest.first == "!" {
            let conversion = rest.dropFirst().first
            rest = rest.dropFirst(2)
            switch conversion {
            case "s": value = .string(try value.string())
            case "r": value = .string(try value.representation())
            default: throw TemplateError(.value, "unknown conversion in a format field")
            }
        }
        let text = rest.first == ":" ? String(rest.dropFirst()) : ""
        let spec = try expand(text, depth: depth - 1)
        if spec.isEmpty { return try value.string() }
        let parsed = try PythonFormatSpec(parsing: spec)
        if let text = value.text, parsed.fitsText { return parsed.format(text) }
        if let number = value.integer {
            if parsed.fitsInteger { return try parsed.format(number) }
            if parsed.type != nil, parsed.fitsDouble { return try parsed.format(Double(number)) }
        }
        if case .double(let number) = value, parsed.fitsDouble { return try parsed.format(number) }
        throw TemplateError(.type, "unsupported format string '\(spec)' for \(value.typeName)")
    }

    private static func nameEnd(of field: [Unicode.Scalar]) -> Int {
        var isInBrackets = false
        for (index, scalar) in field.enumerated() {
            if scalar == "[" { isInBrackets = true }
            if scalar == "]" { isInBrackets = false }
            if !isInBrackets, scalar == ":" || scalar == "!" { return index }
        }
        return field.count
    }

    private mutating func lookUp(
        _ path: ArraySlice<Unicode.Scalar>
    ) throws(TemplateError) -> TemplateValue {
        let first = String(path.prefix { $0 != "." && $0 != "[" })
        var rest = path.dropFirst(first.unicodeScalars.count)
        var value: TemplateValue
        if first.isEmpty || first.allSatisfy(\.isNumber) {
            let index = Int(first) ?? nextIndex
            if first.isEmpty { nextIndex += 1 }
            guard index < positional.count else {
                throw TemplateError(
                    .value, "replacement index \(index) out of range for positional arguments")
            }
            value = positional[index]
        } else {
            guard let found = named[first] else {
                throw TemplateError(.value, "the format's name '\(first)' has no argument")
            }
            value = found
        }
        while let mark = rest.popFirst() {
            if mark == "." {
                let name = String(rest.prefix { $0 != "." && $0 != "[" })
                rest = rest.dropFirst(name.unicodeScalars.count)
                value = try value.attribute(name)
            } else {
                let key = String(rest.prefix { $0 != "]" })
                rest = rest.dropFirst(key.unicodeScalars.count + 1)
                value = try value.item(Int(key).map { .int($0) } ?? .string(key))
            }
        }
        return value
    }
}
