extension TemplateValue {
    /// `value.name`: the attribute if there is one, else the element under that name.
    ///
    /// - Source: jinja2 3.1.6 `sandbox.py:SandboxedEnvironment.getattr`.
    func attribute(_ name: String) throws(TemplateError) -> TemplateValue {
        if case .undefined(let undefined) = self {
            if TemplateMethods.internalNames.contains(name) { return unsafe(name) }
            throw undefined.error
        }
        if let value = try ownAttribute(name) { return value }
        if let value = try element(.string(name)) { return value }
        return try missing(.string(name))
    }

    /// `value[key]`: the element if there is one, else the attribute of that name.
    ///
    /// - Source: jinja2 3.1.6 `sandbox.py:SandboxedEnvironment.getitem`.
    func item(_ key: TemplateValue) throws(TemplateError) -> TemplateValue {
        if case .undefined(let undefined) = self { throw undefined.error }
        if let value = try element(key) { return value }
        if let name = key.text, let value = try ownAttribute(name) { return value }
        return try missing(key)
    }

    private func missing(_ key: TemplateValue) throws(TemplateError) -> TemplateValue {
        let what = try key.representation()
        return .undefined(
            key.text == nil
                ? "\(typeDescription) has no element \(what)"
                : "'\(typeDescription)' has no attribute \(what)")
    }

    /// The element under `key`; nil if there is none, or no elements at all.
    private func element(_ key: TemplateValue) throws(TemplateError) -> TemplateValue? {
        if case .dictionary(let dictionary) = self {
            // Keys that cannot be hashed are not in the dictionary.
            guard let hash = try? dictionary.value(for: key) else { return nil }
            return hash
        }
        guard let index = key.integer, let count = try indexableCount() else { return nil }
        let position = index < 0 ? index + count : index
        guard position >= 0, position < count else { return nil }
        switch self {
        case .list(let items): return items[position]
        case .tuple(let tuple): return tuple.items[position]
        case .range(let range): return range[position]
        case .string(let text): return .string(text.pythonScalar(at: position))
        case .markup(let text): return .markup(text.pythonScalar(at: position))
        default: return nil
        }
    }

    private func indexableCount() throws(TemplateError) -> Int? {
        switch self {
        case .list, .tuple, .range, .string, .markup: try length()
        default: nil
        }
    }

    /// The attribute `name` of the Python object; nil if it has none.
    private func ownAttribute(_ name: String) throws(TemplateError) -> TemplateValue? {
        if case .object(let object) = self {
            if let value = try object.attribute(name) { return value }
        } else if case .tuple(let tuple) = self, let index = tuple.names.firstIndex(of: name) {
            return tuple.items[index]
        } else if TemplateMethods.table(for: self)?[name] != nil {
            return .method(TemplateBoundMethod(receiver: self, name: name))
        } else if TemplateMethods.forbiddenNames(of: self).contains(name) {
            return unsafe(name)
        } else if TemplateMethods.unsupportedNames(of: self).contains(name) {
            throw TemplateError(
                .unsupported, "the attribute '\(name)' of '\(typeName)' is not supported")
        }
        return TemplateMethods.internalNames.contains(name) ? unsafe(name) : nil
    }

    private func unsafe(_ name: String) -> TemplateValue {
        .undefined(
            TemplateUndefined(
                message: "access to attribute '\(name)' of '\(typeName)' object is unsafe.",
                kind: .forbidden))
    }

    /// `value[start:stop:step]`.
    func slice(
        start: TemplateValue, stop: TemplateValue, step: TemplateValue
    ) throws(TemplateError) -> TemplateValue {
        if case .undefined(let undefined) = self { throw undefined.error }
        guard let count = try indexableCount() else {
            throw TemplateError(.type, "'\(typeName)' object cannot be sliced")
        }
        let indices = try Self.sliceIndices(start, stop, step, count)
        switch self {
        case .range(let range):
            return .range(
                TemplateRange(
                    start: range.start + indices.start * range.step,
                    stop: range.start + indices.stop * range.step, step: range.step * indices.step))
        case .string(let text), .markup(let text):
            let part = text.pythonSlice(indices)
            if case .markup = self { return .markup(part) }
            return .string(part)
        default:
            let items = storedItems ?? []
            let part = (0..<indices.count).map { items[indices.start + $0 * indices.step] }
            if case .tuple = self { return .tuple(part) }
            return .list(part)
        }
    }

    private static func sliceIndices(
        _ start: TemplateValue, _ stop: TemplateValue, _ step: TemplateValue, _ count: Int
    ) throws(TemplateError) -> TemplateRange {
        func bound(_ value: TemplateValue) throws(TemplateError) -> Int? {
            if value.isNone { return nil }
            guard let index = value.integer else {
                throw TemplateError(
                    .type, "slice indices must be integers or None, found \(value.typeName)")
            }
            return index
        }
        let step = try bound(step) ?? 1
        guard step != 0 else { throw TemplateError(.value, "slice step cannot be zero") }
        let (low, high) = step > 0 ? (0, count) : (-1, count - 1)
        func clamp(_ index: Int?, default defaultIndex: Int) -> Int {
            guard let index else { return defaultIndex }
            return min(max(index < 0 ? index &+ count : index, low), high)
        }
        // A step beyond the length picks one element; cutting it keeps sums from overflowing.
        return TemplateRange(
            start: clamp(try bound(start), default: step > 0 ? low : high),
            stop: clamp(try bound(stop), default: step > 0 ? high : low),
            step: min(max(step, -count - 1), count + 1))
    }
}

extension String {
    /// The scalar at `position`, as a string.
    fileprivate func pythonScalar(at position: Int) -> String {
        let scalars = unicodeScalars
        return String(scalars[scalars.index(scalars.startIndex, offsetBy: position)])
    }

    /// The scalars at the given positions.
    fileprivate func pythonSlice(_ indices: TemplateRange) -> String {
        let scalars = unicodeScalars
        if indices.step == 1 {
            let start = scalars.index(scalars.startIndex, offsetBy: indices.start)
            let end = scalars.index(start, offsetBy: indices.count)
            return String(scalars[start..<end])
        }
        let array = Array(scalars)
        return String((0..<indices.count).map { array[indices.start + $0 * indices.step] })
    }
}
