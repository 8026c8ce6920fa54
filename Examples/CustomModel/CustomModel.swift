// Registers a model family of one's own, makes a random model of it, and trains QLoRA on it.
//
//   CustomModel FOLDER
import Foundation
import PEFT

@main struct CustomModel {
    static func main() throws {
        guard CommandLine.arguments.count == 2 else {
            print("usage: CustomModel FOLDER")
            exit(2)
        }
        let folder = URL(filePath: CommandLine.arguments[1])
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try ModelRegistry.register(TinyDecoderConfig.self, as: "tiny_decoder")

        let config = folder.appending(path: "config.json")
        try Data(
            """
            {"model_type": "tiny_decoder", "vocab_size": 40, "hidden_size": 32, "intermediate_size": 64,
             "num_hidden_layers": 2, "num_attention_heads": 4, "rms_norm_eps": 1e-5}
            """.utf8
        ).write(to: config)
        let model = folder.appending(path: "model").path
        var options = InitModelOptions()
        (options.config, options.outputDir, options.dtype) = (config.path, model, .float32)
        print("\(try InitModel.run(options).numParameters) random parameters")

        let rows = folder.appending(path: "rows.jsonl")
        try Data(
            (0..<8).map { row in "{\"tokens\": [\(row + 1), 2, 3, \(row + 1), 2, 3]}\n" }
                .joined().utf8
        ).write(to: rows)
        // Everything that the command `train` does: quantized while reading, checked, checkpoints, reports.
        var run = FineTuneConfig(
            model: model, data: rows.path, outputDir: folder.appending(path: "adapter").path)
        run.targetModules = .allLinear
        run.quantBlockSize = 32
        run.learningRate = 1e-2
        run.maxSteps = 10
        run.gradientCheckpointing = true
        try FineTune.run(run) { event in
            if case .step(let metrics, _) = event { print(metrics.step, metrics.loss) }
        }
    }
}
