/// Python's dict: an ordered dictionary whose keys are any hashable values.
struct TemplateDictionary {
    /// Dictionaries of at most this many keys are searched key by key, without an index.
    private static let numUnindexedKeys = 8

    /// The keys in order.
    private(set) var keys: [TemplateValue] = []
    /// The values in the order of their keys.
    private(set) var values: [TemplateValue] = []
    private var hashes: [TemplateKey] = []
    private var positions: [TemplateKey: Int] = [:]

    /// Makes an empty dictionary.
    init() {}

    /// Makes a dictionary of the pairs of a JSON object.
    init(_ object: JSONObject) {
        for (key, value) in object {
            set(TemplateKey.string(ExactString(key)), .string(key), TemplateValue(value))
        }
    }

    /// The number of keys.
    var count: Int { keys.count }

    /// Tuples of key and value.
    var pairs: [TemplateValue] { zip(keys, values).map { .tuple([$0, $1]) } }

    /// The value under a string.
    subscript(name: String) -> TemplateValue? {
        position(of: .string(ExactString(name))).map { values[$0] }
    }

    /// The value under `key`, nil if there is none.
    func value(for key: TemplateValue) throws(TemplateError) -> TemplateValue? {
        position(of: try TemplateKey(key)).map { values[$0] }
    }

    /// Sets the value under `key`; an existing key keeps its place.
    mutating func set(_ key: TemplateValue, _ value: TemplateValue) throws(TemplateError) {
        set(try TemplateKey(key), key, value)
    }

    /// Sets the value under a string.
    mutating func set(_ name: String, _ value: TemplateValue) {
        set(.string(ExactString(name)), .string(name), value)
    }

    private mutating func set(_ hash: TemplateKey, _ key: TemplateValue, _ value: TemplateValue) {
        if let position = position(of: hash) {
            values[position] = value
            return
        }
        keys.append(key)
        values.append(value)
        hashes.append(hash)
        if keys.count == Self.numUnindexedKeys + 1 {
            for (position, hash) in hashes.enumerated() { positions[hash] = position }
        } else if keys.count > Self.numUnindexedKeys {
            positions[hash] = keys.count - 1
        }
    }

    private func position(of hash: TemplateKey) -> Int? {
        keys.count > Self.numUnindexedKeys ? positions[hash] : hashes.firstIndex(of: hash)
    }
}

/// What identifies a key: `1`, `1.0` and `True` are the same one.
enum TemplateKey: Hashable {
    /// `None`.
    case null
    /// Any undefined value.
    case undefined
    /// An integer, a Boolean, or a floating-point number without fraction.
    case int(Int)
    /// Any other number.
    case double(Double)
    /// A string.
    case string(ExactString)
    /// A tuple of keys.
    case tuple([TemplateKey])
    /// An object, by identity.
    case object(ObjectIdentifier)

    /// The key that `value` is; lists and dictionaries cannot be keys.
    init(_ value: TemplateValue) throws(TemplateError) {
        switch value {
        case .null: self = .null
        case .undefined: self = .undefined
        case .bool(let value): self = .int(value ? 1 : 0)
        case .int(let value): self = .int(value)
        case .double(let value): self = Int(exactly: value).map { .int($0) } ?? .double(value)
        case .string(let text), .markup(let text): self = .string(ExactString(text))
        case .tuple(let tuple):
            var keys: [TemplateKey] = []
            for item in tuple.items { keys.append(try TemplateKey(item)) }
            self = .tuple(keys)
        case .object(let object): self = .object(ObjectIdentifier(object))
        case .iterator(let iterator): self = .object(ObjectIdentifier(iterator))
        case .method(let method): self = .object(ObjectIdentifier(method))
        case .range(let range):
            self = .tuple([.int(range.start), .int(range.stop), .int(range.step)])
        case .list, .dictionary, .view:
            throw TemplateError(.type, "unhashable type: '\(value.typeName)'")
        }
    }
}
