import PEFTLayers
import PEFTQuantization
import Testing
import Torch

/// Every instruction set gives the same bits, for any count, block size and dtype.
@Suite struct FourBitCodecTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let quantType: QuantType
        let instructionSet: InstructionSet
        let dtype: DType
        var testDescription: String { "\(quantType.rawValue) \(instructionSet) \(dtype.name)" }
    }

    static let cases = QuantType.allCases.flatMap { quantType in
        InstructionSet.allCases.filter { $0 != .portable && $0.isSupported }
            .flatMap { instructionSet in
                [DType.float32, .bfloat16, .float16].map {
                    Case(quantType: quantType, instructionSet: instructionSet, dtype: $0)
                }
            }
    }

    struct Coded: Equatable {
        var packed: [UInt8]
        var absmax: [Float]
        var firstInvalidBlock: Int?
    }

    func coded(_ input: Tensor, _ codec: FourBitCodec) -> Coded {
        let count = input.numElements
        var result = Coded(
            packed: .init(repeating: 0xa5, count: (count + 1) / 2),
            absmax: .init(repeating: -1, count: codec.numBlocks(count)))
        let dtype = input.dtype
        result.firstInvalidBlock = input.withUnsafeBytes { input in
            result.packed.withUnsafeMutableBytes { packed in
                result.absmax.withUnsafeMutableBufferPointer { absmax in
                    codec.quantize(input, dtype: dtype, packed: packed, absmax: absmax)
                }
            }
        }
        return result
    }

    func decoded(_ coded: Coded, count: Int, _ dtype: DType, _ codec: FourBitCodec) -> [UInt8] {
        var output = [UInt8](repeating: 0xa5, count: count * dtype.sizeBytes)
        coded.packed.withUnsafeBytes { packed in
            coded.absmax.withUnsafeBufferPointer { absmax in
                output.withUnsafeMutableBytes { output in
                    codec.dequantize(packed, absmax: absmax, into: output, dtype: dtype)
                }
            }
        }
        return output
    }

    @Test(arguments: cases)
    func equalsPortable(_ subject: Case) throws {
        for blockSize in QuantizationConfig.blockSizes {
            let portable = try FourBitCodec(
                quantType: subject.quantType, blockSize: blockSize, instructionSet: .portable)
            let faster = try FourBitCodec(
                quantType: subject.quantType, blockSize: blockSize,
                instructionSet: subject.instructionSet)
            for count in [1, 2, 15, 31, 32, 33, 63, 65, 500, 4095, 4097, 8225] {
                let numbers = formula(count: count, bits: 24, salt: UInt32(count + blockSize))
                let input = try Tensor(numbers, shape: [count]).to(subject.dtype)
                let expected = coded(input, portable)
                #expect(coded(input, faster) == expected, "\(count), block \(blockSize)")
                #expect(
                    decoded(expected, count: count, subject.dtype, faster)
                        == decoded(expected, count: count, subject.dtype, portable),
                    "\(count), block \(blockSize)")
            }
        }
    }

    /// Rounding of every kind: overflow to infinity, subnormal results, zero.
    @Test(arguments: cases)
    func decodesExtremeScalesAsPortable(_ subject: Case) throws {
        let scales: [Float] = [
            0, 0x1p-149, 0x1p-133, 0x1.8p-127, 5.9e-8, 6.1e-5, 65504, 65520, 70000, 1e30, 3.4e38,
        ]
        let portable = try FourBitCodec(
            quantType: subject.quantType, blockSize: 32, instructionSet: .portable)
        let faster = try FourBitCodec(
            quantType: subject.quantType, blockSize: 32, instructionSet: subject.instructionSet)
        let packed = (0..<16 * scales.count).map { UInt8(truncatingIfNeeded: $0 * 37) }
        let input = Coded(packed: packed, absmax: scales)
        let count = packed.count * 2
        #expect(
            decoded(input, count: count, subject.dtype, faster)
                == decoded(input, count: count, subject.dtype, portable))
    }

    @Test func firstOfTwoCodesIsTheHighNibble() throws {
        let codec = try FourBitCodec(quantType: .nf4, blockSize: 64)
        #expect(coded(try Tensor([Float(1), -1], shape: [2]), codec).packed == [0xf0])
    }

    @Test func oddCountIsFilledUpWithZero() throws {
        for (quantType, zero) in [(QuantType.nf4, UInt8(7)), (.fp4, 0)] {
            let codec = try FourBitCodec(quantType: quantType, blockSize: 64)
            let result = coded(try Tensor([Float(-1), 0, 0.5], shape: [3]), codec)
            #expect(result.packed.count == 2)
            #expect(result.packed[1] & 15 == zero)
        }
    }

    @Test(arguments: [Float.nan, -.nan, .infinity, -.infinity])
    func notFiniteElementsAreFound(_ value: Float) throws {
        for dtype in [DType.float32, .bfloat16, .float16] {
            for instructionSet in InstructionSet.allCases where instructionSet.isSupported {
                let codec = try FourBitCodec(
                    quantType: .nf4, blockSize: 32, instructionSet: instructionSet)
                var numbers = [Float](repeating: 0.5, count: 150)
                numbers[149] = value
                numbers[70] = value
                let input = try Tensor(numbers, shape: [150]).to(dtype)
                #expect(coded(input, codec).firstInvalidBlock == 2)
            }
        }
    }

    @Test func threadsChangeNothing() throws {
        for count in [32 * 7, 32 * 100 + 5] {
            let input = try Tensor(formula(count: count, bits: 24, salt: 1), shape: [count])
            let one = try FourBitCodec(quantType: .fp4, blockSize: 32)
            let expected = coded(input, one)
            let bytes = decoded(expected, count: count, .bfloat16, one)
            for maxThreads in [2, 3, 16] {
                let many = try FourBitCodec(
                    quantType: .fp4, blockSize: 32,
                    parallelism: BlockParallelism(
                        maxThreads: maxThreads, minElementsPerThread: 1))
                #expect(coded(input, many) == expected)
                #expect(decoded(expected, count: count, .bfloat16, many) == bytes)
            }
        }
    }

    /// Whichever thread meets one first.
    @Test func threadsReportTheFirstInvalidBlock() throws {
        var numbers = [Float](repeating: 0.25, count: 6400)
        numbers[6000] = .nan
        numbers[3000] = .infinity
        let codec = try FourBitCodec(
            quantType: .nf4, blockSize: 64,
            parallelism: BlockParallelism(maxThreads: 4, minElementsPerThread: 1))
        let result = coded(try Tensor(numbers, shape: [numbers.count]), codec)
        #expect(result.firstInvalidBlock == 3000 / 64)
    }

    @Test func bestInstructionSetIsSupported() {
        #expect(InstructionSet.best.isSupported)
        #expect(InstructionSet.portable.isSupported)
    }
}
