/// One metadata value of a GGUF file.
public enum GGUFValue: Hashable, Sendable {
    /// uint8, uint16, uint32 or uint64.
    case unsigned(UInt64)
    /// int8, int16, int32 or int64.
    case signed(Int64)
    /// float32.
    case float32(Float)
    /// float64.
    case float64(Double)
    /// bool.
    case bool(Bool)
    /// string.
    case string(String)
    /// array.
    case array(GGUFArray)
}

/// An array of metadata values of one type.
public enum GGUFArray: Hashable, Sendable {
    /// uint8, uint16, uint32 or uint64.
    case unsigned([UInt64])
    /// int8, int16, int32 or int64.
    case signed([Int64])
    /// float32.
    case float32([Float])
    /// float64.
    case float64([Double])
    /// bool.
    case bool([Bool])
    /// string.
    case string([String])
    /// array of arrays.
    case array([Self])

    /// The number of elements.
    public var count: Int {
        switch self {
        case .unsigned(let values): values.count
        case .signed(let values): values.count
        case .float32(let values): values.count
        case .float64(let values): values.count
        case .bool(let values): values.count
        case .string(let values): values.count
        case .array(let values): values.count
        }
    }
}

/// The metadata of a GGUF file, by key.
public struct GGUFMetadata: Hashable, Sendable {
    /// The values by key.
    public let values: [String: GGUFValue]
    /// The keys in the order of the file.
    public let keys: [String]

    /// The value of `key`, of any type.
    public subscript(key: String) -> GGUFValue? { values[key] }

    /// The integer under `key`; nil if there is none, or none that fits `Int`.
    public func int(_ key: String) -> Int? {
        switch values[key] {
        case .unsigned(let value): Int(exactly: value)
        case .signed(let value): Int(exactly: value)
        default: nil
        }
    }

    /// The number under `key`.
    ///
    /// A float32 becomes the double with the same shortest decimal form: 1e-05, not 9.999999747378752e-06.
    public func double(_ key: String) -> Double? {
        switch values[key] {
        case .unsigned(let value): Double(value)
        case .signed(let value): Double(value)
        case .float32(let value): Double("\(value)")
        case .float64(let value): value
        default: nil
        }
    }

    /// The Boolean under `key`.
    public func bool(_ key: String) -> Bool? {
        if case .bool(let value) = values[key] { value } else { nil }
    }

    /// The string under `key`.
    public func string(_ key: String) -> String? {
        if case .string(let value) = values[key] { value } else { nil }
    }

    /// The strings under `key`.
    public func strings(_ key: String) -> [String]? {
        if case .array(.string(let values)) = values[key] { values } else { nil }
    }

    /// The integers under `key`; nil if there are none, or some that do not fit `Int`.
    public func ints(_ key: String) -> [Int]? {
        let result: [Int]
        switch values[key] {
        case .array(.unsigned(let values)):
            result = values.compactMap { Int(exactly: $0) }
            return result.count == values.count ? result : nil
        case .array(.signed(let values)):
            result = values.compactMap { Int(exactly: $0) }
            return result.count == values.count ? result : nil
        default:
            return nil
        }
    }

    /// The float32 numbers under `key`.
    public func floats(_ key: String) -> [Float]? {
        if case .array(.float32(let values)) = values[key] { values } else { nil }
    }
}
