import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// What an adapter says of its base, and how it is loaded for training and for inference.
@Suite struct AdaptedModelTests {
    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
    }

    private func base(
        _ model: String, quantization: QuantizationConfig? = nil, dtype: DType = .float32
    ) throws -> BaseModel {
        try BaseModel(
            at: URL(filePath: model),
            options: BaseModelOptions(quantization: quantization, computeDType: dtype))
    }

    private func fixture(_ name: String) -> String { Checkout.fixture("checkpoints/\(name)").path }

    /// Writes the numbers of a model into a folder, converted on the way.
    private func copy(
        of model: String, as name: String, _ change: (String, Tensor) throws -> Tensor
    ) throws -> String {
        let files = try BaseModelFiles.open(URL(filePath: model))
        let shapes = ShapeSource()
        _ = try ModelRegistry.makeModel(
            config: files.configuration, Scope(registry: ModuleRegistry(), source: shapes))
        let folder = workspace.url.appending(path: name)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        try files.configuration.write(to: folder.appending(path: "config.json"))
        let tensors = try shapes.shapes.map { path, shape in
            SafetensorsTensor(
                name: path, try change(path, try files.source.tensor(at: path, shape: shape)))
        }
        try SafetensorsWriter.write(tensors, to: folder.appending(path: "model.safetensors"))
        return folder.path
    }

    // MARK: - The fingerprint of a base

    @Test(arguments: ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F32", "F16", "BF16"])
    func aGGUFAndTheFolderDequantizedFromItAreOneBase(type: String) throws {
        let gguf = fixture("llama-\(type).gguf")
        let folder = try copy(of: gguf, as: "folder") { try $1.to(.float32) }
        #expect(try base(gguf).fingerprint == base(folder).fingerprint)
    }

    @Test(arguments: [DType.bfloat16, .float16])
    func aFolderInAnotherElementTypeIsTheSameBase(dtype: DType) throws {
        let rounded = try copy(of: TinyModel.grouped, as: "half") { try $1.to(dtype) }
        let widened = try copy(of: rounded, as: "single") { try $1.to(.float32) }
        let fingerprint = try base(rounded).fingerprint
        #expect(try base(widened).fingerprint == fingerprint)
        #expect(try base(TinyModel.grouped).fingerprint != fingerprint)
        #expect(fingerprint.numElements == (try base(widened).registry.numElements))
    }

    @Test func storageInMemoryIsIrrelevant() throws {
        let dense = try base(TinyModel.tied).fingerprint
        #expect(try base(TinyModel.tied, dtype: .bfloat16).fingerprint == dense)
        #expect(
            try base(TinyModel.tied, quantization: QuantizationConfig()).fingerprint == dense)
    }

    @Test func aTiedHeadIsNoTensorOfItsOwn() throws {
        let model = try base(TinyModel.tied)
        #expect(model.fingerprint.numTensors == 2 * 9 + 2)
        #expect(model.fingerprint.numElements == model.registry.numElements)
    }

    @Test func otherNumbersAreAnotherBase() throws {
        let changed = try copy(of: TinyModel.tied, as: "changed") { path, tensor in
            guard path == "model.norm.weight" else { return tensor }
            let copy = try tensor.clone()
            try copy.narrow(0, 3, 1).fillInPlace(0.123)
            return copy
        }
        #expect(try base(changed).fingerprint != base(TinyModel.tied).fingerprint)
    }

    // MARK: - Another base

    /// A run's adapter and a model that differs from its base in one number.
    private func otherBase() throws -> (run: TinyRun, model: String) {
        let run = try TinyRun(steps: 2)
        try run.run()
        let model = try copy(of: TinyModel.tied, as: "other") { path, tensor in
            path == "model.norm.weight" ? try tensor * 1.5 : tensor
        }
        return (run, model)
    }

    private func message(_ folder: String, model: String) throws -> String {
        let expected = try base(TinyModel.tied).fingerprint
        let found = try base(model).fingerprint
        return """
            PEFT-A004: \(folder): the adapter was trained on another base model: expected \
            \(expected.digest) of \(expected.numTensors) tensors and \(expected.numElements) elements \
            (\(TinyModel.tied)), found \(found.digest) of \(found.numTensors) tensors and \
            \(found.numElements) elements (\(model)); give the model that it was trained on, or \
            --ignore-base-fingerprint to use this one all the same
            """
    }

    @Test func anAdapterOfAnotherBaseIsRefusedInTraining() throws {
        let (run, model) = try otherBase()
        let folder = run.config.outputDir
        var changed = run.writing(to: "second") {
            $0.model = model
            $0.adapter = folder
        }
        let error = #expect(throws: Diagnosis.self) { try changed.run() }
        #expect(error?.code == .otherBase)
        #expect(try error?.description == message(folder, model: model))
        changed.config.ignoreBaseFingerprint = true
        try changed.run()
        // What was trained on it since is its own.
        changed = changed.writing(to: "third") {
            $0.adapter = changed.config.outputDir
            $0.ignoreBaseFingerprint = false
        }
        try changed.run()
    }

    @Test func anAdapterOfAnotherModelIsRefusedBeforeItsTensors() throws {
        let (run, _) = try otherBase()
        let error = #expect(throws: Diagnosis.self) {
            try AdaptedModel(
                base(TinyModel.grouped), loading: URL(filePath: run.config.outputDir))
        }
        #expect(try error?.description == message(run.config.outputDir, model: TinyModel.grouped))
    }

    @Test func aRunDoesNotGoOnWithAnotherBase() throws {
        let (run, model) = try otherBase()
        var resumed = run.writing(to: "out") {
            $0.model = model
            $0.resume = true
            $0.maxSteps = 3
        }
        let error = #expect(throws: Diagnosis.self) { try resumed.run() }
        #expect(
            try error?.description == message(run.config.outputDir + "/checkpoint-2", model: model))
        resumed.config.ignoreBaseFingerprint = true
        try resumed.run()
    }

    @Test func scoringRefusesAnotherBase() throws {
        let (run, model) = try otherBase()
        var options = ScoreOptions()
        options.model = model
        options.adapter = "\(run.config.outputDir)"
        options.data = run.config.data
        let error = #expect(throws: Diagnosis.self) { try Score.run(options) }
        #expect(try error?.description == message(run.config.outputDir, model: model))
        options.ignoreBaseFingerprint = true
        #expect(try Score.run(options).loss.isFinite)
    }

    @Test func aFingerprintOfAnotherVersionIsRefusedToo() throws {
        let (run, _) = try otherBase()
        let folder = URL(filePath: run.config.outputDir)
        let weights = folder.appending(path: "adapter_model.safetensors")
        let file = try SafetensorsFile(weights)
        try SafetensorsWriter.write(
            file.entries.map { SafetensorsTensor(name: $0.name, try file.tensor($0).clone()) },
            metadata: ["format": "pt", "swift_peft_base_fingerprint": "9:new"], to: weights)
        let error = #expect(throws: Diagnosis.self) {
            try AdaptedModel(base(TinyModel.tied), loading: folder)
        }
        #expect(
            error?.description == """
                PEFT-A004: \(folder.path): the fingerprint "9:new" of the base model that the adapter \
                was trained on (\(TinyModel.tied)) is none that this version can compare with \
                \(TinyModel.tied); give the model that it was trained on, or \
                --ignore-base-fingerprint to use this one all the same
                """)
    }

    @Test func anAdapterThatPEFTWroteNamesNoBase() throws {
        let model = try AdaptedModel(
            base(fixture("llama-float32")), loading: URL(filePath: fixture("adapter")))
        #expect(model.trainableParameters.count == 8)
    }

    // MARK: - Inference

    @Test func aFrozenAdapterComputesTheSameAndTrainsNothing() throws {
        let run = try TinyRun(steps: 2)
        try run.run()
        let folder = URL(filePath: run.config.outputDir)
        let trainable = try AdaptedModel(base(TinyModel.tied), loading: folder)
        let frozen = try AdaptedModel(base(TinyModel.tied), loading: folder, isTrainable: false)
        #expect(trainable.isTrainable)
        #expect(!frozen.isTrainable)
        #expect(trainable.trainableParameters.count == 28)
        #expect(frozen.trainableParameters.isEmpty)
        #expect(frozen.adapter.parameters.allSatisfy { !$0.value.requiresGrad })
        #expect(trainable.adapter.parameters.allSatisfy { $0.value.requiresGrad })
        let (expected, found) = (try logits(trainable), try logits(frozen))
        #expect(expected.requiresGrad)
        #expect(!found.requiresGrad)
        #expect(try found.isEqual(to: expected.detach()))
        #expect(try !found.isEqual(to: logits(base(TinyModel.tied).model)))
    }

    private func logits(_ adapted: AdaptedModel) throws -> Tensor {
        try logits(adapted.base.model)
    }

    private func logits(_ model: any CausalLanguageModel) throws -> Tensor {
        let context = ForwardContext(layout: SequenceLayout(segmentLengths: [5]))
        let tokens = try Tensor([3, 1, 4, 1, 5] as [Int64], shape: [5])
        return try model.logits(
            model.hiddenStates(tokens, context: context, execution: ResidentExecution()),
            context: context)
    }
}
