/// A Python iterator: it delivers each element once, on demand.
final class TemplateIterator {
    private let pull: () throws(TemplateError) -> TemplateValue?

    /// Makes an iterator that calls `pull` for each element, until it returns nil.
    init(_ pull: @escaping () throws(TemplateError) -> TemplateValue?) { self.pull = pull }

    /// Makes an iterator over `items`.
    convenience init(_ items: [TemplateValue]) {
        var position = 0
        self.init { () throws(TemplateError) in
            guard position < items.count else { return nil }
            position += 1
            return items[position - 1]
        }
    }

    /// The next element, nil at the end.
    func next() throws(TemplateError) -> TemplateValue? { try pull() }

    /// All elements that are left.
    func rest() throws(TemplateError) -> [TemplateValue] {
        var items: [TemplateValue] = []
        while let item = try pull() { items.append(item) }
        return items
    }

    /// An iterator over `transform` of each element for which it is not nil.
    func compactMap(
        _ transform: @escaping (TemplateValue) throws(TemplateError) -> TemplateValue?
    ) -> TemplateIterator {
        TemplateIterator { () throws(TemplateError) in
            while let item = try self.next() {
                if let result = try transform(item) { return result }
            }
            return nil
        }
    }
}

extension TemplateValue {
    /// The elements, if they are at hand without running an iterator.
    var storedItems: [TemplateValue]? {
        switch self {
        case .undefined: []
        case .list(let items): items
        case .tuple(let tuple): tuple.items
        case .dictionary(let dictionary): dictionary.keys
        case .view(let view): view.items
        case .range(let range): range.items
        case .string(let text), .markup(let text):
            text.unicodeScalars.map { .string(String($0)) }
        default: nil
        }
    }

    /// Python's `iter`.
    func makeIterator() throws(TemplateError) -> TemplateIterator {
        if case .iterator(let iterator) = self { return iterator }
        if let items = storedItems { return TemplateIterator(items) }
        if case .object(let loop as TemplateLoop) = self { return loop.items }
        throw TemplateError(.type, "'\(typeName)' object is not iterable")
    }

    /// Python's `list`.
    func elements() throws(TemplateError) -> [TemplateValue] {
        if let items = storedItems { return items }
        return try makeIterator().rest()
    }

    /// Python's `len`, nil where there is none.
    func length() throws(TemplateError) -> Int? {
        switch self {
        case .string(let text), .markup(let text): text.unicodeScalars.count
        case .dictionary(let dictionary): dictionary.count
        case .range(let range): range.count
        case .view(let view): view.dictionary.count
        case .list(let items): items.count
        case .tuple(let tuple): tuple.items.count
        case .undefined: 0
        case .object(let loop as TemplateLoop): try loop.length()
        default: nil
        }
    }
}
