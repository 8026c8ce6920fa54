extension TemplateValue {
    /// Python's `str`: what printing shows.
    func string() throws(TemplateError) -> String {
        switch self {
        case .string(let text), .markup(let text): text
        case .undefined: ""
        default: try representation()
        }
    }

    /// Python's `repr`: how a value looks inside a printed list.
    func representation() throws(TemplateError) -> String {
        switch self {
        case .undefined: return "Undefined"
        case .null: return "None"
        case .bool(let value): return value ? "True" : "False"
        case .int(let value): return String(value)
        case .double(let value): return value.pythonRepresentation
        case .string(let text): return text.pythonRepresentation
        case .markup(let text): return "Markup(" + text.pythonRepresentation + ")"
        case .list(let items): return "[" + (try Self.join(items)) + "]"
        case .tuple(let tuple):
            return "(" + (try Self.join(tuple.items)) + (tuple.items.count == 1 ? ",)" : ")")
        case .dictionary(let dictionary): return try dictionary.representation()
        case .range(let range):
            let step = range.step == 1 ? "" : ", \(range.step)"
            return "range(\(range.start), \(range.stop)\(step))"
        case .view(let view):
            return view.kind.rawValue + "([" + (try Self.join(view.items)) + "])"
        case .object(let object):
            if let text = try object.representation { return text }
        case .iterator, .method: break
        }
        throw TemplateError(
            .unsupported,
            "printing a \(typeName) shows an address in Python; call it or convert it with |list")
    }

    private static func join(_ items: [TemplateValue]) throws(TemplateError) -> String {
        var text = ""
        for (index, item) in items.enumerated() {
            if index > 0 { text += ", " }
            text += try item.representation()
        }
        return text
    }

    /// The type in words, as Jinja2 names it in messages about missing attributes.
    var typeDescription: String {
        switch self {
        case .null: "None"
        case .markup: "markupsafe.Markup object"
        default: typeName + " object"
        }
    }

    /// Markup with `&`, `<`, `>` and quotes escaped, unless the value is markup already.
    func escaped() throws(TemplateError) -> String {
        if case .markup(let text) = self { return text }
        return try string().htmlEscaped
    }
}

extension TemplateDictionary {
    /// Python's `repr`.
    func representation() throws(TemplateError) -> String {
        var text = "{"
        for (index, key) in keys.enumerated() {
            if index > 0 { text += ", " }
            text += try key.representation()
            text += ": "
            text += try values[index].representation()
        }
        return text + "}"
    }
}

extension String {
    /// Python's `repr`: quoted, and everything that is not printable escaped.
    var pythonRepresentation: String {
        let usesDoubleQuotes = utf8.contains(0x27) && !utf8.contains(0x22)
        let quote: Unicode.Scalar = usesDoubleQuotes ? "\"" : "'"
        var result = String(quote)
        for scalar in unicodeScalars {
            switch scalar {
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            case quote: result += "\\" + String(quote)
            case _ where scalar.isPythonPrintable: result.unicodeScalars.append(scalar)
            default: result += scalar.pythonEscape
            }
        }
        result.unicodeScalars.append(quote)
        return result
    }

    /// The text with the five special characters of HTML escaped, as markupsafe does.
    var htmlEscaped: String {
        var result = ""
        for scalar in unicodeScalars {
            switch scalar {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "'": result += "&#39;"
            case "\"": result += "&#34;"
            default: result.unicodeScalars.append(scalar)
            }
        }
        return result
    }
}
