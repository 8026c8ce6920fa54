import Foundation
import PEFTQuantization
import Testing
import Torch

/// Parity with bitsandbytes, byte for byte.
@Suite struct FourBitTensorTests {
    static let small: [FourBitFixture] = (try? fixture("fourbit", as: [FourBitFixture].self)) ?? []
    static let hashed: [HashedFixture] = (try? fixture("hashed", as: [HashedFixture].self)) ?? []

    @Test func fixturesAreThere() {
        #expect(Self.small.count == 56)
        #expect(Self.hashed.count == 116)
        #expect(Self.small.filter { $0.nested != nil }.count == 42)
    }

    @Test func codebooksEqualBitsandbytes() throws {
        let expected = try fixture("codebooks", as: CodebookFixture.self)
        #expect(NF4.codebook.withUnsafeBytes { Data($0) } == expected.nf4)
        // FP4's second zero is positive there, so bytes can be compared.
        #expect(FP4.codebook.withUnsafeBytes { Data($0) } == expected.fp4)
        #expect(DynamicMap.codebook.withUnsafeBytes { Data($0) } == expected.dynamic)
        #expect(QuantType.nf4.codebook == NF4.codebook)
        #expect(QuantType.fp4.codebook == FP4.codebook)
    }

    @Test(arguments: small)
    func bytesEqualBitsandbytes(_ expected: FourBitFixture) throws {
        let dtype = try #require(DType(name: expected.dtype))
        let input = try Tensor.filled(expected.input, shape: expected.shape, dtype: dtype)
        let config = QuantizationConfig(
            quantType: expected.quantType, blockSize: expected.blockSize,
            usesDoubleQuantization: false)
        let result = try FourBitTensor(quantizing: input, config: config)
        #expect(result.packed.bytes == expected.packed)
        #expect(try result.absmax.decoded().bytes == expected.absmax)
        #expect(result.sourceDType == dtype)
        #expect(result.sizeBytes == expected.packed.count + expected.absmax.count)
        try expectDecoded(result, expected.dequantized)
    }

    @Test(arguments: small.filter { $0.nested != nil })
    func nestedBytesEqualBitsandbytes(_ expected: FourBitFixture) throws {
        let dtype = try #require(DType(name: expected.dtype))
        let nestedExpected = try #require(expected.nested)
        let input = try Tensor.filled(expected.input, shape: expected.shape, dtype: dtype)
        let config = QuantizationConfig(
            quantType: expected.quantType, blockSize: expected.blockSize)
        let result = try FourBitTensor(quantizing: input, config: config)
        guard case .nested(let nested) = result.absmax else {
            Issue.record("double quantization is on")
            return
        }
        #expect(result.packed.bytes == expected.packed)
        #expect(nested.codes.bytes == nestedExpected.codes)
        #expect(nested.scales.bytes == nestedExpected.scales)
        #expect(withUnsafeBytes(of: nested.offset) { Data($0) } == nestedExpected.offset)
        try expectDecoded(result, nestedExpected.dequantized)
    }

    @Test(arguments: hashed)
    func checksumsEqualBitsandbytes(_ expected: HashedFixture) throws {
        let dtype = try #require(DType(name: expected.dtype))
        let count = expected.shape.reduce(1, *)
        let numbers = formula(count: count, bits: expected.bits, salt: expected.salt)
        let input = try Tensor(numbers, shape: expected.shape).to(dtype)
        let config = QuantizationConfig(
            quantType: expected.quantType, blockSize: expected.blockSize,
            usesDoubleQuantization: expected.nested != nil)
        let result = try FourBitTensor(quantizing: input, config: config)
        #expect(result.packed.checksum == expected.packed)
        switch result.absmax {
        case .plain(let absmax):
            #expect(absmax.checksum == expected.absmax)
            #expect(expected.nested == nil)
        case .nested(let nested):
            #expect(nested.codes.checksum == expected.absmax)
            #expect(nested.scales.checksum == expected.nested?.scales)
            #expect(nested.offset == expected.nested?.offset)
            #expect(try nested.decoded().checksum == expected.nested?.decoded)
        }
        try expectDecoded(result, expected.dequantized)
    }

    private func expectDecoded(_ tensor: FourBitTensor, _ expected: [String: UInt32]) throws {
        for dtype in [DType.float32, .bfloat16, .float16] {
            let decoded = try tensor.dequantized(to: dtype)
            #expect(decoded.shape == tensor.shape)
            #expect(decoded.dtype == dtype)
            #expect(decoded.checksum == expected[dtype.name], "\(dtype.name)")
        }
    }

    // MARK: - Other behaviour

    @Test(arguments: QuantType.allCases)
    func roundTripErrorIsWithinHalfAGap(_ quantType: QuantType) throws {
        let levels = quantType.codebook.sorted()
        let widestGap = zip(levels, levels.dropFirst()).map { $1 - $0 }.max() ?? 0
        let input = try Tensor.normal([37, 53], generator: Generator(seed: 5))
        let config = QuantizationConfig(
            quantType: quantType, blockSize: 32, usesDoubleQuantization: false)
        let result = try FourBitTensor(quantizing: input, config: config)
        let scales = try result.absmax.decoded().floats()
        let decoded = try result.dequantized(to: .float32).floats()
        for (index, (before, after)) in zip(try input.floats(), decoded).enumerated() {
            let bound = widestGap / 2 * scales[index / 32]
            #expect(abs(before - after) <= bound * (1 + 8 * .ulpOfOne))
        }
    }

    @Test func quantizingDecodedValuesAgainChangesNothing() throws {
        let input = try Tensor.normal([64, 48], generator: Generator(seed: 6))
        let config = QuantizationConfig(usesDoubleQuantization: false)
        let once = try FourBitTensor(quantizing: input, config: config)
        let twice = try FourBitTensor(quantizing: once.dequantized(to: .float32), config: config)
        #expect(once.packed.bytes == twice.packed.bytes)
        #expect(try once.absmax.decoded().bytes == twice.absmax.decoded().bytes)
    }

    @Test func stridedTensorsAreReadInTheirOwnOrder() throws {
        let input = try Tensor.normal([6, 64], generator: Generator(seed: 7))
        let strided = try input.transposed(0, 1)
        let config = QuantizationConfig()
        let fromStrided = try FourBitTensor(quantizing: strided, config: config)
        let fromCopy = try FourBitTensor(quantizing: strided.contiguous(), config: config)
        #expect(fromStrided.shape == [64, 6])
        #expect(fromStrided.packed.bytes == fromCopy.packed.bytes)
    }

    @Test func emptyTensorHasNoBlocks() throws {
        let config = QuantizationConfig(usesDoubleQuantization: false)
        let result = try FourBitTensor(quantizing: Tensor.empty([0, 4]), config: config)
        #expect(result.sizeBytes == 0)
        #expect(try result.dequantized(to: .float32).shape == [0, 4])
    }

    @Test func storageIsNamed() throws {
        let input = try Tensor.ones([2, 64])
        let nested = try FourBitTensor(quantizing: input, config: QuantizationConfig())
        let plain = try FourBitTensor(
            quantizing: input,
            config: QuantizationConfig(
                quantType: .fp4, blockSize: 128, usesDoubleQuantization: false))
        #expect(nested.storageDescription == "nf4, block 64, double quantized")
        #expect(plain.storageDescription == "fp4, block 128")
    }
}
