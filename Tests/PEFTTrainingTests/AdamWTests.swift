import Foundation
import PEFT
import PEFTSharding
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

@Suite struct AdamWTests {
    /// A run of torch's AdamW with gradients that were given.
    struct Golden: Decodable, Sendable, CustomTestStringConvertible {
        let name: String
        let learningRate: Double
        let lrSchedulerType: String
        let warmupSteps: Int
        let weightDecay: Double
        let maxGradNorm: Double
        let adamBeta1: Double
        let adamBeta2: Double
        let adamEpsilon: Double
        let learningRates: [Double]
        let gradNorms: [Double]

        var testDescription: String { name }

        static let all = load([Golden].self, "cases.json")
    }

    /// Schedules of transformers.
    struct Rates: Decodable, Sendable, CustomTestStringConvertible {
        let kind: String
        let warmupSteps: Int
        let totalSteps: Int
        let learningRate: Double
        let kwargs: [String: ScalarOption]
        let learningRates: [Double]

        var testDescription: String {
            "\(kind) \(warmupSteps)/\(totalSteps) \(kwargs.keys.sorted())"
        }

        static let all = load([Rates].self, "schedules.json")
    }

    /// A key in camel case.
    private struct Key: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(_ text: String) {
            let words = text.split(separator: "_")
            stringValue = words.dropFirst().reduce(String(words.first ?? "")) {
                $0 + $1.prefix(1).uppercased() + $1.dropFirst()
            }
        }

        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    private static func load<Value: Decodable>(_ type: Value.Type, _ name: String) -> Value {
        do {
            let data = try Data(contentsOf: Checkout.fixture("optimizer/\(name)"))
            let decoder = JSONDecoder()
            // The keys of maps are data and stay as they are.
            decoder.keyDecodingStrategy = .custom { path in
                let key = path[path.count - 1]
                return path.contains { $0.stringValue == "kwargs" } ? key : Key(key.stringValue)
            }
            return try decoder.decode(type, from: data)
        } catch {
            preconditionFailure("the fixture optimizer/\(name) does not read: \(error)")
        }
    }

    @Test(arguments: Golden.all)
    func updatesEqualTorch(golden: Golden) throws {
        let file = try SafetensorsFile(Checkout.fixture("optimizer/\(golden.name).safetensors"))
        func tensor(_ name: String) throws -> Tensor {
            try file.tensor(try #require(file.entry(name))).clone()
        }
        let parameters = try (0..<3).map {
            try Parameter(path: "p\($0)", value: tensor("initial.\($0)"), isTrainable: true)
        }
        var rule = AdamW()
        rule.beta1 = golden.adamBeta1
        rule.beta2 = golden.adamBeta2
        rule.epsilon = golden.adamEpsilon
        let optimizer = try Optimizer(
            parameters, rule: rule, groups: Optimizer.Groups(weightDecay: golden.weightDecay))
        let kind = try #require(LearningRateScheduler(rawValue: golden.lrSchedulerType))
        let schedule = LearningRateSchedule(
            peak: golden.learningRate, kind: kind, warmupSteps: golden.warmupSteps,
            totalSteps: golden.learningRates.count)
        for step in golden.learningRates.indices {
            for (index, parameter) in parameters.enumerated() {
                try parameter.value.setGrad(try tensor("gradient.\(step).\(index)"))
            }
            let norm = try GradientClipping.clip(parameters, maxNorm: golden.maxGradNorm).total
            let expectedNorm = golden.gradNorms[step]
            #expect(abs(norm - expectedNorm) <= Tolerance.float32 * expectedNorm)
            let learningRate = schedule.learningRate(updatesDone: step)
            #expect(abs(learningRate - golden.learningRates[step]) <= 1e-12)
            try optimizer.update(learningRate: learningRate)
            try optimizer.clearGradients()
            #expect(parameters.allSatisfy { $0.value.grad == nil })
            for (index, parameter) in parameters.enumerated() {
                let found = try parameter.value.detach().floats()
                let expected = try tensor("parameter.\(step).\(index)").floats()
                #expect(
                    Tolerance.relativeError(found, expected) <= Tolerance.float32,
                    "step \(step), parameter \(index)")
            }
        }
        #expect(optimizer.step == golden.learningRates.count)
        let isClipped = golden.gradNorms.map { $0 > golden.maxGradNorm }
        #expect(golden.maxGradNorm == 0 || Set(isClipped).count == 2, "both ways are tested")
    }

    @Test(arguments: Rates.all)
    func learningRatesEqualTransformers(rates: Rates) throws {
        let kind = try #require(LearningRateScheduler(rawValue: rates.kind))
        var config = FineTuneConfig(model: "m", data: "d", outputDir: "o")
        config.learningRate = rates.learningRate
        config.lrSchedulerType = kind
        config.lrSchedulerKwargs = rates.kwargs
        config.warmupSteps = rates.warmupSteps
        try config.validate()
        let schedule = config.schedule(totalSteps: rates.totalSteps)
        for (step, expected) in rates.learningRates.enumerated() {
            #expect(abs(schedule.learningRate(updatesDone: step) - expected) <= 1e-15)
        }
    }

    @Test func warmUpMayBeAShareOfTheSteps() {
        var config = FineTuneConfig(model: "m", data: "d", outputDir: "o")
        config.learningRate = 1
        config.warmupRatio = 0.3
        let schedule = config.schedule(totalSteps: 11)  // 3.3 steps, rounded up as in transformers
        #expect((0..<5).map { schedule.learningRate(updatesDone: $0) } == [0, 0.25, 0.5, 0.75, 1])
    }

    /// `constant` has its warm-up too; transformers ignores `warmup_steps` there without a word.
    @Test func constantWarmsUp() {
        let schedule = LearningRateSchedule(
            peak: 1, kind: .constant, warmupSteps: 4, totalSteps: 10)
        let found = (0..<6).map { schedule.learningRate(updatesDone: $0) }
        #expect(found == [0, 0.25, 0.5, 0.75, 1, 1])
    }

    @Test func restoredStateGoesOnBitExactly() throws {
        func make() throws -> (Parameter, Optimizer) {
            let parameter = try Parameter(
                path: "p", value: Tensor([1, -2, 3] as [Float], shape: [3]), isTrainable: true)
            return (parameter, try Optimizer([parameter], rule: AdamW()))
        }
        func update(_ parameter: Parameter, _ optimizer: Optimizer, _ step: Int) throws {
            let values = [0.5, -0.1, 0.7].map { Float($0) * Float(step + 1) }
            try parameter.value.setGrad(try Tensor(values, shape: [3]))
            try optimizer.update(learningRate: 0.1)
        }
        let (whole, optimizer) = try make()
        for step in 0..<3 { try update(whole, optimizer, step) }
        let saved = Dictionary(
            uniqueKeysWithValues: try optimizer.state.map { ($0.name, try $0.tensor.clone()) })
        let (resumed, other) = try make()
        try withoutGrad { try resumed.value.copyInPlace(from: whole.value) }
        try withoutGrad { try other.restore(saved, step: optimizer.step) }
        for step in 3..<6 {
            try update(whole, optimizer, step)
            try update(resumed, other, step)
        }
        #expect(try whole.value.detach().floats() == resumed.value.detach().floats())
        #expect(saved.keys.sorted() == ["p.exp_avg", "p.exp_avg_sq"])
    }

    /// Moments in a file are the same numbers, and no memory between updates.
    @Test func offloadedMomentsAreTheSameAndLeaveMemory() throws {
        let count = 4_000_000
        func make(_ folder: String?) throws -> (Parameter, Optimizer) {
            let parameter = try Parameter(
                path: "p", value: Tensor.ones([count]), isTrainable: true)
            let small = try Parameter(path: "q", value: Tensor.ones([3]), isTrainable: true)
            return (
                parameter,
                try Optimizer([small, parameter], rule: AdamW(), offloadFolder: folder)
            )
        }
        let workspace = try Workspace()
        let (resident, plain) = try make(nil)
        let (offloaded, paged) = try make(workspace.url.path)
        #expect(try FileManager.default.contentsOfDirectory(atPath: workspace.url.path) == [])
        func update(_ parameter: Parameter, _ optimizer: Optimizer, _ step: Int) throws {
            let gradient = try Tensor.arange(count).to(.float32)
            try gradient.multiplyInPlace(1e-6 * Double(step + 1))
            try parameter.value.setGrad(gradient)
            try optimizer.update(learningRate: 0.1)
            try optimizer.clearGradients()
        }
        for step in 0..<3 {
            try update(resident, plain, step)
            try update(offloaded, paged, step)
        }
        let pages = try Self.offloadedBytes()
        #expect(pages < 2 * count * 4 / 8)
        #expect(try paged.reading(2) { try $0.narrow(0, count - 1, 1).floats() } != [0])
        for (expected, found) in zip(plain.state, paged.state) {
            #expect(expected.name == found.name)
            #expect(try expected.tensor.floats() == found.tensor.floats())
        }
        #expect(try resident.value.detach().floats() == offloaded.value.detach().floats())
        // What was looked at outside of an update stays, so the count sees pages at all.
        let looked = try withExtendedLifetime(paged) { try Self.offloadedBytes() }
        #expect(looked > pages + 2 * count * 4 / 2)
    }

    /// Bytes of nameless files that this process has in memory.
    private static func offloadedBytes() throws -> Int {
        try #require(ResidentPages.sizeBytes { $0.contains("/.offload-") })
    }

    @Test func offloadFolderThatIsNoFolderIsAnError() throws {
        let parameter = try Parameter(path: "p", value: Tensor.ones([2]), isTrainable: true)
        let error = #expect(throws: OffloadFile.Failure.self) {
            _ = try Optimizer([parameter], rule: AdamW(), offloadFolder: "/proc/none")
        }
        #expect(
            error?.description
                == "/proc/none: no file can be made there: No such file or directory; what is offloaded "
                + "needs a disk with room for it")
    }

    @Test func parameterWithoutGradientStays() throws {
        let parameter = try Parameter(
            path: "p", value: Tensor.ones([2]), isTrainable: true)
        let optimizer = try Optimizer(
            [parameter], rule: AdamW(), groups: Optimizer.Groups(weightDecay: 0.5))
        try optimizer.update(learningRate: 0.1)
        #expect(try parameter.value.detach().floats() == [1, 1])
    }
}
