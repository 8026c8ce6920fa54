import PEFTLayers
import PEFTQuantization
import Testing
import Torch

/// Quantizes linear weights while they are read, and nothing else.
@Suite struct QuantizingSourceTests {
    /// Counts what is asked for, and whether the last tensor it gave away still lives.
    final class RecordingSource: ParameterSource {
        let base = RandomSource(seed: 3)
        let dtype: DType
        private(set) var paths: [String] = []
        private(set) var mostAlive = 0
        private var given: [WeakTensor] = []

        struct WeakTensor {
            weak var tensor: Tensor?
        }

        init(dtype: DType = .float32) {
            self.dtype = dtype
        }

        func tensor(at path: String, shape: [Int]) throws -> Tensor {
            paths.append(path)
            let tensor = try base.tensor(at: path, shape: shape).to(dtype).clone()
            mostAlive = max(mostAlive, given.count { $0.tensor != nil } + 1)
            given.append(WeakTensor(tensor: tensor))
            return tensor
        }
    }

    @Test func linearWeightsAreQuantized() throws {
        let base = RecordingSource(dtype: .bfloat16)
        let source = try QuantizingSource(base)
        let weight = try source.linearWeight(
            at: "model.layers.0.mlp.up_proj.weight", shape: [24, 64])
        let fourBit = try #require(weight as? FourBitWeight)
        #expect(base.paths == ["model.layers.0.mlp.up_proj.weight"])
        #expect(fourBit.tensor.sourceDType == .bfloat16)
        let dense = try base.tensor(at: "model.layers.0.mlp.up_proj.weight", shape: [24, 64])
        let expected = try FourBitTensor(quantizing: dense, config: QuantizationConfig())
        #expect(fourBit.tensor.packed.bytes == expected.packed.bytes)
    }

    @Test func otherTensorsPassThrough() throws {
        let base = RecordingSource()
        let source = try QuantizingSource(base)
        let tensor = try source.tensor(at: "model.embed_tokens.weight", shape: [10, 4])
        #expect(tensor.dtype == .float32)
        #expect(tensor.shape == [10, 4])
    }

    @Test(arguments: [
        ("lm_head", true), ("model.lm_head", true), ("model.lm_head_extra", false),
        ("model.layers.3.mlp.up_proj", true), ("model.layers.30.mlp.up_proj", false),
        ("model.layers.1.mlp.gate_proj", true), ("model.layers.1.mlp.down_proj", false),
    ])
    func skippedModulesMatchWholeComponents(_ path: String, _ isSkipped: Bool) throws {
        let source = try QuantizingSource(
            RecordingSource(), skippedModules: ["lm_head", "layers.3", "mlp.gate_proj"])
        let weight = try source.linearWeight(at: path + ".weight", shape: [4, 8])
        #expect(weight is DenseWeight == isSkipped)
        #expect(weight is FourBitWeight == !isSkipped)
    }

    @Test func oneFullTensorLivesAtATime() throws {
        let base = RecordingSource()
        let source = try QuantizingSource(base)
        var weights: [any LinearWeight] = []
        for layer in 0..<5 {
            weights.append(
                try source.linearWeight(at: "layers.\(layer).weight", shape: [16, 64]))
        }
        #expect(weights.count == 5)
        #expect(base.mostAlive == 1)
    }

    @Test func wrongBlockSizeIsRefusedAtOnce() {
        let config = QuantizationConfig(blockSize: 48)
        let error = #expect(throws: QuantizationError.self) {
            try QuantizingSource(RecordingSource(), config: config)
        }
        #expect(error == .invalidBlockSize(48))
    }

    @Test func integerWeightIsRefused() throws {
        let source = try QuantizingSource(RecordingSource(dtype: .uint8))
        let error = #expect(throws: QuantizationError.self) {
            try source.linearWeight(at: "layers.0.weight", shape: [4, 8])
        }
        #expect(error == .unsupportedDType(path: "layers.0.weight", found: .uint8))
    }
}
