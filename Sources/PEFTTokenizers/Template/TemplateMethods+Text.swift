extension TemplateMethods {
    /// The methods of str.
    static let text: [String: TemplateMethod] = [
        "capitalize": transform("capitalize") { $0.pythonCapitalized },
        "casefold": transform("casefold") { $0.pythonCaseFolded },
        "lower": transform("lower") { $0.pythonLowercased },
        "swapcase": transform("swapcase") { $0.pythonCaseSwapped },
        "title": transform("title") { $0.pythonTitlecased },
        "upper": transform("upper") { $0.pythonUppercased },

        "strip": strip("strip", leading: true, trailing: true),
        "lstrip": strip("lstrip", leading: true, trailing: false),
        "rstrip": strip("rstrip", leading: false, trailing: true),
        "removeprefix": method("removeprefix", ["/prefix"]) {
            (text, arguments) throws(TemplateError) in
            let prefix = try arguments.text(0).unicodeScalars
            let has = text.unicodeScalars.starts(with: prefix)
            return .string(has ? String(text.unicodeScalars.dropFirst(prefix.count)) : text)
        },
        "removesuffix": method("removesuffix", ["/suffix"]) {
            (text, arguments) throws(TemplateError) in
            let suffix = try arguments.text(0).unicodeScalars
            let has = text.unicodeScalars.reversed().starts(with: suffix.reversed())
            return .string(has ? String(text.unicodeScalars.dropLast(suffix.count)) : text)
        },
        "center": pad("center") { $0.pythonCentered($1, $2) },
        "ljust": pad("ljust") { text, width, fill in
            text + String(repeating: String(fill), count: max(0, width - text.unicodeScalars.count))
        },
        "rjust": pad("rjust") { text, width, fill in
            String(repeating: String(fill), count: max(0, width - text.unicodeScalars.count)) + text
        },
        "zfill": method("zfill", ["/width"]) { (text, arguments) throws(TemplateError) in
            let missing = max(0, try arguments.length(0) - text.unicodeScalars.count)
            let zeros = String(repeating: "0", count: missing)
            guard let first = text.unicodeScalars.first, first == "+" || first == "-" else {
                return .string(zeros + text)
            }
            return .string(String(first) + zeros + String(text.unicodeScalars.dropFirst()))
        },
        "expandtabs": method("expandtabs", ["tabsize?"]) {
            (text, arguments) throws(TemplateError) in
            .string(text.pythonTabsExpanded(try arguments.length(0, default: 8)))
        },
        "replace": method("replace", ["/old", "/new", "/count?"]) {
            (text, arguments) throws(TemplateError) in
            let count = arguments[2] == nil ? nil : try arguments.int(2)
            return .string(
                text.pythonReplacing(
                    try arguments.text(0), with: try arguments.text(1), count: count))
        },

        "split": split("split") { text, separator, limit in
            separator.map { text.pythonSplit($0, maxSplit: limit) }
                ?? text.pythonSplitAtSpace(maxSplit: limit)
        },
        "rsplit": split("rsplit") { text, separator, limit in
            separator.map { text.pythonReverseSplit($0, maxSplit: limit) }
                ?? text.pythonReverseSplitAtSpace(maxSplit: limit)
        },
        "splitlines": method("splitlines", ["keepends?"]) {
            (text, arguments) throws(TemplateError) in
            .strings(text.pythonLines(keepsEnds: try arguments.int(0, default: 0) != 0))
        },
        "partition": partition("partition", fromEnd: false),
        "rpartition": partition("rpartition", fromEnd: true),
        "join": method("join", ["/iterable"]) { (text, arguments) throws(TemplateError) in
            .string(try join(try (arguments[0] ?? .null).elements(), separator: text))
        },

        "count": method("count", ["/sub", "/start?", "/end?"]) {
            (text, arguments) throws(TemplateError) in
            try count(in: text, arguments)
        },
        "find": search("find", fromEnd: false, isStrict: false),
        "rfind": search("rfind", fromEnd: true, isStrict: false),
        "index": search("index", fromEnd: false, isStrict: true),
        "rindex": search("rindex", fromEnd: true, isStrict: true),
        "startswith": affix("startswith") { $0.starts(with: $1) },
        "endswith": affix("endswith") { $0.reversed().starts(with: $1.reversed()) },

        "isalnum": all("isalnum") { $0.isPythonAlphanumeric },
        "isalpha": all("isalpha") { $0.isPythonAlphabetic },
        "isdecimal": all("isdecimal") { $0.properties.numericType == .decimal },
        "isdigit": all("isdigit") {
            $0.properties.numericType == .decimal || $0.properties.numericType == .digit
        },
        "isnumeric": all("isnumeric") { $0.properties.numericType != nil },
        "isspace": all("isspace") { $0.isPythonSpace },
        "isascii": method("isascii") { text, _ in .bool(text.utf8.allSatisfy { $0 < 0x80 }) },
        "isprintable": method("isprintable") { text, _ in
            .bool(text.unicodeScalars.allSatisfy(\.isPythonPrintable))
        },
        "isidentifier": method("isidentifier") { text, _ in
            let scalars = text.unicodeScalars
            guard let first = scalars.first else { return .bool(false) }
            let startsWell = first == "_" || first.properties.isXIDStart
            return .bool(startsWell && scalars.dropFirst().allSatisfy(\.properties.isXIDContinue))
        },
        "islower": method("islower") { text, _ in .bool(text.isPythonCased(upper: false)) },
        "isupper": method("isupper") { text, _ in .bool(text.isPythonCased(upper: true)) },
        "istitle": method("istitle") { text, _ in .bool(text.isPythonTitle) },

        "format": TemplateMethod(free: { (value, arguments) throws(TemplateError) in
            var named = TemplateDictionary()
            for (name, value) in arguments.named { named.set(name, value) }
            return .string(
                try PythonBraceFormat.apply(
                    try value.string(), positional: arguments.positional, named: named))
        }),
        "format_map": method("format_map", ["/mapping"]) {
            (text, arguments) throws(TemplateError) in
            guard case .dictionary(let named) = arguments[0] else {
                throw TemplateError(.type, "format_map(): expected a dictionary")
            }
            return .string(try PythonBraceFormat.apply(text, positional: [], named: named))
        },
    ]
}

// MARK: Families of methods

extension TemplateMethods {
    private static func method(
        _ name: String, _ parameters: [String] = [],
        _ body:
            @escaping @Sendable (String, TemplateBoundArguments) throws(TemplateError)
            -> TemplateValue
    ) -> TemplateMethod {
        TemplateMethod(name, parameters) { (value, arguments) throws(TemplateError) in
            try body(value.text ?? "", arguments)
        }
    }

    private static func transform(
        _ name: String, _ body: @escaping @Sendable (String) -> String
    ) -> TemplateMethod {
        method(name) { text, _ in .string(body(text)) }
    }

    private static func all(
        _ name: String, _ holds: @escaping @Sendable (Unicode.Scalar) -> Bool
    ) -> TemplateMethod {
        method(name) { text, _ in
            .bool(!text.isEmpty && text.unicodeScalars.allSatisfy(holds))
        }
    }

    private static func strip(_ name: String, leading: Bool, trailing: Bool) -> TemplateMethod {
        method(name, ["/chars?"]) { (text, arguments) throws(TemplateError) in
            let characters = arguments.optional(0) == nil ? nil : try arguments.text(0)
            return .string(
                text.pythonStripped(characters, leading: leading, trailing: trailing))
        }
    }

    private static func pad(
        _ name: String, _ body: @escaping @Sendable (String, Int, Unicode.Scalar) -> String
    ) -> TemplateMethod {
        method(name, ["/width", "/fillchar?"]) { (text, arguments) throws(TemplateError) in
            let fill = arguments[1] == nil ? " " : try arguments.text(1)
            guard let scalar = fill.unicodeScalars.first, fill.unicodeScalars.count == 1 else {
                throw TemplateError(
                    .type, "\(name)(): the fill character must be exactly one character long")
            }
            return .string(body(text, try arguments.length(0), scalar))
        }
    }

    private static func split(
        _ name: String, _ body: @escaping @Sendable (String, String?, Int) -> [String]
    ) -> TemplateMethod {
        method(name, ["sep?", "maxsplit?"]) { (text, arguments) throws(TemplateError) in
            let separator = arguments.optional(0) == nil ? nil : try arguments.text(0)
            if separator?.isEmpty == true { throw TemplateError(.value, "empty separator") }
            return .strings(body(text, separator, try arguments.int(1, default: -1)))
        }
    }

    private static func partition(_ name: String, fromEnd: Bool) -> TemplateMethod {
        method(name, ["/sep"]) { (text, arguments) throws(TemplateError) in
            let separator = try arguments.text(0)
            if separator.isEmpty { throw TemplateError(.value, "empty separator") }
            let search = PythonSearch(text)
            let found =
                fromEnd
                ? search.lastIndex(of: separator, before: search.count)
                : search.firstIndex(of: separator)
            guard let found else {
                let parts = fromEnd ? ["", "", text] : [text, "", ""]
                return .tuple(parts.map { .string($0) })
            }
            let end = found + separator.utf8.count
            return .tuple([
                .string(search.text(0..<found)), .string(separator),
                .string(search.text(end..<search.count)),
            ])
        }
    }

    private static func join(
        _ items: [TemplateValue], separator: String
    ) throws(TemplateError) -> String {
        var texts: [String] = []
        for (index, item) in items.enumerated() {
            guard let text = item.text else {
                throw TemplateError(
                    .type,
                    "sequence item \(index): expected str instance, \(item.typeName) found")
            }
            texts.append(text)
        }
        return texts.joined(separator: separator)
    }

    /// The part of `text` that the second and third argument name, and where it starts.
    private static func window(
        _ text: String, _ arguments: TemplateBoundArguments
    ) throws(TemplateError) -> (text: String, start: Int)? {
        if arguments.optional(1) == nil, arguments.optional(2) == nil { return (text, 0) }
        let scalars = Array(text.unicodeScalars)
        // Behind the end not even an empty text is found.
        if arguments.optional(1) != nil, try arguments.int(1) > scalars.count { return nil }
        let bounds = try searchBounds(arguments, count: scalars.count)
        let end = arguments.optional(2) == nil ? scalars.count : try arguments.int(2)
        if (end < 0 ? end + scalars.count : end) < bounds.lowerBound { return nil }
        return (String(scalars[bounds]), bounds.lowerBound)
    }

    private static func search(
        _ name: String, fromEnd: Bool, isStrict: Bool
    ) -> TemplateMethod {
        method(name, ["/sub", "/start?", "/end?"]) { (text, arguments) throws(TemplateError) in
            let part = try arguments.text(0)
            if let window = try window(text, arguments) {
                let search = PythonSearch(window.text)
                let found =
                    fromEnd
                    ? search.lastIndex(of: part, before: search.count)
                    : search.firstIndex(of: part)
                if let found { return .int(window.start + search.numScalars(before: found)) }
            }
            if isStrict { throw TemplateError(.value, "substring not found") }
            return .int(-1)
        }
    }

    private static func count(
        in text: String, _ arguments: TemplateBoundArguments
    ) throws(TemplateError) -> TemplateValue {
        let part = try arguments.text(0)
        guard let window = try window(text, arguments) else { return .int(0) }
        if part.isEmpty { return .int(window.text.unicodeScalars.count + 1) }
        return .int(window.text.pythonSplit(part).count - 1)
    }

    private static func affix(
        _ name: String,
        _ holds: @escaping @Sendable (String.UnicodeScalarView, String.UnicodeScalarView) -> Bool
    ) -> TemplateMethod {
        method(name, ["/prefix", "/start?", "/end?"]) { (text, arguments) throws(TemplateError) in
            var candidates: [String] = []
            if case .tuple(let tuple) = arguments[0] {
                for item in tuple.items {
                    guard let text = item.text else {
                        throw TemplateError(
                            .type, "tuple for \(name) must only contain str, not \(item.typeName)")
                    }
                    candidates.append(text)
                }
            } else {
                candidates = [try arguments.text(0)]
            }
            guard let window = try window(text, arguments) else { return .bool(false) }
            let scalars = window.text.unicodeScalars
            return .bool(candidates.contains { holds(scalars, $0.unicodeScalars) })
        }
    }
}

extension String {
    /// `str.casefold`: lower case with `ß` and its like written out.
    fileprivate var pythonCaseFolded: String {
        unicodeScalars.reduce(into: "") { result, scalar in
            let folded = String(scalar).pythonUppercased.unicodeScalars
            for scalar in folded.count > 1 ? Array(folded) : [scalar] {
                result += scalar == "\u{3C2}" ? "\u{3C3}" : scalar.properties.lowercaseMapping
            }
        }
    }

    /// `str.expandtabs`.
    fileprivate func pythonTabsExpanded(_ size: Int) -> String {
        var result = String.UnicodeScalarView()
        var column = 0
        for scalar in unicodeScalars {
            if scalar == "\t" {
                guard size > 0 else { continue }
                let count = size - column % size
                result.append(contentsOf: repeatElement(" ", count: count))
                column += count
            } else {
                result.append(scalar)
                column = scalar == "\n" || scalar == "\r" ? 0 : column + 1
            }
        }
        return String(result)
    }
}
