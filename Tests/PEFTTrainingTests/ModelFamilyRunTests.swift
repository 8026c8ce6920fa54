import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// A run of a model of each family; what families compute is tested beside them.
@Suite struct ModelFamilyRunTests {
    /// Fixtures of the models, one a family and kind of positions.
    static let models = [
        "rope-llama3", "rope-longrope", "mistral", "qwen2-window", "qwen3", "smollm3", "granite",
        "olmo2", "phi3", "gemma2", "gemma3", "mixtral", "qwen3-moe", "gpt-neox", "gpt2",
    ]
    private static let rows = (0..<24).map { row in
        (0..<(8 + row % 9)).map { 1 + (row * 5 + $0 * 3) % 18 }
    }

    private func run(_ model: String, _ dtype: ComputeDType) throws -> TinyRun {
        var run = try TinyRun(
            rows: Self.rows, model: Checkout.fixture("models/\(model)").path, steps: 16)
        run.config.quantize = .nf4
        run.config.dtype = dtype
        run.config.loraR = 8
        run.config.learningRate = 2e-2
        run.config.gradientCheckpointing = true
        run.config.gradientCheckpointingInterval = 2
        return run
    }

    @Test(arguments: models, [ComputeDType.bfloat16, .float32])
    func quantizedModelLearnsInAllItsLinears(model: String, dtype: ComputeDType) throws {
        let run = try run(model, dtype)
        try run.run()
        let losses = try run.losses
        #expect(losses.allSatisfy { $0.isFinite })
        let (first, last) = (losses.prefix(4).reduce(0, +) / 4, losses.suffix(4).reduce(0, +) / 4)
        #expect(last < 0.9 * first, "\(first) to \(last)")
    }

    /// What is predicted without weights is what the model takes, but for codebooks and rounding to 64 bytes.
    @Test(arguments: models)
    func planIsMadeFromTheConfigurationAlone(model: String) throws {
        var options = PlanOptions()
        options.config = try run(model, .bfloat16).config
        options.config.model += "/config.json"
        let plan = try Plan.run(options).plan
        let base = try BaseModel(
            at: Checkout.fixture("models/\(model)"),
            options: BaseModelOptions(
                quantization: QuantizationConfig(), computeDType: .bfloat16))
        let planned = plan.parts.first { $0.name == "base" }?.sizeBytes ?? 0
        let size = base.registry.sizeBytes
        #expect((size..<2 * size + 64 * 1024).contains(planned))
    }
}
