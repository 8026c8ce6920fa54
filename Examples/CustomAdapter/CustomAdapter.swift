// Trains a method of one's own, IA³, on a 4-bit base, and reads it again.
//
//   CustomAdapter MODEL OUTPUT
import Foundation
import PEFT

@main struct CustomAdapter {
    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 3 else { fatalUsage("CustomAdapter MODEL OUTPUT") }
        let (model, output) = (URL(filePath: arguments[1]), URL(filePath: arguments[2]))
        try AdapterMethods.register(IA3Config.self)

        let options = BaseModelOptions(
            quantization: QuantizationConfig(blockSize: 32), computeDType: .float32)
        let adapted = try AdaptedModel(
            BaseModel(at: model, options: options),
            adapter: IA3Config(targetModules: ["k_proj", "v_proj", "down_proj"]), seed: 1)
        let rows = TokenBatch([
            TokenSequence(
                tokens: [3, 1, 4, 1, 5, 9, 2, 6], isTarget: Array(repeating: true, count: 8), row: 0
            )
        ])
        // The proof that the loss reaches every factor; without it there is no step.
        let ready = try ReadyModel(checking: ShardedModel(adapted), sample: rows)
        let step = try TrainStep(
            ready, optimizer: Optimizer(ready, rule: AdamW()),
            schedule: LearningRateSchedule(
                peak: 0.05, kind: .constant, warmupSteps: 0, totalSteps: 20), maxGradNorm: 1,
            seed: 1)
        for index in 0..<20 {
            let result = try step(step: index, microBatches: [rows])
            print("step \(index + 1): loss \(result.loss)")
        }

        let tensors = try adapted.adapter.parameters.map { ($0.path, try $0.value.detach()) }
        try AdapterFolder.write(
            configuration: adapted.adapter.config.adapterConfigJSON(),
            tensors: Dictionary(uniqueKeysWithValues: tensors), base: adapted.base.fingerprint,
            to: output)
        let again = try AdaptedModel(
            BaseModel(at: model, options: options), loading: output, isTrainable: false)
        print("read again: \(again.adapter.adapters.count) layers")
    }

    private static func fatalUsage(_ usage: String) -> Never {
        print("usage: \(usage)")
        exit(2)
    }
}
