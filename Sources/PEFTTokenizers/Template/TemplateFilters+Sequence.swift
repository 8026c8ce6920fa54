extension TemplateFilters {
    /// `length` and `count`.
    static func length(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        guard let length = try value.length() else {
            throw TemplateError(.type, "object of type '\(value.typeName)' has no len()")
        }
        return .int(length)
    }

    /// `list`.
    static func list(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        .list(try value.elements())
    }

    /// `first`.
    static func first(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        try value.makeIterator().next() ?? .undefined("No first item, sequence was empty.")
    }

    /// `last`.
    static func last(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        guard let items = value.storedItems else {
            throw TemplateError(
                .type, "'\(value.typeName)' object is not reversible; convert it with |list")
        }
        if case .markup = value, let last = items.last?.text { return .markup(last) }
        return items.last ?? .undefined("No last item, sequence was empty.")
    }

    /// `reverse`.
    static func reverse(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        switch value {
        case .string(let text): .string(String(text.unicodeScalars.reversed()))
        case .markup(let text): .markup(String(text.unicodeScalars.reversed()))
        case .iterator, .object: .list(try value.elements().reversed())
        default: .iterator(TemplateIterator(try value.elements().reversed()))
        }
    }

    /// `items`: pairs of key and value; nothing for an undefined value.
    static func items(
        _ value: TemplateValue, _: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        .iterator(
            deferred { () throws(TemplateError) in
                if value.isUndefined { return TemplateIterator([]) }
                guard case .dictionary(let dictionary) = value else {
                    throw TemplateError(.type, "Can only get item pairs from a mapping.")
                }
                return TemplateIterator(dictionary.pairs)
            })
    }

    /// `join(d, attribute)`.
    static func join(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let path = AttributePath(arguments.optional(1))
        let separator = try arguments[0]?.string() ?? ""
        var result = ""
        var isFirst = true
        let iterator = try value.makeIterator()
        while let item = try iterator.next() {
            if !isFirst { result += separator }
            isFirst = false
            result += try path.value(of: item).string()
        }
        return .string(result)
    }

    /// `sum(attribute, start)`.
    static func sum(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let path = AttributePath(arguments.optional(0))
        var sum = arguments[1] ?? .int(0)
        if sum.text != nil {
            throw TemplateError(.type, "sum() can't sum strings [use ''.join(seq) instead]")
        }
        for item in try value.elements() { sum = try sum.apply(.add, try path.value(of: item)) }
        return sum
    }

    /// `batch(linecount, fill_with)`.
    static func batch(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let size = arguments[0]?.number
        let fill = arguments.optional(1)
        return .iterator(
            deferred { () throws(TemplateError) in
                var lines: [[TemplateValue]] = []
                for item in try value.elements() {
                    if let last = lines.last, Double(last.count) != size {
                        lines[lines.count - 1].append(item)
                    } else {
                        // Python starts with an empty line, which a size of 0 delivers.
                        if lines.isEmpty, size == 0 { lines.append([]) }
                        lines.append([item])
                    }
                }
                if let fill, let size, let last = lines.last, Double(last.count) < size {
                    guard size <= Double(TemplateValue.maximumLength) else {
                        throw TemplateError(
                            .value, "batch(): \(size) elements need too much memory")
                    }
                    let numMissing = Int(size) - last.count
                    lines[lines.count - 1] += Array(repeating: fill, count: numMissing)
                }
                return TemplateIterator(lines.map { .list($0) })
            })
    }

    /// `slice(slices, fill_with)`.
    static func slice(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let fill = arguments.optional(1)
        return .iterator(
            deferred { () throws(TemplateError) in
                let items = try value.elements()
                let numSlices = try arguments.int(0)
                guard numSlices <= TemplateValue.maximumLength else {
                    throw TemplateError(.value, "slice(): \(numSlices) slices need too much memory")
                }
                guard numSlices != 0 else { throw TemplateError(.value, "division by zero") }
                guard numSlices > 0 else { return TemplateIterator([]) }
                let (size, numLarger) = items.count.quotientAndRemainder(dividingBy: numSlices)
                var slices: [TemplateValue] = []
                var start = 0
                for index in 0..<numSlices {
                    let end = start + size + (index < numLarger ? 1 : 0)
                    var part = Array(items[start..<end])
                    if let fill, index >= numLarger { part.append(fill) }
                    slices.append(.list(part))
                    start = end
                }
                return TemplateIterator(slices)
            })
    }

    /// `unique(case_sensitive, attribute)`.
    static func unique(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let path = AttributePath(arguments.optional(1), ignoresCase: !arguments.flag(0))
        return .iterator(
            deferred { () throws(TemplateError) in
                var seen: Set<TemplateKey> = []
                let items = try value.makeIterator()
                return items.compactMap { (item) throws(TemplateError) in
                    let key = try TemplateKey(try path.value(of: item))
                    return seen.insert(key).inserted ? item : nil
                }
            })
    }

    /// A generator: `make` runs when the first element is asked for.
    static func deferred(
        _ make: @escaping () throws(TemplateError) -> TemplateIterator
    ) -> TemplateIterator {
        var iterator: TemplateIterator?
        return TemplateIterator { () throws(TemplateError) in
            let source: TemplateIterator
            if let iterator {
                source = iterator
            } else {
                source = try make()
                iterator = source
            }
            return try source.next()
        }
    }
}

// MARK: Order

extension TemplateFilters {
    /// `sort(reverse, case_sensitive, attribute)`; the attribute may be several with commas.
    static func sort(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let attributes: [TemplateValue?] =
            arguments.optional(2)?.text?.pythonSplit(",").map { .string($0) }
            ?? [arguments.optional(2)]
        let paths = attributes.map { AttributePath($0, ignoresCase: !arguments.flag(1)) }
        var keyed: [(key: TemplateValue, value: TemplateValue)] = []
        for item in try value.elements() {
            var keys: [TemplateValue] = []
            for path in paths { keys.append(try path.value(of: item)) }
            keyed.append((.list(keys), item))
        }
        return .list(try pythonSorted(keyed, isReversed: try arguments.int(0, default: 0) != 0))
    }

    /// `dictsort(case_sensitive, by, reverse)`.
    static func sortDictionary(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let by = arguments[1]?.text ?? (arguments[1] == nil ? "key" : "")
        guard by == "key" || by == "value" else {
            throw TemplateError(.value, "You can only sort by either \"key\" or \"value\"")
        }
        if case .undefined(let undefined) = value { throw undefined.error }
        guard case .dictionary(let dictionary) = value else {
            throw TemplateError(.type, "'\(value.typeName)' object has no attribute 'items'")
        }
        let path = AttributePath(nil, ignoresCase: !arguments.flag(0))
        var keyed: [(key: TemplateValue, value: TemplateValue)] = []
        for (key, value) in zip(dictionary.keys, dictionary.values) {
            let sortKey = try path.value(of: by == "key" ? key : value)
            keyed.append((sortKey, .tuple([key, value])))
        }
        return .list(try pythonSorted(keyed, isReversed: try arguments.int(2, default: 0) != 0))
    }

    /// `min(case_sensitive, attribute)`.
    static func minimum(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        try extreme(value, arguments) { (candidate, best) throws(TemplateError) in
            try candidate.isLess(than: best)
        }
    }

    /// `max(case_sensitive, attribute)`.
    static func maximum(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        try extreme(value, arguments) { (candidate, best) throws(TemplateError) in
            try best.isLess(than: candidate)
        }
    }

    private static func extreme(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments,
        isBetter: (TemplateValue, TemplateValue) throws(TemplateError) -> Bool
    ) throws(TemplateError) -> TemplateValue {
        let path = AttributePath(arguments.optional(1), ignoresCase: !arguments.flag(0))
        var best: (key: TemplateValue, item: TemplateValue)?
        for item in try value.elements() {
            let key = try path.value(of: item)
            if let current = best, try !isBetter(key, current.key) { continue }
            best = (key, item)
        }
        return best?.item ?? .undefined("No aggregated item, sequence was empty.")
    }

    /// `groupby(attribute, default, case_sensitive)`.
    static func group(
        _ value: TemplateValue, _ arguments: TemplateBoundArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let ignoresCase = !arguments.flag(2)
        let fallback = arguments.optional(1)
        let path = AttributePath(
            arguments.optional(0), ignoresCase: ignoresCase, fallback: fallback)
        let exact = AttributePath(arguments.optional(0), fallback: fallback)
        var keyed: [(key: TemplateValue, value: TemplateValue)] = []
        for item in try value.elements() { keyed.append((try path.value(of: item), item)) }
        var groups: [(key: TemplateValue, items: [TemplateValue])] = []
        for item in try pythonSorted(keyed, isReversed: false) {
            let key = try path.value(of: item)
            if let last = groups.last, last.key.isEqual(to: key) {
                groups[groups.count - 1].items.append(item)
            } else {
                groups.append((key, [item]))
            }
        }
        var tuples: [TemplateValue] = []
        for group in groups {
            let key = ignoresCase ? try exact.value(of: group.items[0]) : group.key
            tuples.append(
                .tuple(
                    TemplateTuple(items: [key, .list(group.items)], names: ["grouper", "list"])))
        }
        return .list(tuples)
    }
}

// MARK: Selection

extension TemplateFilters {
    /// `map(filter, ...)` and `map(attribute=..., default=...)`.
    static func map(
        _ value: TemplateValue, _ arguments: TemplateArguments, _ interpreter: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        .iterator(
            deferred { () throws(TemplateError) in
                guard value.isTrue else { return TemplateIterator([]) }
                if arguments.positional.isEmpty,
                    arguments.named.contains(where: { $0.name == "attribute" })
                {
                    let bound = try arguments.bind(to: ["attribute?", "default?"], of: "map")
                    let path = AttributePath(bound.optional(0), fallback: bound.optional(1))
                    return try value.makeIterator().compactMap { (item) throws(TemplateError) in
                        try path.value(of: item)
                    }
                }
                guard let name = arguments.positional.first else {
                    throw TemplateError(.type, "map requires a filter argument")
                }
                var rest = arguments
                rest.positional.removeFirst()
                guard let filterName = name.text, let filter = table[filterName] else {
                    throw missing(try name.string())
                }
                return try value.makeIterator().compactMap { (item) throws(TemplateError) in
                    try filter(filterName, item, rest, interpreter)
                }
            })
    }

    /// `select(test, ...)`.
    static func select(
        _ value: TemplateValue, _ arguments: TemplateArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        selected(value, arguments, keeps: true, byAttribute: false)
    }

    /// `reject(test, ...)`.
    static func reject(
        _ value: TemplateValue, _ arguments: TemplateArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        selected(value, arguments, keeps: false, byAttribute: false)
    }

    /// `selectattr(attribute, test, ...)`.
    static func selectAttribute(
        _ value: TemplateValue, _ arguments: TemplateArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        selected(value, arguments, keeps: true, byAttribute: true)
    }

    /// `rejectattr(attribute, test, ...)`.
    static func rejectAttribute(
        _ value: TemplateValue, _ arguments: TemplateArguments, _: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        selected(value, arguments, keeps: false, byAttribute: true)
    }

    private static func selected(
        _ value: TemplateValue, _ arguments: TemplateArguments, keeps: Bool, byAttribute: Bool
    ) -> TemplateValue {
        .iterator(
            deferred { () throws(TemplateError) in
                guard value.isTrue else { return TemplateIterator([]) }
                var rest = arguments
                var path = AttributePath(nil)
                if byAttribute {
                    guard !rest.positional.isEmpty else {
                        throw TemplateError(.type, "Missing parameter for attribute name")
                    }
                    let attribute = rest.positional.removeFirst()
                    path = AttributePath(attribute.isNone ? nil : attribute)
                }
                let items = try value.makeIterator()
                guard let name = rest.positional.first else {
                    return items.compactMap { (item) throws(TemplateError) in
                        try path.value(of: item).isTrue == keeps ? item : nil
                    }
                }
                rest.positional.removeFirst()
                guard let testName = name.text, let test = TemplateTests.table[testName] else {
                    throw TemplateTests.missing(try name.string())
                }
                return items.compactMap { (item) throws(TemplateError) in
                    try test(testName, try path.value(of: item), rest) == keeps ? item : nil
                }
            })
    }
}

/// The attribute that a filter works on: `name`, `name.inner`, `0.name`, or the item itself.
struct AttributePath {
    private let parts: [TemplateValue]
    private let ignoresCase: Bool
    private let fallback: TemplateValue?

    /// Makes a path.
    ///
    /// - Parameters:
    ///   - attribute: names and indices with points between them; nil means the item itself.
    ///   - ignoresCase: whether strings are lowercased for comparison.
    ///   - fallback: what stands for an attribute that does not exist.
    init(_ attribute: TemplateValue?, ignoresCase: Bool = false, fallback: TemplateValue? = nil) {
        if let text = attribute?.text {
            parts = text.pythonSplit(".").map { part in
                part.utf8.allSatisfy({ $0 >= 0x30 && $0 <= 0x39 })
                    ? Int(part).map { .int($0) } ?? .string(part) : .string(part)
            }
        } else {
            parts = attribute.map { [$0] } ?? []
        }
        self.ignoresCase = ignoresCase
        self.fallback = fallback
    }

    /// The attribute of `item`.
    func value(of item: TemplateValue) throws(TemplateError) -> TemplateValue {
        var value = item
        for part in parts {
            value = try value.item(part)
            if let fallback, value.isUndefined { value = fallback }
        }
        guard ignoresCase, let text = value.text else { return value }
        return .string(text.pythonLowercased)
    }
}
