/// The filters that `|` knows; a new filter is a line in the table.
///
/// - Source: jinja2 3.1.6 `filters.py`, with transformers' own `tojson`.
enum TemplateFilters {
    /// The filters by name.
    static let table: [String: TemplateFilter] = [
        "abs": TemplateFilter(absoluteValue),
        "attr": TemplateFilter(["name"], attribute),
        "batch": TemplateFilter(["linecount", "fill_with?"], batch),
        "capitalize": TemplateFilter(textFilter { $0.pythonCapitalized }),
        "center": TemplateFilter(["width?"], center),
        "count": TemplateFilter(length),
        "d": TemplateFilter(["default_value?", "boolean?"], defaultValue),
        "default": TemplateFilter(["default_value?", "boolean?"], defaultValue),
        "dictsort": TemplateFilter(["case_sensitive?", "by?", "reverse?"], sortDictionary),
        "e": TemplateFilter(escape),
        "escape": TemplateFilter(escape),
        "first": TemplateFilter(first),
        "float": TemplateFilter(["default?"], double),
        "forceescape": TemplateFilter(forceEscape),
        "format": TemplateFilter(free: format),
        "groupby": TemplateFilter(["attribute", "default?", "case_sensitive?"], group),
        "indent": TemplateFilter(["width?", "first?", "blank?"], indent),
        "int": TemplateFilter(["default?", "base?"], integer),
        "items": TemplateFilter(items),
        "join": TemplateFilter(["d?", "attribute?"], join),
        "last": TemplateFilter(last),
        "length": TemplateFilter(length),
        "list": TemplateFilter(list),
        "lower": TemplateFilter(textFilter { $0.pythonLowercased }),
        "map": TemplateFilter(free: map),
        "max": TemplateFilter(["case_sensitive?", "attribute?"], maximum),
        "min": TemplateFilter(["case_sensitive?", "attribute?"], minimum),
        "reject": TemplateFilter(free: reject),
        "rejectattr": TemplateFilter(free: rejectAttribute),
        "replace": TemplateFilter(["old", "new", "count?"], replace),
        "reverse": TemplateFilter(reverse),
        "round": TemplateFilter(["precision?", "method?"], round),
        "safe": TemplateFilter(markSafe),
        "select": TemplateFilter(free: select),
        "selectattr": TemplateFilter(free: selectAttribute),
        "slice": TemplateFilter(["slices", "fill_with?"], slice),
        "sort": TemplateFilter(["reverse?", "case_sensitive?", "attribute?"], sort),
        "string": TemplateFilter(textFilter { $0 }),
        "sum": TemplateFilter(["attribute?", "start?"], sum),
        "title": TemplateFilter(title),
        "tojson": TemplateFilter(
            ["ensure_ascii?", "indent?", "separators?", "sort_keys?"], toJSON),
        "trim": TemplateFilter(["chars?"], trim),
        "truncate": TemplateFilter(["length?", "killwords?", "end?", "leeway?"], truncate),
        "unique": TemplateFilter(["case_sensitive?", "attribute?"], unique),
        "upper": TemplateFilter(textFilter { $0.pythonUppercased }),
        "urlencode": TemplateFilter(encodeURL),
        "wordcount": TemplateFilter(countWords),
    ]

    /// Filters of Jinja2 that are not in the table.
    private static let unsupported: Set<String> = [
        "filesizeformat", "pprint", "random", "striptags", "urlize", "wordwrap", "xmlattr",
    ]

    /// The error that there is no filter of that name.
    static func missing(_ name: String) -> TemplateError {
        unsupported.contains(name)
            ? TemplateError(.unsupported, "the filter '\(name)' is not supported")
            : TemplateError(
                .syntax, "expected the name of a filter, found '\(name)', which is unknown")
    }
}

// MARK: Any value

extension TemplateFilters {
    /// `default(default_value, boolean)`.
    static func defaultValue(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let applies = value.isUndefined || (arguments.flag(1) && !value.isTrue)
        return applies ? arguments[0] ?? .string("") : value
    }

    /// `attr(name)`: the attribute only, never an element.
    static func attribute(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let name = try arguments.text(0)
        if case .dictionary = value { return try TemplateValue.dictionary(.init()).attribute(name) }
        return try value.attribute(name)
    }

    /// `tojson(ensure_ascii, indent, separators, sort_keys)`: Python's `json.dumps`.
    static func toJSON(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        var format = JSONFormat(ensuresASCII: arguments.flag(0), sortsKeys: arguments.flag(3))
        if let indent = arguments.optional(1) {
            if let text = indent.text {
                format.indent = text
            } else {
                format.indent = String(repeating: " ", count: try arguments.length(1))
            }
        }
        if let separators = arguments.optional(2) {
            let texts = try separators.elements().compactMap(\.text)
            guard texts.count == 2 else {
                throw TemplateError(.type, "tojson(): expected two strings for 'separators'")
            }
            (format.itemSeparator, format.keySeparator) = (texts[0], texts[1])
        }
        return .string(try value.json().serialized(format))
    }

    // MARK: Numbers

    /// `abs`.
    static func absoluteValue(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        if let number = value.integer {
            return number < 0 ? try value.signed(isNegative: true) : .int(number)
        }
        guard case .double(let number) = value else {
            throw TemplateError(.type, "bad operand type for abs(): '\(value.typeName)'")
        }
        return .double(number.magnitude)
    }

    /// `int(default, base)`.
    static func integer(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let defaultValue = arguments[0] ?? .int(0)
        switch value {
        case .undefined(let undefined): throw undefined.error
        case .bool, .int: return .int(value.integer ?? 0)
        case .double(let number):
            return number.isNaN ? defaultValue : .int(try PythonNumber.integer(number))
        case .string(let text), .markup(let text):
            // Python tries the number as a float where the base is none.
            let base = arguments[1] == nil ? 10 : arguments[1]?.integer ?? 1
            if let number = try PythonNumber.integer(text, base: base) { return .int(number) }
            guard let number = PythonNumber.double(text), number.isFinite else {
                return defaultValue
            }
            return .int(try PythonNumber.integer(number))
        default: return defaultValue
        }
    }

    /// `float(default)`.
    static func double(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        if case .undefined(let undefined) = value { throw undefined.error }
        let number = value.number ?? value.text.flatMap { PythonNumber.double($0) }
        return number.map { .double($0) } ?? arguments[0] ?? .double(0)
    }

    /// `round(precision, method)`.
    static func round(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let method = arguments[1]?.text ?? (arguments[1] == nil ? "common" : "")
        guard ["common", "ceil", "floor"].contains(method) else {
            throw TemplateError(.value, "method must be common, ceil or floor")
        }
        if method == "common" {
            let digits = arguments.optional(0) == nil ? 0 : try arguments.int(0)
            let roundsToInteger = arguments[0]?.isNone ?? false
            if let number = value.integer {
                return .int(PythonNumber.rounded(number, digits: digits))
            }
            guard case .double(let number) = value else {
                throw TemplateError(.type, "type \(value.typeName) cannot be rounded")
            }
            let rounded = PythonNumber.rounded(number, digits: digits)
            return roundsToInteger ? .int(try PythonNumber.integer(rounded)) : .double(rounded)
        }
        let scale = try TemplateValue.int(10).apply(.power, arguments[0] ?? .int(0))
        let scaled = try value.apply(.multiply, scale)
        guard let number = scaled.number else {
            throw TemplateError(.type, "type \(value.typeName) cannot be rounded")
        }
        let whole = try PythonNumber.integer(number.rounded(method == "ceil" ? .up : .down))
        return try TemplateValue.int(whole).apply(.divide, scale)
    }
}

extension TemplateValue {
    /// The value as `json.dumps` sees it.
    func json() throws(TemplateError) -> JSONValue {
        switch self {
        case .null: return .null
        case .bool(let value): return .bool(value)
        case .int(let value): return .int(value)
        case .double(let value): return .double(value)
        case .string(let text), .markup(let text): return .string(text)
        case .list, .tuple:
            var elements: [JSONValue] = []
            for item in storedItems ?? [] { elements.append(try item.json()) }
            return .array(elements)
        case .dictionary(let dictionary):
            var object = JSONObject()
            for (key, value) in zip(dictionary.keys, dictionary.values) {
                object[try key.jsonKey()] = try value.json()
            }
            return .object(object)
        default:
            throw TemplateError(
                .type, "Object of type \(typeName) is not JSON serializable")
        }
    }

    private func jsonKey() throws(TemplateError) -> String {
        switch self {
        case .string(let text), .markup(let text): text
        case .null, .bool, .int, .double: try json().serialized()
        default:
            throw TemplateError(
                .type, "keys must be str, int, float, bool or None, not \(typeName)")
        }
    }
}
