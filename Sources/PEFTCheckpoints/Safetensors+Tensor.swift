import Foundation
public import Torch

extension SafetensorsDType {
    /// The tensor type with the same elements; nil if tensors have none.
    public var dtype: DType? {
        switch self {
        case .int64: .int64
        case .float64: .float64
        case .float32: .float32
        case .int32: .int32
        case .bfloat16: .bfloat16
        case .float16: .float16
        case .int16: .int16
        case .int8: .int8
        case .uint8: .uint8
        case .bool: .bool
        case .uint64, .complex64, .uint32, .uint16, .float8e8m0, .float8e4m3, .float8e5m2: nil
        }
    }

    /// The type of `dtype`'s elements in files.
    public init(_ dtype: DType) {
        switch dtype {
        case .int64: self = .int64
        case .float64: self = .float64
        case .float32: self = .float32
        case .int32: self = .int32
        case .bfloat16: self = .bfloat16
        case .float16: self = .float16
        case .int16: self = .int16
        case .int8: self = .int8
        case .uint8: self = .uint8
        case .bool: self = .bool
        }
    }
}

extension SafetensorsFile {
    /// The tensor of `entry`, over the mapped file: nothing is copied, nothing may be written to it.
    ///
    /// Its pages leave the resident set when the tensor dies.
    ///
    /// - Throws: `CheckpointError.unsupported` for an element type that tensors do not have; `TorchError`.
    /// - Memory: none, unless the file places the data off the element's alignment: then a copy.
    public func tensor(_ entry: SafetensorsEntry) throws -> Tensor {
        try tensor(entry, elements: 0..<entry.shape.reduce(1, *)).reshape(entry.shape)
    }

    /// Elements of `entry`, `[elements.count]`; see ``tensor(_:)``.
    func tensor(_ entry: SafetensorsEntry, elements: Range<Int>) throws -> Tensor {
        guard let dtype = entry.dtype.dtype else {
            throw CheckpointError.unsupported(
                path: file.url.path,
                reason: "tensor \(entry.name) has the element type \(entry.dtype.rawValue)",
                remedy: "convert it to F32, F16 or BF16")
        }
        return try file.tensor(entry.byteRange, elements: elements, dtype: dtype)
    }
}

extension MappedFile {
    /// Elements of the data in `range`, `[elements.count]`.
    func tensor(
        _ range: Range<Int>, elements: Range<Int>, dtype: DType
    ) throws(TorchError) -> Tensor {
        let start = range.lowerBound + elements.lowerBound * dtype.sizeBytes
        return try tensor(
            start..<(start + elements.count * dtype.sizeBytes), shape: [elements.count],
            dtype: dtype)
    }

    /// A tensor over `range`, or a copy of it where the data is not aligned.
    func tensor(_ range: Range<Int>, shape: [Int], dtype: DType) throws(TorchError) -> Tensor {
        guard !range.isEmpty else { return try Tensor.empty(shape, dtype: dtype) }
        let owner = MappedRange(self, range)
        guard range.lowerBound % dtype.sizeBytes != 0 else {
            return try Tensor.wrapping(
                baseAddress + range.lowerBound, shape: shape, dtype: dtype, keeping: owner)
        }
        let copy = try Tensor.empty(shape, dtype: dtype)
        owner.withBytes { bytes in copy.withUnsafeMutableBytes { $0.copyMemory(from: bytes) } }
        return copy
    }
}

extension SafetensorsTensor {
    /// A tensor in memory.
    public init(name: String, _ tensor: Tensor) {
        self.init(name: name, shape: tensor.shape, dtype: tensor.dtype) { tensor }
    }

    /// A tensor, on any device, that is computed when its turn to be written comes, and dropped afterwards.
    ///
    /// - Parameters:
    ///   - name: the tensor's name.
    ///   - shape: the extents it will have.
    ///   - dtype: the element type it will have.
    ///   - make: computes the tensor.
    public init(
        name: String, shape: [Int], dtype: DType, make: @escaping () throws -> Tensor
    ) {
        self.init(name: name, dtype: SafetensorsDType(dtype), shape: shape) { body in
            let tensor = try make().contiguous()
            precondition(
                tensor.shape == shape && tensor.dtype == dtype,
                "tensor \(name) was announced as \(dtype.name)\(shape), but is \(tensor.summary)")
            try tensor.to(.cpu).withUnsafeBytes { (bytes) throws in try body(bytes) }
        }
    }
}
