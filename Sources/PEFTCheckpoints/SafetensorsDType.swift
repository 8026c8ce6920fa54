/// The element types of safetensors files, from the first to the last in the library's order of tensors.
public enum SafetensorsDType: String, CaseIterable, Codable, Sendable {
    case uint64 = "U64"
    case int64 = "I64"
    case float64 = "F64"
    case complex64 = "C64"
    case float32 = "F32"
    case uint32 = "U32"
    case int32 = "I32"
    case bfloat16 = "BF16"
    case float16 = "F16"
    case uint16 = "U16"
    case int16 = "I16"
    case float8e8m0 = "F8_E8M0"
    case float8e4m3 = "F8_E4M3"
    case float8e5m2 = "F8_E5M2"
    case int8 = "I8"
    case uint8 = "U8"
    case bool = "BOOL"

    /// The size of one element.
    public var sizeBytes: Int {
        switch self {
        case .uint64, .int64, .float64, .complex64: 8
        case .float32, .uint32, .int32: 4
        case .bfloat16, .float16, .uint16, .int16: 2
        case .float8e8m0, .float8e4m3, .float8e5m2, .int8, .uint8, .bool: 1
        }
    }

    /// The place in the order in which safetensors lays out tensors: wider types come first.
    var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}
