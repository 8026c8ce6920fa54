extension TemplateValue {
    /// Python's `==`.
    func isEqual(to other: TemplateValue) -> Bool {
        switch (self, other) {
        case (.null, .null), (.undefined, .undefined): return true
        case (.list(let left), .list(let right)): return Self.areEqual(left, right)
        case (.tuple(let left), .tuple(let right)): return Self.areEqual(left.items, right.items)
        case (.range(let left), .range(let right)): return Self.areEqual(left.items, right.items)
        case (.dictionary(let left), .dictionary(let right)): return left.isEqual(to: right)
        case (.view(let left), .view(let right)): return left.isEqual(to: right)
        case (.iterator(let left), .iterator(let right)): return left === right
        case (.object(let left), .object(let right)): return left === right
        case (.method(let left), .method(let right)):
            return left.name == right.name && left.receiver.isSame(as: right.receiver)
        default: break
        }
        if let left = text, let right = other.text {
            return ExactString(left) == ExactString(right)
        }
        if let left = integer, let right = other.integer { return left == right }
        if let left = number, let right = other.number { return left == right }
        return false
    }

    /// Python's `is`, as far as it is the same in every run: strings and numbers by value.
    func isSame(as other: TemplateValue) -> Bool {
        typeName == other.typeName && isEqual(to: other)
    }

    private static func areEqual(_ left: [TemplateValue], _ right: [TemplateValue]) -> Bool {
        left.count == right.count && zip(left, right).allSatisfy { $0.isEqual(to: $1) }
    }

    /// The number as floating point, if this is a number or a Boolean.
    var number: Double? {
        if case .double(let value) = self { value } else { integer.map { Double($0) } }
    }

    /// Python's `<`, or `<=` if `allowsEqual`.
    func isLess(
        than other: TemplateValue, allowsEqual: Bool = false, symbol: String = "<"
    ) throws(TemplateError) -> Bool {
        switch (self, other) {
        case (.list(let left), .list(let right)):
            return try Self.isLess(left, right, allowsEqual, symbol)
        case (.tuple(let left), .tuple(let right)):
            return try Self.isLess(left.items, right.items, allowsEqual, symbol)
        case (.undefined(let undefined), _), (_, .undefined(let undefined)):
            throw undefined.error
        default: break
        }
        if let left = text.map({ ExactString($0) }), let right = other.text.map({ ExactString($0) })
        {
            return allowsEqual ? left <= right : left < right
        }
        if let left = integer, let right = other.integer {
            return allowsEqual ? left <= right : left < right
        }
        if let left = number, let right = other.number {
            return allowsEqual ? left <= right : left < right
        }
        if case .view = self, case .view = other {
            throw TemplateError(.unsupported, "sets are not supported: '\(symbol)' of views")
        }
        throw TemplateError(
            .type,
            "'\(symbol)' not supported between instances of '\(typeName)' and '\(other.typeName)'")
    }

    private static func isLess(
        _ left: [TemplateValue], _ right: [TemplateValue], _ allowsEqual: Bool, _ symbol: String
    ) throws(TemplateError) -> Bool {
        for (left, right) in zip(left, right) where !left.isEqual(to: right) {
            return try left.isLess(than: right, allowsEqual: allowsEqual, symbol: symbol)
        }
        return allowsEqual ? left.count <= right.count : left.count < right.count
    }

    /// Python's `item in self`.
    func contains(_ item: TemplateValue) throws(TemplateError) -> Bool {
        if let text {
            guard let part = item.text else {
                throw TemplateError(
                    .type,
                    "'in <string>' requires string as left operand, not \(item.typeName)")
            }
            return PythonSearch(text).firstIndex(of: part) != nil
        }
        switch self {
        case .dictionary(let dictionary): return try dictionary.value(for: item) != nil
        case .view(let view) where view.kind == .keys:
            return try view.dictionary.value(for: item) != nil
        case .iterator, .object:
            let iterator = try makeIterator()
            while let candidate = try iterator.next() {
                if candidate.isEqual(to: item) { return true }
            }
            return false
        default:
            guard let items = storedItems else {
                throw TemplateError(.type, "argument of type '\(typeName)' is not iterable")
            }
            return items.contains { $0.isEqual(to: item) }
        }
    }

    /// Applies a comparison operator.
    func compare(
        _ comparison: TemplateComparison.Operator, _ other: TemplateValue
    ) throws(TemplateError) -> Bool {
        switch comparison {
        case .equal: isEqual(to: other)
        case .notEqual: !isEqual(to: other)
        case .less: try isLess(than: other)
        case .lessOrEqual: try isLess(than: other, allowsEqual: true, symbol: "<=")
        case .greater: try other.isLess(than: self, symbol: ">")
        case .greaterOrEqual: try other.isLess(than: self, allowsEqual: true, symbol: ">=")
        case .isIn: try other.contains(self)
        case .isNotIn: try !other.contains(self)
        }
    }
}

extension TemplateDictionary {
    /// Whether both hold equal values under equal keys, in any order.
    func isEqual(to other: TemplateDictionary) -> Bool {
        guard count == other.count else { return false }
        for (key, value) in zip(keys, values) {
            // A key of a dictionary is hashable, so the look-up cannot fail.
            guard let counterpart = try? other.value(for: key), value.isEqual(to: counterpart)
            else {
                return false
            }
        }
        return true
    }
}

extension TemplateDictionaryView {
    /// Whether both hold the same keys or items in any order; views of values are never equal.
    func isEqual(to other: TemplateDictionaryView) -> Bool {
        switch (kind, other.kind) {
        case (.keys, .keys), (.items, .items):
            return items.count == other.items.count
                && items.allSatisfy { item in other.items.contains { $0.isEqual(to: item) } }
        default: return false
        }
    }
}

/// Sorts as Python's `sorted` does: stable, and only with `<`.
///
/// - Parameters:
///   - items: the items with the keys that they are sorted by.
///   - isReversed: whether the largest comes first; equal items keep their order nonetheless.
/// - Returns: the items in order.
/// - Throws: `TemplateError` if two keys cannot be compared.
/// - Complexity: O(n log n) comparisons.
func pythonSorted(
    _ items: [(key: TemplateValue, value: TemplateValue)], isReversed: Bool
) throws(TemplateError) -> [TemplateValue] {
    func sort(
        _ part: ArraySlice<(key: TemplateValue, value: TemplateValue)>
    ) throws(TemplateError) -> [(key: TemplateValue, value: TemplateValue)] {
        guard part.count > 1 else { return Array(part) }
        let middle = part.startIndex + part.count / 2
        let left = try sort(part[..<middle])
        let right = try sort(part[middle...])
        var merged: [(key: TemplateValue, value: TemplateValue)] = []
        var (leftIndex, rightIndex) = (0, 0)
        while leftIndex < left.count, rightIndex < right.count {
            let (first, second) = (left[leftIndex].key, right[rightIndex].key)
            let takesRight =
                try isReversed ? first.isLess(than: second) : second.isLess(than: first)
            merged.append(takesRight ? right[rightIndex] : left[leftIndex])
            if takesRight { rightIndex += 1 } else { leftIndex += 1 }
        }
        return merged + left[leftIndex...] + right[rightIndex...]
    }
    return try sort(items[...]).map(\.value)
}
