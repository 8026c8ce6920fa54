/// A JSON object: a dictionary from string to value that keeps the order of insertion.
///
/// - Complexity: look-up and insertion are O(1); removal is O(n).
public struct JSONObject: Sendable {
    /// Objects of at most this many keys are searched key by key, without an index.
    private static let numUnindexedKeys = 8

    /// The keys in order of insertion.
    public private(set) var keys: [String] = []

    /// The values in the order of their keys.
    public private(set) var values: [JSONValue] = []

    private var positions: [ExactString: Int] = [:]

    /// Makes an empty object.
    public init() {}

    /// Makes an object of the given pairs; the last of several equal keys wins.
    public init(_ pairs: some Sequence<(String, JSONValue)>) {
        for (key, value) in pairs { self[key] = value }
    }

    /// The value under `key`; setting nil removes the key, setting a new key appends it.
    public subscript(key: String) -> JSONValue? {
        get { position(of: key).map { values[$0] } }
        set {
            switch (position(of: key), newValue) {
            case (let position?, let value?):
                values[position] = value
            case (nil, let value?):
                append(key, value)
            case (let position?, nil):
                keys.remove(at: position)
                values.remove(at: position)
                rebuildIndex()
            case (nil, nil):
                break
            }
        }
    }

    /// The value under `key`, or `defaultValue` if there is none.
    public subscript(key: String, default defaultValue: JSONValue) -> JSONValue {
        self[key] ?? defaultValue
    }

    /// Reserves room for `count` keys.
    package mutating func reserveCapacity(_ count: Int) {
        keys.reserveCapacity(count)
        values.reserveCapacity(count)
    }

    private mutating func append(_ key: String, _ value: JSONValue) {
        keys.append(key)
        values.append(value)
        if keys.count == Self.numUnindexedKeys + 1 {
            rebuildIndex()
        } else if keys.count > Self.numUnindexedKeys {
            positions[ExactString(key)] = keys.count - 1
        }
    }

    private func position(of key: String) -> Int? {
        let key = ExactString(key)
        guard keys.count <= Self.numUnindexedKeys else { return positions[key] }
        return keys.firstIndex { ExactString($0) == key }
    }

    private mutating func rebuildIndex() {
        positions = [:]
        guard keys.count > Self.numUnindexedKeys else { return }
        positions.reserveCapacity(keys.count * 2)
        for (position, key) in keys.enumerated() { positions[ExactString(key)] = position }
    }
}

extension JSONObject: RandomAccessCollection {
    /// The position of the first pair, always 0.
    public var startIndex: Int { 0 }

    /// The number of pairs.
    public var endIndex: Int { keys.count }

    /// The key and value at `position`.
    public subscript(position: Int) -> (key: String, value: JSONValue) {
        (keys[position], values[position])
    }
}

extension JSONObject: Hashable, ExpressibleByDictionaryLiteral {
    /// Whether both hold equal values under the same keys, in any order, as Python's dict does.
    public static func == (left: JSONObject, right: JSONObject) -> Bool {
        left.count == right.count
            && left.allSatisfy { key, value in right[key] == value }
    }

    /// Feeds the pairs to the hasher; their order does not matter.
    public func hash(into hasher: inout Hasher) {
        var sum = 0
        for (key, value) in self {
            var pair = Hasher()
            pair.combine(ExactString(key))
            pair.combine(value)
            sum &+= pair.finalize()
        }
        hasher.combine(sum)
    }

    /// Makes an object of the given pairs; the last of several equal keys wins.
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self.init(elements)
    }
}
