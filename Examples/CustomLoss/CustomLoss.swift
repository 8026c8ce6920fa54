// Trains with a loss of one's own: the focal loss, which learns less from what the model knows already.
//
//   CustomLoss MODEL
import Foundation
import PEFT

/// `loss = sum over targets of (1 - p)^γ (-log p)`, divided by the step's number of targets.
///
/// - Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4.
struct FocalLoss: Objective {
    let gamma: Double

    func divisor(of share: BatchSchedule.Share) -> Double {
        Double(max(1, share.numTargetTokens))
    }

    func callAsFunction(
        _ batch: TokenBatch, of share: BatchSchedule.Share, _ forward: ForwardPass
    ) throws -> ObjectiveValue {
        // -log p of every target, from the kernel that makes no logits.
        let negativeLogs = try forward.losses(batch, true).each
        let missing = try negativeLogs.negated().exp().negated() + 1
        return ObjectiveValue(output: try (missing.power(gamma) * negativeLogs).sum())
    }
}

@main struct CustomLoss {
    static func main() throws {
        guard CommandLine.arguments.count == 2 else {
            print("usage: CustomLoss MODEL")
            exit(2)
        }
        let base = try BaseModel(
            at: URL(filePath: CommandLine.arguments[1]),
            options: BaseModelOptions(
                quantization: QuantizationConfig(blockSize: 32), computeDType: .float32))
        var lora = LoRAConfig(r: 4, loraAlpha: 8, targetModules: .allLinear)
        lora.taskType = "CAUSAL_LM"
        let rows = TokenBatch([
            TokenSequence(
                tokens: [3, 1, 4, 1, 5, 9, 2, 6], isTarget: Array(repeating: true, count: 8), row: 0
            )
        ])
        let ready = try ReadyModel(
            checking: ShardedModel(AdaptedModel(base, adapter: lora, seed: 1)), sample: rows)
        // Accumulation, clipping, loss scaling and what is said of a loss that is not finite are those of every run.
        let step = try TrainStep(
            ready, optimizer: Optimizer(ready, rule: AdamW()),
            schedule: LearningRateSchedule(
                peak: 1e-2, kind: .constant, warmupSteps: 0, totalSteps: 20), maxGradNorm: 1,
            seed: 1, objective: FocalLoss(gamma: 2))
        for index in 0..<20 {
            let result = try step(step: index, microBatches: [rows])
            print("step \(index + 1): loss \(result.loss)")
        }
    }
}
