import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Starts of LoRA that are computed from the weight, against PEFT; fixtures of `scripts/fixtures/weight_starts.py`.
@Suite struct WeightStartTests {
    /// A base model and its element type.
    static let cases: [String: [String]] = {
        let data = (try? Data(contentsOf: Checkout.fixture("starts/cases.json"))) ?? Data()
        return (try? JSONDecoder().decode([String: [String]].self, from: data)) ?? [:]
    }()
    static let names = cases.keys.sorted()
    static let singleNames = names.filter { cases[$0]?.last == "float32" }

    private let workspace: Workspace

    init() throws { workspace = try Workspace() }

    private func folder(_ name: String) -> URL { Checkout.fixture("starts/\(name)") }

    private func config(_ name: String) throws -> LoRAConfig {
        try LoRAConfig(adapterConfigJSON: AdapterFolder.read(folder(name)).configuration)
    }

    private func base(_ name: String, start: WeightStart?) throws -> BaseModel {
        let values = try #require(Self.cases[name])
        var model = Checkout.fixture("models/\(values[0])").path
        if values[1] == "bfloat16" {
            model = try TinyModel.copy(
                of: model, to: workspace.url.appending(path: "half-\(start != nil)")
            ) { try $1.to(.bfloat16) }
        }
        return try BaseModel(
            at: URL(filePath: model),
            options: BaseModelOptions(
                quantization: nil, computeDType: values[1] == "bfloat16" ? .bfloat16 : .float32,
                start: start))
    }

    private func new(_ name: String) throws -> AdaptedModel {
        let config = try config(name)
        return try AdaptedModel(
            base(name, start: WeightStart(config, seed: 3)), adapter: config, seed: 3)
    }

    private func loaded(_ name: String) throws -> AdaptedModel {
        let folder = folder(name)
        return try AdaptedModel(base(name, start: WeightStart(loading: folder)), loading: folder)
    }

    private func expected(_ name: String) throws -> SafetensorsFile {
        try SafetensorsFile(folder(name).appending(path: "expected.safetensors"))
    }

    private func tensor(_ file: SafetensorsFile, _ name: String) throws -> Tensor {
        try file.tensor(#require(file.entry(name), "\(name)"))
    }

    private func logits(_ model: any CausalLanguageModel, _ tokens: Tensor) throws -> [Float] {
        let context = ForwardContext(layout: SequenceLayout(segmentLengths: [tokens.shape[0]]))
        return try withoutGrad {
            let hidden = try model.hiddenStates(
                tokens, context: context, execution: ResidentExecution())
            return try model.logits(hidden, context: context).floats()
        }
    }

    // MARK: - Against PEFT

    @Test func everyFixtureIsACase() throws {
        let folders = try FileManager.default.contentsOfDirectory(atPath: folder("").path)
        #expect(Self.names.count >= 9)
        #expect(
            Set(folders)
                == Set(Self.names + ["cases.json", "loftq.safetensors", "svd_lowrank.safetensors"]))
    }

    /// Singular vectors have no sign of their own, so A and B are compared by their product, and by the sizes of their elements.
    ///
    /// On a bfloat16 base PEFT rounds A and B to bfloat16 after it has taken them out.
    @Test(arguments: names)
    func matricesAndWhatIsLeftAreThoseOfPEFT(name: String) throws {
        let (adapted, file) = (try new(name), try expected(name))
        let linears = adapted.base.registry.linears.filter { $0.adapter != nil }
        #expect(file.entries.count { $0.name.hasPrefix("left.") } == linears.count)
        let bound =
            Self.singleNames.contains(name)
            ? Tolerance.gradient : Tolerance.twiceRoundedToBFloat16
        for linear in linears {
            let adapter = try #require(linear.adapter)
            let names = ["A", "B"].map { "base_model.model.\(linear.path).lora_\($0).weight" }
            let ours = try names.map { name in
                try #require(adapter.parameters.first { $0.path == name }).value.detach()
            }
            let theirs = try names.map { try tensor(file, "start.\($0)") }
            // KaSA's A is random, its B is zero.
            let isComputed = adapter is KaSA == false
            for (our, their) in zip(ours, theirs) {
                #expect(our.shape == their.shape && our.dtype == .float32)
                guard isComputed else { continue }
                let error = try Tolerance.relativeError(
                    our.floats().map(abs), their.floats().map(abs))
                #expect(error < bound, "\(linear.path)")
            }
            if isComputed {
                let error = try Tolerance.relativeError(
                    ours[1].matmul(ours[0]).floats(), theirs[1].matmul(theirs[0]).floats())
                #expect(error < bound, "\(linear.path)")
            } else {
                let allZero = try (ours[1].floats() + theirs[1].floats()).allSatisfy { $0 == 0 }
                #expect(allZero)
            }
            let left = try tensor(file, "left.\(linear.path)")
            let found = try linear.weight.dequantized()
            #expect(found.shape == left.shape)
            let isHalf = left.dtype == .bfloat16
            #expect(
                try Tolerance.relativeError(found.floats(), left.to(.float32).floats())
                    < (isHalf ? 1e-3 : Tolerance.gradient), "\(linear.path)")
        }
    }

    @Test(arguments: singleNames.filter { !$0.hasPrefix("kasa") })
    func theModelStartsAsItsBase(name: String) throws {
        let tokens = try tensor(expected(name), "tokens")
        let adapted = try new(name)
        let plain = try base(name, start: nil)
        #expect(adapted.base.fingerprint == plain.fingerprint)
        let found = try logits(adapted.base.model, tokens)
        let error = Tolerance.maxError(found, try logits(plain.model, tokens))
        #expect(error < Tolerance.logits)
        #expect(try adapted.adapter.changesNothing() == (try config(name).useDora == false))
        let first = try #require(adapted.adapter.parameters.first)
        try withoutGrad { try first.value.addInPlace(Tensor.full(first.value.shape, 0.5)) }
        #expect(try !adapted.adapter.changesNothing())
        #expect(Tolerance.maxError(found, try logits(adapted.base.model, tokens)) > 0.001)
    }

    @Test(arguments: singleNames)
    func logitsAndGradientsOfPEFTsAdapterAreThoseOfPEFT(name: String) throws {
        let (adapted, file) = (try loaded(name), try expected(name))
        let tokens = try tensor(file, "tokens")
        let found = try logits(adapted.base.model, tokens)
        #expect(
            try Tolerance.maxError(found, tensor(file, "logits").floats()) < Tolerance.logits)
        let ids = try tokens.int64s().map { Int32($0) }
        let wanted = try tensor(file, "loss").item()
        let penalized = name.hasPrefix("kasa") ? [("penalized.", 1.0)] : []
        for (prefix, penaltyFactor) in [("grad.", 0.0)] + penalized {
            let sums = GradientSums(penaltyFactor: penaltyFactor)
            let losses = try adapted.base.model.losses(
                tokens: ids, targets: ids.dropFirst() + [-1],
                context: ForwardContext(
                    layout: SequenceLayout(segmentLengths: [ids.count]), gradientSums: sums),
                execution: ResidentExecution())
            #expect(
                try abs(losses.sum.detach().item() - wanted) < Tolerance.trainingLoss * wanted)
            try losses.sum.backward()
            for parameter in adapted.adapter.parameters {
                let gradient = try #require(try sums.take(parameter), "\(parameter.path)")
                let error = try Tolerance.relativeError(
                    gradient.to(.float32).floats(), tensor(file, prefix + parameter.path).floats())
                #expect(error < 5 * Tolerance.gradient, "\(prefix)\(parameter.path)")
            }
        }
    }

    @Test func theSubspaceIterationIsThatOfTorch() throws {
        let file = try SafetensorsFile(folder("svd_lowrank.safetensors"))
        let cases = file.entries.map(\.name).filter { $0.hasSuffix(".weight") }
        #expect(cases.count == 3)
        for name in cases.map({ String($0.dropLast(".weight".count)) }) {
            let iterations = try #require(name.split(separator: " ").last.flatMap { Int($0) })
            func reference(_ part: String) throws -> Tensor { try tensor(file, "\(name).\(part)") }
            let found = try LoRAInitialization.approximateSVD(
                reference("weight"), reference("numbers"), iterations: iterations)
            #expect(
                try Tolerance.relativeError(found.s.floats(), reference("s").floats())
                    < Tolerance.gradient, "\(name)")
            let ours = try (found.u * found.s).matmul(found.vt)
            let theirs = try (reference("u") * reference("s"))
                .matmul(reference("v").transposed())
            #expect(
                try Tolerance.relativeError(ours.floats(), theirs.floats())
                    < 5 * Tolerance.gradient, "\(name)")
        }
    }

    /// The exact decomposition leaves least.
    @Test func moreIterationsAreNearerToTheSingularValues() throws {
        func left(_ adapted: AdaptedModel) throws -> Double {
            let linears = adapted.base.registry.linears.filter { $0.adapter != nil }
            return try linears.flatMap { try $0.weight.dequantized().floats() }
                .reduce(0) { $0 + Double($1 * $1) }.squareRoot()
        }
        var config = try config("pissa")
        let least = try left(new("pissa"))
        let lefts = try [0, 2, 16].map { iterations in
            config.initLoraWeights = .pissaIterated(iterations)
            return try left(
                AdaptedModel(
                    base("pissa", start: WeightStart(config, seed: 1)), adapter: config, seed: 1))
        }
        #expect(lefts[0] > lefts[1] && lefts[1] > lefts[2] && lefts[2] > least)
        #expect(lefts[2] < 1.005 * least, "\(lefts) \(least)")
    }

    @Test func loftQIsThatOfPEFT() throws {
        let file = try SafetensorsFile(folder("loftq.safetensors"))
        let cases = file.entries.map(\.name).filter { $0.hasSuffix(".weight") }
        #expect(cases.count == 4)
        let quantization = QuantizationConfig(
            quantType: .nf4, blockSize: 64, usesDoubleQuantization: false)
        for name in cases.map({ String($0.dropLast(".weight".count)) }) {
            func reference(_ part: String) throws -> Tensor { try tensor(file, "\(name).\(part)") }
            let iterations = try #require(name.split(separator: " ").last.flatMap { Int($0) })
            for alpha in [4.0, 10] {
                var config = LoRAConfig()
                config.initLoraWeights = .loftq
                config.loftqConfig = LoftQConfig(loftqIter: iterations)
                let target = LoRATarget(path: "layer", rank: 4, alpha: alpha)
                let weight = try reference("weight")
                func decoded(_ tensor: Tensor) throws -> Tensor {
                    try FourBitTensor(quantizing: tensor, config: quantization)
                        .dequantized(to: .float32)
                }
                let start = try config.start(
                    of: target, weight: weight, seed: 0, decoded: decoded)
                let stored = try decoded(start.subtracted?.taken(from: weight) ?? weight)
                #expect(
                    try Tolerance.relativeError(stored.floats(), reference("stored").floats())
                        < Tolerance.float32, "\(name)")
                let ours = try start.update.b.matmul(start.update.a) * target.scaling
                let theirs = try reference("b").matmul(reference("a"))
                #expect(
                    try Tolerance.relativeError(ours.floats(), theirs.floats())
                        < 5 * Tolerance.gradient, "\(name)")
                let (near, far) = (
                    Tolerance.relativeError(try (stored + ours).floats(), try weight.floats()),
                    Tolerance.relativeError(try stored.floats(), try weight.floats())
                )
                #expect(near < far)
            }
        }
    }

    @Test func thePlainAdapterIsThatOfPEFT() throws {
        var options = ExportOptions()
        options.adapter = folder("pissa").path
        options.model = TinyModel.grouped
        options.output = workspace.path("plain")
        options.format = .peftLora
        _ = try Export.run(options)
        let found = try AdapterFolder.read(URL(filePath: options.output))
        let theirs = try AdapterFolder.read(folder("pissa/plain"))
        #expect(
            String(decoding: found.configuration, as: UTF8.self)
                == String(decoding: theirs.configuration, as: UTF8.self))
        #expect(
            found.weights.entries.map(\.name).sorted()
                == theirs.weights.entries.map(\.name).sorted()
        )
        for entry in theirs.weights.entries {
            let ours = try tensor(found.weights, entry.name)
            #expect(try ours.floats() == theirs.weights.tensor(entry).floats(), "\(entry.name)")
        }
        options.adapter = options.output
        options.output = workspace.path("again")
        #expect(throws: MergeError.isPlain(adapter: workspace.path("plain"))) {
            try Export.run(options)
        }
    }
}
