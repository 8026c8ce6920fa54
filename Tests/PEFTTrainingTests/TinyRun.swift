import Foundation
import PEFT
import PEFTTraining
import TrainingTestSupport

/// A fine-tuning run of a tiny model in a folder of its own.
struct TinyRun {
    /// The files of the run.
    let workspace: Workspace
    /// What the run is told; tests change it.
    var config: FineTuneConfig

    /// Describes a run in float32 on rows of tokens, every step logged.
    init(
        rows: [[Int]] = TinyRows.make(24), model: String = TinyModel.tied, steps: Int = 4
    ) throws {
        workspace = try Workspace()
        config = FineTuneConfig(
            model: model, data: try workspace.write(rows: rows),
            outputDir: workspace.path("out"))
        config.quantize = .none
        config.dtype = .float32
        config.loraR = 4
        config.loraAlpha = 8
        config.learningRate = 5e-3
        config.lrSchedulerType = .constant
        config.maxSteps = steps
        config.perDeviceTrainBatchSize = 4
        config.loggingSteps = 1
        config.threads = 1
    }

    /// The same files and settings with another output folder.
    func writing(to name: String) -> TinyRun {
        var copy = self
        copy.config.outputDir = workspace.path(name)
        return copy
    }

    /// The same with other settings and another output folder.
    func writing(to name: String, _ change: (inout FineTuneConfig) -> Void) -> TinyRun {
        var copy = writing(to: name)
        change(&copy.config)
        return copy
    }

    /// Runs, and gives all events; with `stopAfter` the run is asked to stop in that step.
    @discardableResult
    func run(stopAfter step: Int? = nil) throws -> [TrainingEvent] {
        var events: [TrainingEvent] = []
        let stop = StopRequest()
        try FineTune.run(config, stop: stop) { event in
            events.append(event)
            if case .step(let metrics, _) = event, metrics.step == step {
                stop.request(signal: SIGTERM)
            }
        }
        return events
    }

    /// The losses in `metrics.jsonl`.
    var losses: [Double] {
        get throws { try RunFiles.metric("loss", in: config.outputDir) }
    }

    /// The trained numbers.
    var adapter: [Float] {
        get throws { try RunFiles.adapter(in: config.outputDir) }
    }

    /// The bytes of the trained adapter.
    var adapterBytes: Data {
        get throws { try RunFiles.bytes(config.outputDir + "/adapter_model.safetensors") }
    }

    /// The loss of the run's rows in float32, on the base as the run stores it.
    func score(adapter: String?) throws -> Double {
        var options = ScoreOptions()
        options.model = config.model
        options.quantize = config.quantize
        options.quantBlockSize = config.quantBlockSize
        options.dtype = .float32
        options.data = config.data
        options.adapter = AdapterFolders(adapter.map { [$0] } ?? [])
        return try Score.run(options).loss
    }
}
