import Foundation

extension TemplateFilters {
    /// A filter that turns its value into text and changes that; marked text stays marked.
    static func textFilter(
        _ transform: @escaping @Sendable (String) -> String
    ) -> TemplateFilter.Body {
        { (value, _, _) throws(TemplateError) in
            marked(transform(try value.string()), like: value)
        }
    }

    /// `title`.
    static func title(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        .string(try value.string().jinjaTitlecased)
    }

    /// `trim(chars)`.
    static func trim(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let characters = arguments.optional(0) == nil ? nil : try arguments.text(0)
        return marked(try value.string().pythonStripped(characters), like: value)
    }

    /// `replace(old, new, count)`.
    static func replace(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let old = try arguments[0]?.string() ?? ""
        let new = try arguments[1]?.string() ?? ""
        let count = arguments.optional(2) == nil ? nil : try arguments.int(2)
        return .string(try value.string().pythonReplacing(old, with: new, count: count))
    }

    /// `center(width)`.
    static func center(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let width = try arguments.int(0, default: 80)
        return marked(try value.string().pythonCentered(width, " "), like: value)
    }

    /// `indent(width, first, blank)`.
    static func indent(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        if case .undefined(let undefined) = value { throw undefined.error }
        guard let text = value.text else {
            throw TemplateError(
                .type, "unsupported operand types for +: '\(value.typeName)' and 'str'")
        }
        var indent = arguments[0]?.text
        if indent == nil {
            indent = String(repeating: " ", count: try arguments.length(0, default: 4))
        }
        return marked(
            Self.indented(text, indent ?? "", first: arguments.flag(1), blank: arguments.flag(2)),
            like: value)
    }

    private static func indented(
        _ text: String, _ indent: String, first: Bool, blank: Bool
    ) -> String {
        var result = first ? indent : ""
        for (index, line) in (text + "\n").pythonLines().enumerated() {
            if index > 0 {
                result += "\n"
                if blank || !line.isEmpty { result += indent }
            }
            result += line
        }
        return result
    }

    /// Text that is marked as safe if `value` is.
    private static func marked(_ text: String, like value: TemplateValue) -> TemplateValue {
        if case .markup = value { .markup(text) } else { .string(text) }
    }

    /// `truncate(length, killwords, end, leeway)`.
    static func truncate(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let length = try arguments.int(0, default: 255)
        let end = arguments[2] == nil ? "..." : try arguments.text(2)
        let leeway = arguments.optional(3) == nil ? 5 : try arguments.int(3)
        let numEnd = end.unicodeScalars.count
        guard length >= numEnd, leeway >= 0 else {
            throw TemplateError(
                .value, "truncate(): expected length >= \(numEnd) and leeway >= 0")
        }
        guard let count = try value.length() else {
            throw TemplateError(.type, "object of type '\(value.typeName)' has no len()")
        }
        if count <= length + leeway { return value }
        guard let text = value.text else {
            throw TemplateError(.type, "truncate(): expected a string, found \(value.typeName)")
        }
        let cut = String(text.unicodeScalars.prefix(length - numEnd))
        if arguments.flag(1) { return .string(cut + end) }
        return .string((cut.pythonReverseSplit(" ", maxSplit: 1).first ?? cut) + end)
    }

    /// `wordcount`.
    static func countWords(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        .int(try value.string().numPythonWords)
    }

    /// `escape`.
    static func escape(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        .markup(try value.escaped())
    }

    /// `forceescape`: escapes marked text again.
    static func forceEscape(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        .markup(try value.string().htmlEscaped)
    }

    /// `safe`.
    static func markSafe(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        .markup(try value.string())
    }

    /// `format(...)`: the `%` operator.
    static func format(
        _ value: TemplateValue, _ arguments: TemplateArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        guard arguments.positional.isEmpty || arguments.named.isEmpty else {
            throw TemplateError(
                .type, "can't handle positional and keyword arguments at the same time")
        }
        var operand = TemplateValue.tuple(arguments.positional)
        if !arguments.named.isEmpty {
            var dictionary = TemplateDictionary()
            for (name, value) in arguments.named { dictionary.set(name, value) }
            operand = .dictionary(dictionary)
        }
        let format = value.text == nil ? TemplateValue.string(try value.string()) : value
        return try format.apply(.remainder, operand)
    }

    /// `urlencode`: percent escapes; pairs become a query.
    static func encodeURL(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let pairs: [TemplateValue]
        switch value {
        case .dictionary(let dictionary): pairs = dictionary.pairs
        case .list, .tuple, .view, .iterator, .undefined, .range: pairs = try value.elements()
        default: return .string(try value.string().percentEncoded(isQuery: false))
        }
        var parts: [String] = []
        for pair in pairs {
            let items = try pair.elements()
            guard items.count == 2 else {
                throw TemplateError(
                    .value, "urlencode(): expected pairs, found \(items.count) items")
            }
            let key = try items[0].string().percentEncoded(isQuery: true)
            let value = try items[1].string().percentEncoded(isQuery: true)
            parts.append(key + "=" + value)
        }
        return .string(parts.joined(separator: "&"))
    }
}

extension String {
    /// The text with everything but unreserved characters as percent escapes.
    fileprivate func percentEncoded(isQuery: Bool) -> String {
        var result = ""
        for byte in utf8 {
            let scalar = Unicode.Scalar(byte)
            if scalar.isASCII,
                scalar.isWordPart || "-.~".unicodeScalars.contains(scalar)
                    || (scalar == "/" && !isQuery)
            {
                result.unicodeScalars.append(scalar)
            } else if scalar == " ", isQuery {
                result += "+"
            } else {
                result += String(format: "%%%02X", Int(byte))
            }
        }
        return result
    }

    /// `str.center`.
    func pythonCentered(_ width: Int, _ fill: Unicode.Scalar) -> String {
        let missing = width - unicodeScalars.count
        guard missing > 0 else { return self }
        // CPython puts the odd one to the left only if the width is odd.
        let left = missing / 2 + (missing & width & 1)
        return String(repeating: String(fill), count: left) + self
            + String(repeating: String(fill), count: missing - left)
    }
}
