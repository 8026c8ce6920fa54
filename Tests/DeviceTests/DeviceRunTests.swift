import CSimulatedDevice
import Foundation
import PEFT
import PEFTTraining
import Synchronization
import TestSupport
import Testing
import TrainingTestSupport

/// Whole runs on the simulated device against the same runs in host memory.
@Suite(.serialized) struct DeviceRunTests {
    /// What a run is told besides files.
    struct Case: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let change: @Sendable (inout FineTuneConfig) -> Void

        init(_ name: String, _ change: @escaping @Sendable (inout FineTuneConfig) -> Void) {
            (testDescription, self.change) = (name, change)
        }
    }

    static let cases = [
        Case("dense") { $0.quantize = .none },
        Case("nf4") { _ in },
        Case("fp4, plain scales") {
            $0.quantize = .fp4
            $0.doubleQuant = false
        },
        Case("dropout, packing") {
            $0.loraDropout = 0.2
            $0.packing = true
            $0.maxLength = 24
            $0.perDeviceTrainBatchSize = 1
        },
        Case("accumulation, checkpointing") {
            $0.perDeviceTrainBatchSize = 1
            $0.gradientAccumulationSteps = 3
            $0.gradientCheckpointing = true
        },
        Case("offload optimizer") { $0.offload = .optimizer },
        Case("offload base") { $0.offload = .base },
        Case("offload all, checkpointing, accumulation") {
            $0.offload = .all
            $0.gradientCheckpointing = true
            $0.perDeviceTrainBatchSize = 2
            $0.gradientAccumulationSteps = 2
        },
    ]

    private let workspace: Workspace

    init() throws { workspace = try Workspace() }

    private func config(_ name: String, model: String = TinyModel.grouped) throws -> FineTuneConfig
    {
        let rows = try workspace.write(rows: TinyRows.make(12))
        var config = FineTuneConfig(model: model, data: rows, outputDir: workspace.path(name))
        config.evalData = rows
        config.dtype = .float32
        config.quantBlockSize = 32
        config.loraR = 4
        config.loraAlpha = 8
        config.learningRate = 5e-3
        config.lrSchedulerType = .constant
        config.weightDecay = 0.01
        config.maxSteps = 4
        config.perDeviceTrainBatchSize = 4
        config.loggingSteps = 1
        config.threads = 1
        return config
    }

    private func losses(_ config: FineTuneConfig) throws -> [Float] {
        try
            (RunFiles.metric("loss", in: config.outputDir)
            + RunFiles.metric("eval_loss", in: config.outputDir)).map(Float.init)
    }

    /// Trains in host memory and on the device, and compares losses, held-out loss and adapter.
    private func compare(
        _ dtype: ComputeDType, lossTolerance: Double, adapterTolerance: Double,
        _ change: (inout FineTuneConfig) -> Void
    ) throws {
        var host = try config("host")
        host.dtype = dtype
        change(&host)
        var there = host
        there.outputDir = workspace.path("there")
        try FineTune.run(host)
        try FineTune.run(there, on: Simulated.device)
        let (found, expected) = (try losses(there), try losses(host))
        #expect(found.count == 5)
        #expect(Tolerance.relativeError(found, expected) < lossTolerance)
        #expect(
            Tolerance.relativeError(
                try RunFiles.adapter(in: there.outputDir), try RunFiles.adapter(in: host.outputDir))
                < adapterTolerance)
    }

    @Test(arguments: cases) func runsOnBothInFloat32(_ run: Case) throws {
        try compare(
            .float32, lossTolerance: Tolerance.trainingLoss,
            adapterTolerance: Tolerance.trainedAdapter, run.change)
    }

    /// Adam divides gradients by their own size, so where a gradient is rounding alone its sign is too: only losses are compared closely.
    @Test(arguments: cases) func runsOnBothInBFloat16(_ run: Case) throws {
        try compare(
            .bfloat16, lossTolerance: Tolerance.bfloat16, adapterTolerance: 0.5, run.change)
    }

    @Test func runsOnBothInFloat16() throws {
        try compare(
            .float16, lossTolerance: Tolerance.float16, adapterTolerance: 0.5
        ) { $0.lossScaling = .dynamic }
    }

    /// Two ranks in two threads, each with tensors on the device, which Gloo reaches by copies in host memory.
    @Test(arguments: [
        Case("full") { _ in },
        Case("full, offload all, checkpointing") {
            $0.offload = .all
            $0.gradientCheckpointing = true
        },
        Case("grad-op, accumulation") {
            $0.sharding = .gradOp
            $0.perDeviceTrainBatchSize = 2
            $0.gradientAccumulationSteps = 2
        },
        Case("none") { $0.sharding = .none },
    ])
    func twoRanksTrainAsOneDoes(_ run: Case) throws {
        var host = try config("host")
        run.change(&host)
        (host.offload, host.sharding) = (.none, .full)
        try FineTune.run(host)
        var there = try config("there")
        run.change(&there)
        there.perDeviceTrainBatchSize /= 2
        let port = "\(RankProcesses.freePort())"
        let failures = Mutex<[String]>([])
        let device = Simulated.device
        let config = there
        let runRank = { @Sendable (rank: Int) in
            do {
                try FineTune.run(
                    config,
                    environment: [
                        "RANK": "\(rank)", "WORLD_SIZE": "2", "LOCAL_RANK": "\(rank)",
                        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
                    ], on: device)
            } catch {
                failures.withLock { $0.append("rank \(rank): \(error)") }
            }
        }
        // Each waits for the other, so they need threads whatever cores there are.
        let ended = DispatchSemaphore(value: 0)
        Thread.detachNewThread {
            runRank(1)
            ended.signal()
        }
        runRank(0)
        ended.wait()
        #expect(failures.withLock { $0 } == [])
        #expect(
            try Tolerance.relativeError(losses(there), losses(host)) < Tolerance.trainingLoss)
        #expect(
            Tolerance.relativeError(
                try RunFiles.adapter(in: there.outputDir), try RunFiles.adapter(in: host.outputDir))
                < Tolerance.trainedAdapter)
    }

    @Test func whatIsNotANumberIsFoundThere() throws {
        func error(on device: Device) throws -> Diagnosis? {
            var config = try config("out-\(device.description.count)")
            config.model = try TinyModel.grouped(damagedAt: 4, in: workspace)
            defer { try? FileManager.default.removeItem(atPath: config.model) }
            return #expect(throws: Diagnosis.self) { try FineTune.run(config, on: device) }
        }
        let (there, host) = (try error(on: Simulated.device), try error(on: .cpu))
        #expect(there?.code == host?.code)
        #expect(there?.place == host?.place)
    }

    @Test func everythingOfARunIsOnTheDevice() throws {
        let base = try BaseModel(
            at: URL(filePath: TinyModel.grouped),
            options: BaseModelOptions(
                quantization: QuantizationConfig(blockSize: 32), computeDType: .bfloat16,
                device: Simulated.device))
        var lora = LoRAConfig()
        lora.targetModules = .allLinear
        let adapted = try AdaptedModel(base, adapter: lora, seed: 1)
        #expect(base.registry.linears.allSatisfy { $0.weight.device == Simulated.device })
        #expect(base.registry.frozenParameters.allSatisfy { $0.value.device == Simulated.device })
        #expect(adapted.trainableParameters.allSatisfy { $0.value.device == Simulated.device })
        #expect(adapted.trainableParameters.allSatisfy { $0.value.dtype == .float32 })
    }

    /// Codes and scales come to the device as they were made in host memory.
    @Test func weightsHaveTheBytesOfTheHost() throws {
        func base(on device: Device) throws -> BaseModel {
            try BaseModel(
                at: URL(filePath: TinyModel.grouped),
                options: BaseModelOptions(
                    quantization: QuantizationConfig(blockSize: 32), computeDType: .bfloat16,
                    device: device))
        }
        let (host, there) = (try base(on: .cpu), try base(on: Simulated.device))
        #expect(host.fingerprint == there.fingerprint)
        for (left, right) in zip(host.registry.linears, there.registry.linears) {
            #expect(left.path == right.path)
            #expect(left.weight.codes.count == right.weight.codes.count)
            for (codes, moved) in zip(left.weight.codes, right.weight.codes) {
                #expect(try moved.to(.cpu).isEqual(to: codes))
            }
            #expect(
                try right.weight.dequantized().to(.cpu).isEqual(to: left.weight.dequantized()))
        }
    }

    /// Leaves one tensor behind.
    private final class ForgetfulSource: ParameterSource {
        private let base: any ParameterSource
        private let forgotten: String

        init(_ base: any ParameterSource, forgetting path: String) {
            (self.base, forgotten) = (base, path)
        }

        func tensor(at path: String, shape: [Int]) throws -> Tensor {
            let tensor = try base.tensor(at: path, shape: shape)
            return path == forgotten ? tensor : try tensor.to(Simulated.device)
        }
    }

    @Test(arguments: [
        nil, "model.layers.1.mlp.up_proj.weight", "model.layers.0.input_layernorm.weight",
        "model.norm.weight",
    ])
    func aForgottenTransferIsAnError(path: String?) throws {
        let model = try ModelRegistry.makeModel(
            config: Data(contentsOf: URL(filePath: TinyModel.grouped + "/config.json")),
            Scope(
                registry: ModuleRegistry(),
                source: ForgetfulSource(RandomSource(seed: 1), forgetting: path ?? "")))
        func losses() throws -> TokenLosses {
            try model.losses(
                tokens: [1, 2, 3], targets: [2, 3, -1],
                context: ForwardContext(layout: SequenceLayout(segmentLengths: [3])),
                execution: ResidentExecution())
        }
        guard path != nil else {
            #expect(try losses().sum.device == Simulated.device)
            return
        }
        let error = #expect(throws: TorchError.self) { try losses() }
        #expect(error?.description.contains("same device") == true, "\(String(describing: error))")
    }

    @Test(arguments: [OffloadTarget.none, .all])
    func aStoppedRunGoesOnAsItWas(offload: OffloadTarget) throws {
        var whole = try config("whole")
        whole.loraDropout = 0.1
        whole.offload = offload
        whole.evalData = nil
        try FineTune.run(whole, on: Simulated.device)
        var stopped = whole
        stopped.outputDir = workspace.path("stopped")
        let stop = StopRequest()
        try FineTune.run(stopped, on: Simulated.device, stop: stop) { event in
            if case .step(let metrics, _) = event, metrics.step == 2 {
                stop.request(signal: SIGTERM)
            }
        }
        stopped.resume = true
        try FineTune.run(stopped, on: Simulated.device)
        #expect(try losses(stopped) == losses(whole))
        for name in ["adapter_model.safetensors", "checkpoint-4/optimizer.safetensors"] {
            #expect(
                try RunFiles.bytes("\(stopped.outputDir)/\(name)")
                    == RunFiles.bytes("\(whole.outputDir)/\(name)"), "\(name)")
        }
    }

    /// A checkpoint does not know of devices.
    @Test func aRunGoesOnElsewhere() throws {
        let host = try config("host")
        try FineTune.run(host)
        var moved = host
        moved.outputDir = workspace.path("moved")
        moved.maxSteps = 2
        try FineTune.run(moved, on: Simulated.device)
        moved.maxSteps = 4
        moved.resume = true
        moved.device = .cpu
        try FineTune.run(moved)
        #expect(
            Tolerance.relativeError(
                try RunFiles.adapter(in: moved.outputDir), try RunFiles.adapter(in: host.outputDir))
                < Tolerance.trainedAdapter)
    }

    @Test func offloadTakesMemoryOffTheDevice() throws {
        func peaks(_ name: String, _ offload: OffloadTarget) throws -> (
            device: Int64, pinned: Int64
        ) {
            // Three blocks, of which two have a place.
            var config = try config(name, model: TinyModel.biased)
            config.offload = offload
            config.evalData = nil
            config.maxSteps = 1
            let held = simulated_device_live_bytes()
            simulated_device_reset_peak()
            var pinned: Int64 = 0
            try FineTune.run(config, on: Simulated.device) { event in
                if case .step = event { pinned = simulated_device_pinned_bytes() }
            }
            #expect(simulated_device_live_bytes() == held)
            #expect(simulated_device_pinned_bytes() == 0)
            return (simulated_device_peak_bytes() - held, pinned)
        }
        let none = try peaks("none", .none)
        let optimizer = try peaks("optimizer", .optimizer)
        let base = try peaks("base", .base)
        #expect(none.pinned == 0)
        #expect(optimizer.pinned > 0)
        #expect(base.pinned > 0)
        #expect(optimizer.device < none.device)
        #expect(base.device < none.device)
    }

    @Test func whatDoesNotFitIsRefusedBeforeTheFirstStep() throws {
        var config = try config("large")
        config.evalData = nil
        let held = simulated_device_live_bytes()
        defer { simulated_device_set_memory(1 << 30) }
        _ = Simulated.device
        // The base fits, a step of it does not.
        config.quantize = .none
        config.perDeviceTrainBatchSize = 12
        simulated_device_set_memory(held + 600_000)
        let report = try Doctor.run(config, on: Simulated.device)
        let failed = try #require(report.checks.first { $0.outcome == .failed })
        #expect(failed.topic == "resources")
        #expect(failed.findings.first?.contains("of simulated:0 at its peak") == true)
        simulated_device_set_memory(1 << 30)
        let ready = try Doctor.run(config, on: Simulated.device)
        #expect(ready.isReady)
        #expect(ready.checks.contains { $0.topic == "device" && $0.outcome == .passed })
        #expect(try Doctor.run(config).checks.allSatisfy { $0.topic != "device" })
    }

    // MARK: - Commands that only read

    @Test(arguments: [ComputeDType.float32, .bfloat16], [0, 0.8])
    func generationContinuesAsInHostMemory(dtype: ComputeDType, temperature: Double) throws {
        var options = GenerateOptions()
        options.base.model = try TinyModel.write(to: workspace.url.appending(path: "model"))
        options.base.quantBlockSize = 32
        options.base.dtype = dtype
        options.prompt = "the cat"
        options.maxNewTokens = 12
        options.temperature = temperature
        let there = try Generate.run(options, on: Simulated.device)
        let host = try Generate.run(options)
        #expect(there.numNewTokens == host.numNewTokens)
        if dtype == .float32 { #expect(there.text == host.text) }
    }

    @Test func scoresAreThoseOfTheHost() throws {
        var options = ScoreOptions()
        options.base.model = TinyModel.grouped
        options.base.dtype = .float32
        options.base.quantBlockSize = 32
        options.data = try workspace.write(rows: TinyRows.make(9))
        options.logits = workspace.path("there.safetensors")
        let there = try Score.run(options, on: Simulated.device)
        options.logits = workspace.path("host.safetensors")
        let host = try Score.run(options)
        #expect(
            Tolerance.relativeError([Float(there.loss)], [Float(host.loss)])
                < Tolerance.trainingLoss)
        let logits = try ["there", "host"].map { name in
            let file = try SafetensorsFile(workspace.url.appending(path: name + ".safetensors"))
            return try file.tensor(#require(file.entry("logits.0"))).floats()
        }
        #expect(Tolerance.relativeError(logits[0], logits[1]) < Tolerance.trainingLoss)
    }
}
