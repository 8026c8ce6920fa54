import Foundation
import PEFTQuantization
import TestSupport
import Testing
import Torch

/// Reads the files that `scripts/fixtures/quantization.py` made.
func fixture<Contents: Decodable>(_ name: String, as type: Contents.Type) throws -> Contents {
    let data = try Data(contentsOf: Checkout.fixture("quantization/\(name).json"))
    return try JSONDecoder().decode(type, from: data)
}

/// The codebooks of bitsandbytes, as bytes.
struct CodebookFixture: Decodable {
    let nf4: Data
    let fp4: Data
    let dynamic: Data
}

/// A small tensor and what bitsandbytes makes of it.
struct FourBitFixture: Decodable, Sendable, CustomTestStringConvertible {
    struct Nested: Decodable, Sendable {
        let codes: Data
        let scales: Data
        let offset: Data
        let dequantized: [String: UInt32]
    }

    let name: String
    let quantType: QuantType
    let dtype: String
    let blockSize: Int
    let shape: [Int]
    let input: Data
    let packed: Data
    let absmax: Data
    let dequantized: [String: UInt32]
    let nested: Nested?

    var testDescription: String { name }
}

/// A larger tensor of a formula, and the checksums of what bitsandbytes makes of it.
struct HashedFixture: Decodable, Sendable, CustomTestStringConvertible {
    struct Nested: Decodable, Sendable {
        let scales: UInt32
        let offset: Float
        let decoded: UInt32
    }

    let name: String
    let quantType: QuantType
    let dtype: String
    let blockSize: Int
    let shape: [Int]
    let bits: UInt32
    let salt: UInt32
    let packed: UInt32
    let absmax: UInt32
    let dequantized: [String: UInt32]
    let nested: Nested?

    var testDescription: String { name }
}

/// GGUF blocks and what they decode to.
struct GGUFFixture: Decodable, Sendable, CustomTestStringConvertible {
    let name: String
    let type: UInt32
    let blockSize: Int
    let bytesPerBlock: Int
    let shape: [Int]
    let bytes: Data
    let values: Data
    let noise: Data
    let noiseValues: UInt32

    var testDescription: String { name }
}

/// The fixture script's formula: integers of `bits` bits from a hash of the index, scaled into [-1, 1).
func formula(count: Int, bits: UInt32, salt: UInt32) -> [Float] {
    let scales = (0..<4).map { Float(sign: .plus, exponent: 1 - Int(bits) - $0, significand: 1) }
    let middle = Int32(1) << (bits - 1)
    return [Float](unsafeUninitializedCapacity: count) { target, initializedCount in
        for index in 0..<count {
            var hash = (UInt32(truncatingIfNeeded: index) &+ salt) &* 2_654_435_761
            hash = (hash ^ (hash >> 16)) &* 0x85eb_ca6b
            hash = (hash ^ (hash >> 13)) &* 0xc2b2_ae35
            hash ^= hash >> 16
            target[index] = Float(Int32(hash >> (32 - bits)) - middle) * scales[Int(hash & 3)]
        }
        initializedCount = count
    }
}

private let crcTable: [UInt32] = (0..<256).map { byte in
    (0..<8).reduce(UInt32(byte)) { value, _ in
        (value >> 1) ^ (value & 1 == 1 ? 0xedb8_8320 : 0)
    }
}

/// CRC-32 as in zlib; a plain loop, since tests in debug check megabytes.
func crc32(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    crcTable.withUnsafeBufferPointer { table in
        var crc = ~UInt32(0)
        var index = 0
        while index < bytes.count {
            crc = (crc >> 8) ^ table[Int((crc ^ UInt32(bytes[index])) & 255)]
            index &+= 1
        }
        return ~crc
    }
}

extension Tensor {
    /// A tensor with these bytes.
    static func filled(_ bytes: Data, shape: [Int], dtype: DType) throws -> Tensor {
        let tensor = try Tensor.empty(shape, dtype: dtype)
        tensor.withUnsafeMutableBytes { $0.copyBytes(from: bytes) }
        return tensor
    }

    /// The elements' bytes.
    var bytes: Data { withUnsafeBytes { Data($0) } }

    /// CRC-32 of the elements' bytes.
    var checksum: UInt32 { withUnsafeBytes { crc32($0) } }
}
