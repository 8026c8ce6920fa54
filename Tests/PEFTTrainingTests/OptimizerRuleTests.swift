import Foundation
import PEFT
import PEFTSharding
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Every rule beside ``AdamW``, compared with the library that it comes from.
@Suite struct OptimizerRuleTests {
    /// Ten steps of a peer's optimizer with gradients that were given.
    struct Golden: Decodable, Sendable, CustomTestStringConvertible {
        let name: String
        let optim: OptimizerChoice
        let shapes: [String: [Int]]
        let steps: Int
        let scalings: [String: Double]
        let loraplusLrRatio: Double?
        let learningRate: Double
        let weightDecay: Double
        let adamBeta1: Double
        let adamBeta2: Double
        let adamEpsilon: Double

        var testDescription: String { name }

        private enum CodingKeys: String, CodingKey {
            case name
            case optim
            case shapes
            case steps
            case scalings
            case loraplusLrRatio = "loraplus_lr_ratio"
            case learningRate = "learning_rate"
            case weightDecay = "weight_decay"
            case adamBeta1 = "adam_beta1"
            case adamBeta2 = "adam_beta2"
            case adamEpsilon = "adam_epsilon"
        }

        static let all: [Golden] = {
            do {
                return try JSONDecoder().decode(
                    [Golden].self, from: Data(contentsOf: Checkout.fixture("optimizer/rules.json")))
            } catch {
                preconditionFailure("the fixture optimizer/rules.json does not read: \(error)")
            }
        }()

        var config: FineTuneConfig {
            var config = FineTuneConfig(model: "m", data: "d", outputDir: "o")
            config.optim = optim
            config.learningRate = learningRate
            config.loraplusLrRatio = loraplusLrRatio
            config.weightDecay = weightDecay
            config.adamBeta1 = adamBeta1
            config.adamBeta2 = adamBeta2
            config.adamEpsilon = adamEpsilon
            return config
        }
    }

    /// A peer's run, step by step, and the same tensors here.
    struct Run {
        let golden: Golden
        let file: SafetensorsFile
        let adapters: [(path: String, adapter: any LinearAdapter)]
        let parameters: [Parameter]

        init(_ golden: Golden) throws {
            self.golden = golden
            let file = try SafetensorsFile(Checkout.fixture("optimizer/\(golden.name).safetensors"))
            self.file = file
            let tensors = try golden.shapes.reduce(into: [String: Tensor]()) { tensors, item in
                tensors[item.key] =
                    try Run.stored("initial.\(item.key)", in: file)
                    ?? Run.pattern(item.value, salt: 0)
            }
            var adapters: [(path: String, adapter: any LinearAdapter)] = []
            for (path, scaling) in golden.scalings.sorted(by: { $0.key < $1.key }) {
                let prefix = "base_model.model.\(path).lora_"
                let a = try #require(tensors[prefix + "A.weight"])
                let b = try #require(tensors[prefix + "B.weight"])
                let lora = try LoRA(
                    target: LoRATarget(
                        path: path, rank: a.shape[0], alpha: scaling * Double(a.shape[0])),
                    inFeatures: a.shape[1], outFeatures: b.shape[0], seed: 1)
                try withoutGrad {
                    try lora.loraA.value.copyInPlace(from: a)
                    try lora.loraB.value.copyInPlace(from: b)
                }
                adapters.append((path, lora))
            }
            if golden.optim == .lorafa { try LoRAFA.freeze(adapters) }
            self.adapters = adapters
            let matrices = adapters.flatMap { $0.adapter.parameters }
            let rest = try golden.shapes.keys.sorted().filter { name in
                !matrices.contains { $0.path == name }
            }.map { name in
                try Parameter(
                    path: name, value: #require(tensors[name]).clone(), isTrainable: true)
            }
            parameters = matrices.filter(\.isTrainable) + rest
        }

        static func stored(_ name: String, in file: SafetensorsFile) throws -> Tensor? {
            try file.entry(name).map { try file.tensor($0).clone() }
        }

        /// Numbers in [-1, 1) that `scripts/fixtures/optimizer.py` makes in the same way.
        static func pattern(_ shape: [Int], salt: Int) throws -> Tensor {
            let numbers = (0..<shape.reduce(1, *)).map {
                Float(Double(($0 * 7919 + salt * 104_729) % 65521) / 65521 * 2 - 1)
            }
            return try Tensor(numbers, shape: shape)
        }

        func gradient(of parameter: Parameter, step: Int) throws -> Tensor {
            if let stored = try Run.stored("gradient.\(step).\(parameter.path)", in: file) {
                return stored
            }
            return try Run.pattern(parameter.value.shape, salt: 1 + step) * 0.1
        }

        func optimizer(offloadFolder: String? = nil) throws -> Optimizer {
            try Optimizer(
                parameters, rule: golden.config.optim.rule(golden.config, adapters: adapters),
                groups: golden.config.optimizerGroups, offloadFolder: offloadFolder)
        }

        func take(_ step: Int, _ optimizer: Optimizer) throws {
            for parameter in parameters {
                try parameter.value.setGrad(gradient(of: parameter, step: step))
            }
            try optimizer.update(learningRate: golden.learningRate)
            try optimizer.clearGradients()
        }
    }

    @Test(arguments: Golden.all)
    func updatesEqualThePeers(golden: Golden) throws {
        let run = try Run(golden)
        let optimizer = try run.optimizer()
        var numCompared = 0
        for step in 0..<golden.steps {
            try run.take(step, optimizer)
            for parameter in run.parameters {
                let name = "parameter.\(step).\(parameter.path)"
                guard let expected = try Run.stored(name, in: run.file) else { continue }
                let error = Tolerance.relativeError(
                    try parameter.value.detach().floats(), try expected.floats())
                #expect(error <= Tolerance.float32, "\(name): \(error)")
                numCompared += 1
            }
        }
        #expect(numCompared >= golden.steps)
    }

    /// Codes and largest values after ten steps are bitsandbytes' own.
    @Test func eightBitStateIsThatOfBitsandbytes() throws {
        let golden = try #require(Golden.all.first { $0.optim == .adamw8bit })
        let run = try Run(golden)
        let optimizer = try run.optimizer()
        for step in 0..<golden.steps { try run.take(step, optimizer) }
        let kinds = optimizer.state.filter { $0.tensor.dtype == .uint8 }.map(\.name)
        #expect(kinds == ["p3.state1", "p3.state2"])
        for entry in optimizer.state {
            let path = entry.name.split(separator: ".")
            let expected = try #require(
                try Run.stored("state.\(path[1]).\(path[0])", in: run.file))
            #expect(expected.shape == entry.tensor.shape)
            #expect(expected.dtype == entry.tensor.dtype)
            let (found, wanted) = (try entry.tensor.floats(), try expected.floats())
            if entry.tensor.dtype == .uint8 {
                let numOthers = zip(found, wanted).count { $0 != $1 }
                #expect(numOthers == 0, "\(entry.name): \(numOthers) other codes")
            } else {
                #expect(
                    Tolerance.relativeError(found, wanted) <= Tolerance.float32, "\(entry.name)")
            }
        }
    }

    @Test(arguments: Golden.all, [false, true])
    func restoredStateGoesOnBitExactly(golden: Golden, isOffloaded: Bool) throws {
        let workspace = try Workspace()
        let folder = isOffloaded ? workspace.url.path : nil
        let (whole, resumed) = (try Run(golden), try Run(golden))
        let optimizer = try whole.optimizer()
        for step in 0..<4 { try whole.take(step, optimizer) }
        let other = try resumed.optimizer(offloadFolder: folder)
        try withoutGrad {
            for (from, to) in zip(whole.parameters, resumed.parameters) {
                try to.value.copyInPlace(from: from.value)
            }
            let saved = try optimizer.state.map { ($0.name, try $0.tensor.clone()) }
            try other.restore(Dictionary(uniqueKeysWithValues: saved), step: optimizer.step)
        }
        for step in 4..<8 {
            try whole.take(step, optimizer)
            try resumed.take(step, other)
        }
        for (expected, found) in zip(whole.parameters, resumed.parameters) {
            #expect(try expected.value.detach().isEqual(to: found.value.detach()))
        }
        for (expected, found) in zip(optimizer.state, other.state) {
            #expect(try expected.tensor.isEqual(to: found.tensor), "\(expected.name)")
        }
    }

    @Test func ratesAndDecayGoByName() throws {
        func parameter(_ path: String, _ shape: [Int]) throws -> Parameter {
            try Parameter(path: path, value: Tensor.zeros(shape), isTrainable: true)
        }
        let groups = Optimizer.Groups(
            weightDecay: 0.1, loRAPlus: LoRAPlus(ratio: 4, embeddingRatio: 0.5))
        let cases: [(path: String, shape: [Int], ratio: Double, decay: Double)] = [
            ("a.q_proj.lora_A.weight", [2, 3], 1, 0.1), ("a.q_proj.lora_B.weight", [3, 2], 4, 0.1),
            ("a.q_proj.lora_magnitude_vector", [3], 4, 0.1),
            ("a.q_proj.base_layer.bias", [3], 4, 0),
            ("a.embed.lora_embedding_A", [2, 9], 0.5, 0.1),
            ("a.input_layernorm.weight", [3], 4, 0), ("a.q_norm.weight", [3], 4, 0),
            ("model.norm.weight", [3], 4, 0), ("a.normal.weight", [3, 3], 1, 0.1),
        ]
        for item in cases {
            let tensor = try parameter(item.path, item.shape)
            #expect(groups.learningRateRatio(of: tensor) == item.ratio, "\(item.path)")
            #expect(groups.weightDecay(of: tensor) == item.decay, "\(item.path)")
            #expect(Optimizer.Groups().learningRateRatio(of: tensor) == 1)
        }
    }
}
