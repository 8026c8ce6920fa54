import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Folders of LLM.int8 are read as bitsandbytes reads them for training on a CPU; fixtures are its numbers, float32.
@Suite struct Int8FolderTests {
    private static let folder = Checkout.fixture("export/int8")
    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
    }

    private func base(
        _ folder: URL = folder, _ dtype: DType = .float32, asked: QuantizationConfig? = nil
    ) throws -> BaseModel {
        try BaseModel(
            at: folder, options: BaseModelOptions(quantization: asked, computeDType: dtype))
    }

    private func expected(_ name: String) throws -> Tensor {
        let file = try SafetensorsFile(Checkout.fixture("export/int8.safetensors"))
        return try file.tensor(try #require(file.entry(name), "\(name)"))
    }

    // MARK: - Reading

    @Test func weightsAreDecodedAsByBitsandbytes() throws {
        let base = try base()
        for path in ["model.layers.0.mlp.down_proj", "model.layers.1.self_attn.k_proj"] {
            let linear = try #require(base.registry.linears.first { $0.path == path })
            let found = try linear.weight.dequantized()
            #expect(try found.isEqual(to: expected("\(path).weight.float32")))
            #expect(try found.to(.bfloat16).isEqual(to: expected("\(path).weight.bfloat16")))
            // Rows are rows of the same memory.
            let rows = try linear.weight.rows(3..<9).dequantized()
            #expect(try rows.isEqual(to: found.narrow(0, 3, 6)))
            #expect(linear.weight.sizeBytes == found.numElements + 4 * found.shape[0])
        }
    }

    /// Asked for another storage, the codes stay; the head was not quantized.
    @Test func codesAreReadAsTheyAre() throws {
        let base = try base(asked: QuantizationConfig())
        #expect(base.options.quantization == nil)
        for linear in base.registry.linears {
            let isHead = linear.path == base.registry.headPath
            #expect(
                linear.weight.storageDescription
                    == (isHead ? "float32" : "int8, a scale for each row"), "\(linear.path)")
        }
    }

    private func adapted(_ dtype: DType = .float32) throws -> AdaptedModel {
        try AdaptedModel(
            base(Self.folder, dtype), loading: Checkout.fixture("export/adapter"),
            isTrainable: true, ignoresBaseFingerprint: true)
    }

    private func logits(_ adapted: AdaptedModel) throws -> [Float] {
        let tokens = try expected("tokens")
        let context = ForwardContext(layout: SequenceLayout(segmentLengths: tokens.shape))
        let model = adapted.base.model
        return try withoutGrad {
            try model.logits(
                model.hiddenStates(tokens, context: context, execution: ResidentExecution()),
                context: context
            ).to(.float32).floats()
        }
    }

    @Test func logitsAndGradientsAreThoseOfTraining() throws {
        let adapted = try adapted()
        #expect(
            try Tolerance.maxError(logits(adapted), expected("logits.training").floats())
                <= Tolerance.logits)
        let tokens = try expected("tokens").int64s().map { Int32($0) }
        let losses = try adapted.base.model.losses(
            tokens: tokens, targets: tokens.dropFirst() + [-1],
            context: ForwardContext(layout: SequenceLayout(segmentLengths: [tokens.count])),
            execution: ResidentExecution())
        try losses.sum.backward()
        #expect(abs(try losses.sum.detach().item() - (try expected("loss").item())) < 1e-3)
        for parameter in adapted.trainableParameters {
            let found = try #require(parameter.value.grad, "\(parameter.path)").floats()
            let reference = try expected("grad.\(parameter.path)").floats()
            #expect(
                Tolerance.relativeError(found, reference) <= Tolerance.gradient,
                "\(parameter.path)")
        }
    }

    /// In evaluation bitsandbytes rounds inputs to 8 bits, too.
    @Test func logitsOfEvaluationAreNear() throws {
        let error = Tolerance.relativeError(
            try logits(adapted()), try expected("logits.evaluation").floats())
        #expect(error < Tolerance.int8Inputs)
        #expect(error > Tolerance.bfloat16)
    }

    // MARK: - Use

    @Test func aRunLearnsAndItsAdapterIsMerged() throws {
        let rows = TinyRows.make(24)
        var run = try TinyRun(rows: rows, model: Self.folder.path, steps: 4)
        run.config.targetModules = .allLinear
        try run.run()
        let losses = try run.losses
        #expect(try #require(losses.last) < #require(losses.first))
        var merge = MergeOptions()
        merge.adapter = run.config.outputDir
        merge.output = workspace.path("merged")
        merge.dtype = .float32
        merge.threads = 1
        let report = try Merge.run(merge)
        #expect(report.base == "the base in int8, a scale for each row, decoded")
        let config = try String(
            contentsOfFile: workspace.path("merged/config.json"), encoding: .utf8)
        #expect(!config.contains("quantization_config"))
        func scores(_ model: String, _ adapter: String?) throws -> [Double] {
            var options = ScoreOptions()
            options.model = model
            options.adapter = AdapterFolders(adapter.map { [$0] } ?? [])
            options.data = run.config.data
            options.quantize = .none
            options.dtype = .float32
            options.threads = 1
            return try Score.run(options).rows.map(\.negativeLogLikelihood)
        }
        let adapted = try scores(Self.folder.path, run.config.outputDir)
        let base = try scores(Self.folder.path, nil)
        for (index, loss) in try scores(merge.output, nil).enumerated() {
            #expect(abs(loss - adapted[index]) < Tolerance.trainingLoss * adapted[index])
            #expect(abs(base[index] - adapted[index]) > 10 * Tolerance.trainingLoss * loss)
        }
        // Numbers of the files that become numbers again are of the base's element type.
        merge.output = workspace.path("rounded")
        merge.dtype = .auto
        _ = try Merge.run(merge)
        let file = try SafetensorsFile(
            URL(filePath: merge.output).appending(path: "model.safetensors"))
        #expect(file.entries.allSatisfy { $0.dtype == .bfloat16 })
    }

    @Test func aPlanCountsItsCodes() throws {
        func baseBytes(_ model: String, _ quantize: BaseQuantization) throws -> Int {
            var options = PlanOptions()
            options.config = FineTuneConfig(
                model: model, data: "/no/such/rows.jsonl", outputDir: "/no/such/out")
            options.config.maxLength = 16
            options.config.quantize = quantize
            let parts = try Plan.run(options).plan.parts
            return try #require(parts.first { $0.name == "base" }).sizeBytes
        }
        let dense = try baseBytes(Checkout.fixture("export/base").path, .none)
        let int8 = try baseBytes(Self.folder.path, .none)
        let linears = try base().registry.linears.dropLast()
        // Memory is given out in steps of 64 bytes.
        func rounded(_ sizeBytes: Int) -> Int { (sizeBytes + 63) / 64 * 64 }
        let saved = linears.reduce(0) { sum, linear in
            let (rows, columns) = (linear.weight.outFeatures, linear.weight.inFeatures)
            return sum + rounded(2 * rows * columns) - rounded(rows * columns) - rounded(4 * rows)
        }
        #expect(dense - int8 == saved)
        #expect(try baseBytes(Self.folder.path, .nf4) == int8)
    }

    @Test func quantizingAgainIsRefused() throws {
        var options = QuantizeOptions()
        options.model = Self.folder.path
        options.output = workspace.path("four")
        let error = #expect(throws: MergeError.self) { try Quantize.run(options) }
        #expect(
            error?.description.hasPrefix(
                "\(Self.folder.path): the model is quantized already (int8, a scale for each row)")
                == true)
    }

    // MARK: - Damage

    private func damaged(
        config: String? = nil, _ change: (inout [String: SafetensorsTensor]) -> Void
    ) throws -> URL {
        let url = workspace.url.appending(path: "damaged")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        let original = config ?? Self.folder.appending(path: "config.json").path
        try FileManager.default.copyItem(
            atPath: original, toPath: url.appending(path: "config.json").path)
        let file = try SafetensorsFile(Self.folder.appending(path: "model.safetensors"))
        var tensors: [String: SafetensorsTensor] = [:]
        for entry in file.entries {
            tensors[entry.name] = SafetensorsTensor(
                name: entry.name, try file.tensor(entry).clone())
        }
        change(&tensors)
        try SafetensorsWriter.write(
            Array(tensors.values), to: url.appending(path: "model.safetensors"))
        return url
    }

    @Test func partsMustFit() throws {
        let layer = "model.layers.0.self_attn.k_proj"
        let url = try damaged { tensors in
            tensors[layer + ".SCB"] = SafetensorsTensor(
                name: layer + ".SCB", dtype: .float32, shape: [2],
                bytes: [UInt8](repeating: 0, count: 8))
            tensors["model.layers.1.mlp.up_proj.weight"] = nil
        }
        let error = #expect(throws: CheckpointError.self) { try base(url) }
        #expect(
            error
                == .tensors(
                    path: url.path,
                    problems: [
                        .shape(name: layer + ".SCB", expected: [16], found: [2]),
                        .missing(name: "model.layers.1.mlp.up_proj.weight", expected: [44, 0]),
                    ]))
    }

    @Test func codesInAnotherOrderAreRefused() throws {
        let name = "model.layers.1.mlp.down_proj.weight_format"
        let url = try damaged { tensors in
            tensors[name] = SafetensorsTensor(name: name, dtype: .uint8, shape: [], bytes: [2])
        }
        let error = #expect(throws: CheckpointError.self) { try base(url) }
        #expect(error?.description.contains("down_proj.weight: its weight_format is 2") == true)
    }

    @Test(arguments: ["base", "nf4"])
    func configurationAndWeightsMustAgree(_ other: String) throws {
        let url = try damaged(
            config: Checkout.fixture("export/\(other)/config.json").path
        ) { _ in }
        let error = #expect(throws: CheckpointError.self) { try base(url) }
        #expect(
            error?.description.contains("there are weights in 8 bits, which it does not say")
                == true)
    }
}
