import CTorch

/// The type of a tensor's elements; raw values are libtorch's `c10::ScalarType` codes.
public enum DType: Int32, Sendable, CaseIterable, Hashable {
    case uint8 = 0
    case int8 = 1
    case int16 = 2
    case int32 = 3
    case int64 = 4
    case float16 = 5
    case float32 = 6
    case float64 = 7
    case bool = 11
    case bfloat16 = 15

    /// Finds a dtype by its name in libtorch and transformers, such as `bfloat16`.
    public init?(name: String) {
        guard let match = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = match
    }

    /// The name in libtorch and transformers.
    public var name: String { String(describing: self) }

    /// The bytes of one element.
    public var sizeBytes: Int {
        switch self {
        case .uint8, .int8, .bool: 1
        case .int16, .float16, .bfloat16: 2
        case .int32, .float32: 4
        case .int64, .float64: 8
        }
    }

    /// Whether elements are floating-point numbers, the only ones that have gradients.
    public var isFloatingPoint: Bool {
        switch self {
        case .float16, .bfloat16, .float32, .float64: true
        default: false
        }
    }

    /// The dtype that matrix products of this dtype are computed in.
    ///
    /// float32 for float16, and for bfloat16 on a processor without bfloat16 products: libtorch emulates them there, many times
    /// slower than float32 (docs/decisions/0004), or where PEFT_INSTRUCTION_SET forgoes them. Everywhere else the dtype itself.
    public var forProducts: DType {
        switch self {
        case .float16: .float32
        case .bfloat16: ctorch_runtime_has_bfloat16_products() ? .bfloat16 : .float32
        default: self
        }
    }

    /// The dtype that products are computed in on a device: ``forProducts`` in host memory; elsewhere bfloat16 stays, since GPUs
    /// multiply it themselves and sum in float32.
    public func forProducts(on device: Device) -> DType {
        !device.isHost && self == .bfloat16 ? self : forProducts
    }

    /// The dtype in which sums of this dtype lose nothing that matters: float32 for the half dtypes, else the dtype itself.
    public var forSums: DType { sizeBytes == 2 && isFloatingPoint ? .float32 : self }
}
