import CKernels
import Foundation
import PEFTLayers
import PEFTQuantization
import TestSupport
import Testing
import Torch

/// A 4-bit weight computes as the dense weight that it decodes to.
@Suite struct FourBitWeightTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let config: QuantizationConfig
        let dtype: DType
        /// outFeatures, inFeatures.
        let shape: [Int]
        var testDescription: String { "\(config.quantType.rawValue) \(dtype.name) \(shape)" }
    }

    static let cases = QuantType.allCases.flatMap { quantType in
        [DType.float32, .bfloat16].flatMap { dtype in
            [[48, 64], [33, 50]].map { shape in
                Case(
                    config: QuantizationConfig(quantType: quantType), dtype: dtype, shape: shape)
            }
        }
    }

    func makeWeight(_ subject: Case) throws -> FourBitWeight {
        let dense = try Tensor.normal(subject.shape, generator: Generator(seed: 1))
        return FourBitWeight(try FourBitTensor(quantizing: dense, config: subject.config))
    }

    func makeInput(_ subject: Case) throws -> Tensor {
        try Tensor.normal([5, subject.shape[1]], generator: Generator(seed: 2)).to(subject.dtype)
    }

    @Test(arguments: cases)
    func productEqualsThatOfTheDecodedWeight(_ subject: Case) throws {
        let weight = try makeWeight(subject)
        let input = try makeInput(subject)
        let output = try weight.apply(to: input)
        let product = subject.dtype.forProducts
        let expected = try input.to(product).linear(weight.tensor.dequantized(to: product))
            .to(subject.dtype)
        #expect(output.dtype == subject.dtype)
        #expect(output.shape == [5, subject.shape[0]])
        #expect(output.bytes == expected.bytes)
    }

    @Test(arguments: cases)
    func inputGradientEqualsTheDenseOne(_ subject: Case) throws {
        let weight = try makeWeight(subject)
        let product = subject.dtype.forProducts
        let dense = try weight.tensor.dequantized(to: product)
        let gradient = try Tensor.normal([5, subject.shape[0]], generator: Generator(seed: 3))
            .to(subject.dtype)
        let frozenInput = try makeInput(subject)
        let denseInput = try makeInput(subject)
        try frozenInput.setRequiresGrad(true)
        try denseInput.setRequiresGrad(true)
        try weight.apply(to: frozenInput).backward(gradient: gradient)
        try denseInput.to(product).linear(dense).to(subject.dtype).backward(gradient: gradient)
        let found = try #require(frozenInput.grad)
        let expected = try #require(denseInput.grad)
        #expect(found.dtype == subject.dtype)
        #expect(found.bytes == expected.bytes)
    }

    /// Block sizes, nested scales, and rows that begin and end within a block or a byte of codes.
    @Test(
        .enabled(
            if: InstructionSet.avx512bf16.isSupported, "this processor lacks the instructions"),
        arguments: [[48, 64], [34, 50], [130, 198]], [64, 256])
    func panelsAreTheDecodedWeight(_ shape: [Int], _ blockSize: Int) throws {
        for (quantType, isNested) in [(QuantType.nf4, true), (.nf4, false), (.fp4, true)] {
            let config = QuantizationConfig(
                quantType: quantType, blockSize: blockSize, usesDoubleQuantization: isNested)
            let weight = FourBitWeight(
                try FourBitTensor(
                    quantizing: Tensor.normal(shape, generator: Generator(seed: 1)), config: config)
            )
            let decoded = try weight.tensor.dequantized(to: .bfloat16)
            let dense = DenseWeight(
                try Parameter(path: "dense", value: decoded, isTrainable: false))
            func result(_ weight: any LinearWeight) throws -> [Data] {
                let input = try Tensor.normal([7, shape[1]], generator: Generator(seed: 2))
                    .to(.bfloat16)
                try input.setRequiresGrad(true)
                let kernel = try #require(
                    try LinearKernel(for: input, weight: weight, bias: nil, term: nil))
                let output = try #require(try kernel(Recomputable(kept: input)))
                try output.backward(gradient: output.detach())
                return [try output.detach().bytes, try #require(input.grad).bytes]
            }
            #expect(try result(weight) == result(dense))
        }
    }

    /// Tiles that begin and end within a block or a byte of codes, on each instruction set.
    @Test(arguments: [[48, 64], [33, 51], [130, 198]], [32, 64, 256])
    func tilesOfFloat32NumbersAreTheDecodedWeight(_ shape: [Int], _ blockSize: Int) throws {
        for (quantType, isNested) in [(QuantType.nf4, true), (.nf4, false), (.fp4, true)] {
            let config = QuantizationConfig(
                quantType: quantType, blockSize: blockSize, usesDoubleQuantization: isNested)
            let weight = FourBitWeight(
                try FourBitTensor(
                    quantizing: Tensor.normal(shape, generator: Generator(seed: 1)), config: config)
            )
            let panels = try #require(try weight.panels())
            let expected = try weight.dequantized().floats()
            for set in InstructionSet.allCases where set.isSupported {
                for (rows, columns) in [(0..<shape[0], 0..<shape[1]), (3..<30, 5..<38)] {
                    var tile = [Float](repeating: .nan, count: rows.count * columns.count)
                    withUnsafePointer(to: panels.source) { source in
                        source.pointee.decode_float32(
                            set.rawValue, source, Int64(rows.lowerBound), Int64(rows.upperBound),
                            Int64(columns.lowerBound), Int64(columns.upperBound), &tile,
                            Int64(columns.count))
                    }
                    let part = rows.flatMap { row in
                        columns.map { expected[row * shape[1] + $0] }
                    }
                    #expect(tile == part, "\(set.name), \(config)")
                }
            }
        }
    }

    /// In float32 products an identity gives back the weight, decoded to float32 and rounded to nothing less.
    @Test(arguments: InstructionSet.allCases.filter { $0 != .portable && $0.isSupported })
    func kernelMultipliesWithTheDecodedWeight(on instructionSet: InstructionSet) throws {
        let shape = [67, 51]
        let weight = try makeWeight(
            Case(config: QuantizationConfig(), dtype: .float32, shape: shape))
        let ones = (0..<51 * 51).map { Float($0 / 51 == $0 % 51 ? 1 : 0) }
        let identity = try Tensor(ones, shape: [51, 51])
        let kernel = try #require(
            try LinearKernel(
                for: identity, weight: weight, bias: nil, term: nil, instructionSet: instructionSet)
        )
        let found = try #require(try kernel(Recomputable(kept: identity)))
        #expect(try found.bytes == weight.dequantized().transposed().contiguous().bytes)
    }

    @Test func weightIsFrozen() throws {
        let weight = try makeWeight(Self.cases[0])
        let input = try makeInput(Self.cases[0])
        #expect(try !weight.apply(to: input).requiresGrad)
        #expect(!weight.tensor.packed.requiresGrad)
        #expect(try !weight.dequantized().requiresGrad)
        try input.setRequiresGrad(true)
        #expect(try weight.apply(to: input).requiresGrad)
    }

    @Test func batchedInputKeepsItsLeadingDimensions() throws {
        let weight = try makeWeight(Self.cases[0])
        let input = try Tensor.normal([2, 3, 64], generator: Generator(seed: 4))
        try input.setRequiresGrad(true)
        let output = try weight.apply(to: input)
        #expect(output.shape == [2, 3, 48])
        try output.sum().backward()
        #expect(input.grad?.shape == [2, 3, 64])
    }

    @Test func decodedWeightIsFloat32() throws {
        let weight = try makeWeight(Self.cases[0])
        #expect(try weight.dequantized().dtype == .float32)
        #expect(weight.storageDescription == "nf4, block 64, double quantized")
        // 1,536 codes of 48 x 64, 48 codes of absmax, one scale, a codebook of 256.
        #expect(weight.sizeBytes == 1536 + 48 + 4 + 1024)
        #expect(weight.dense == nil)
    }

    @Test func wrongComputeDTypeIsRefused() throws {
        let weight = try makeWeight(Self.cases[0])
        let input = try Tensor.zeros([2, 64], dtype: .float64)
        let error = #expect(throws: TorchError.self) { try weight.apply(to: input) }
        #expect(
            error?.description
                == """
                dequantize(nf4, block 64, double quantized): expected float32, bfloat16 or float16 \
                to compute in, found float64
                """)
    }

    // MARK: Parts

    /// Rows of a stack of matrices, which begin and end within blocks, decoded and multiplied are those of the whole.
    @Test(arguments: [[3, 33, 51], [4, 32, 64], [5, 6, 130]], [32, 64, 256])
    func rowsAreThoseOfTheWhole(_ shape: [Int], _ blockSize: Int) throws {
        for (quantType, isNested) in [(QuantType.nf4, true), (.nf4, false), (.fp4, true)] {
            let config = QuantizationConfig(
                quantType: quantType, blockSize: blockSize, usesDoubleQuantization: isNested)
            let values = try Tensor.normal(shape, generator: Generator(seed: 4))
            let whole = FourBitWeight(try FourBitTensor(quantizing: values, config: config))
            #expect(whole.outFeatures == shape[0] * shape[1])
            let all = try whole.dequantized()
            let input = try Tensor.normal([9, shape[2]], generator: Generator(seed: 5))
            for start in stride(from: 0, to: whole.outFeatures, by: shape[1]) {
                let part = try whole.rows(start..<start + shape[1])
                let expected = try all.narrow(0, start, shape[1])
                #expect(part.outFeatures == shape[1] && part.inFeatures == shape[2])
                #expect(try part.dequantized().isEqual(to: expected))
                try expectSameProduct(part, DenseWeight(parameter(expected)), input)
                let nested = try part.rows(1..<shape[1])
                #expect(
                    try nested.dequantized().isEqual(to: expected.narrow(0, 1, shape[1] - 1)))
            }
        }
    }

    private func parameter(_ value: Tensor) throws -> Parameter {
        try Parameter(path: "w", value: value.contiguous(), isTrainable: false)
    }

    /// Output and input gradient, from libtorch's operations and from the kernels of each instruction set.
    private func expectSameProduct(
        _ weight: any LinearWeight, _ dense: DenseWeight, _ input: Tensor
    ) throws {
        func result(
            _ apply: (Tensor) throws -> Tensor
        ) throws -> (output: [Float], gradient: [Float]) {
            let leaf = try input.clone()
            try leaf.setRequiresGrad(true)
            let output = try apply(leaf)
            try output.backward(gradient: output.detach())
            return (try output.detach().floats(), try #require(leaf.grad).floats())
        }
        let expected = try result { try dense.apply(to: $0) }
        let plain = try result { try weight.apply(to: $0) }
        #expect(Tolerance.relativeError(plain.output, expected.output) < 1e-6)
        #expect(Tolerance.relativeError(plain.gradient, expected.gradient) < 1e-6)
        for set in InstructionSet.allCases where set != .portable && set.isSupported {
            let kernel = try LinearKernel(
                for: input, weight: weight, bias: nil, term: nil, instructionSet: set)
            guard let kernel else { continue }
            let found = try result { try #require(try kernel(Recomputable(kept: $0))) }
            #expect(Tolerance.relativeError(found.output, expected.output) < 1e-5)
            #expect(Tolerance.relativeError(found.gradient, expected.gradient) < 1e-5)
        }
    }

    @Test func rowsThatAreNotThereAreRefused() throws {
        let tensor = try FourBitTensor(
            quantizing: Tensor.ones([4, 32]), config: QuantizationConfig(blockSize: 32))
        let error = #expect(throws: TorchError.self) { try FourBitWeight(tensor).rows(2..<5) }
        #expect(error?.message == "rows 2..<5 of a weight of 4")
    }

    /// What is read in pieces is quantized as what is read at once.
    @Test(arguments: [64, 128, 4096])
    func piecesMakeTheSameBytes(_ numElementsOfPiece: Int) throws {
        let values = try Tensor.normal([5, 7, 33], generator: Generator(seed: 6))
        let config = QuantizationConfig(blockSize: 64)
        var ranges: [Range<Int>] = []
        let pieced = try FourBitTensor(
            path: "w", shape: [5, 7, 33], config: config, placement: WholePlacement(),
            numElementsOfPiece: numElementsOfPiece
        ) { range in
            ranges.append(range)
            return try values.reshape([-1]).narrow(0, range.lowerBound, range.count)
        }
        let whole = try FourBitTensor(quantizing: values, config: config)
        #expect(pieced.packed.bytes == whole.packed.bytes)
        #expect(try pieced.dequantized(to: .float32).isEqual(to: whole.dequantized(to: .float32)))
        #expect(ranges.count == (1155 + numElementsOfPiece - 1) / numElementsOfPiece)
    }
}
