import PEFT
import PEFTTraining
import Testing

/// The report on losses and models of one's own: nothing but tensors.
@Suite struct GradientReportTests {
    private let first: Parameter
    private let second: Parameter
    private let input: Tensor

    init() throws {
        first = try Parameter(path: "first", value: .ones([3]), isTrainable: true)
        second = try Parameter(path: "second", value: .ones([3]), isTrainable: true)
        input = try Tensor([1, 2, 3] as [Float], shape: [3])
    }

    private func report(_ loss: () throws -> Tensor) throws -> GradientReport {
        try GradientReport(of: [first, second], loss: loss)
    }

    /// The only problem of a loss that reaches `first`.
    private func problem(_ loss: () throws -> Tensor) throws -> Diagnosis {
        let report = try report(loss)
        #expect(!report.isReady)
        #expect(report.entries.map(\.isConnected) == [true, false])
        #expect(report.problems.count == 1)
        let found = try #require(report.problems.first)
        #expect(found.tensors == ["second"])
        #expect(throws: found) { try report.verify() }
        return found
    }

    @Test func connectedLossIsReady() throws {
        let report = try report { try (input * first.value + second.value).sum() }
        try report.verify()
        #expect(report.isReady)
        #expect(report.loss == 9)
        #expect(report.entries.map(\.path) == ["first", "second"])
    }

    /// A gradient of zero is a gradient.
    @Test func gradientOfZeroIsConnected() throws {
        let report = try report { try (first.value + second.value * 0).sum() }
        #expect(report.isReady)
    }

    @Test func gradientsThatWereThereStay() throws {
        try (first.value * 2).sum().backward()
        let before = try first.value.grad?.floats()
        _ = try report { try (first.value + second.value).sum() }
        _ = try report { try first.value.sum() }
        #expect(try first.value.grad?.floats() == before)
        #expect(second.value.grad == nil)
    }

    @Test func tensorThatIsNotUsed() throws {
        let found = try problem { try first.value.sum() }
        #expect(found.code == .moduleNotCalled)
        #expect(found.place == "second")
    }

    @Test func resultThatIsNotUsed() throws {
        let found = try problem {
            _ = try Trace.layer("side") { try second.value * 2 }
            return try first.value.sum()
        }
        #expect(found.code == .resultUnused)
        #expect(found.place == "side")
        #expect(found.reason == "the result of `mul` is not used for the loss")
    }

    @Test func valuesThatAreCopiedOut() throws {
        let found = try problem {
            let copy = try Tensor(second.value.floats(), shape: [3])
            return try (first.value + copy).sum()
        }
        #expect(found.code == .resultUnused)
        #expect(found.reason == "`floats` copies its result out of the graph")
    }

    /// A conversion to the dtype that a tensor has gives the tensor itself; what came before it still counts.
    @Test func conversionWithoutEffectHidesNothing() throws {
        let found = try problem {
            let cut = try Trace.layer("middle") { try (second.value * 2).detach() }
            _ = try second.value.to(.float32).contiguous()
            return try (first.value.to(.float32) + cut).sum()
        }
        #expect(found.code == .detached)
        #expect(found.place == "middle")
    }

    /// Of two cuts in a row the one nearer to the loss is the one to mend first.
    @Test func cutNearestToTheLossIsNamed() throws {
        let found = try problem {
            let early = try Trace.layer("early") { try (second.value * 2).detach() }
            let mixed = try early + first.value
            let late = try Trace.layer("late") { try mixed.to(.int32).to(.float32) }
            return try (late + first.value).sum()
        }
        #expect(found.code == .notDifferentiable)
        #expect(found.place == "late")
        #expect(found.reason == "`to` gives int32, which has no gradient")
    }

    @Test func wholeLossWithoutGrad() throws {
        let report = try report {
            try withoutGrad { try (first.value + second.value).sum() }
        }
        #expect(report.entries.allSatisfy { !$0.isConnected })
        #expect(report.problems.map(\.code) == [.noGradRegion])
        #expect(report.problems[0].tensors == ["first", "second"])
    }

    @Test func frozenTensorWithGradient() throws {
        let frozen = try Parameter(path: "frozen", value: .ones([3]), isTrainable: false)
        try frozen.value.setRequiresGrad(true)
        let report = try GradientReport(of: [first], frozen: [frozen]) {
            try (first.value * frozen.value).sum()
        }
        #expect(report.problems.map(\.code) == [.frozenGetsGradient])
        #expect(frozen.value.grad == nil)
    }

    @Test func infinityIsLocated() throws {
        let report = try GradientReport(of: [first]) {
            let zeros = try first.value * 0
            let infinite = try Trace.layer("quotient") { try input / zeros }
            return try infinite.sum()
        }
        #expect(report.problems.map(\.code) == [.notFiniteAtStart])
        #expect(report.problems[0].place == "`div` in quotient")
    }

    @Test func backwardWithoutGraphIsOurError() throws {
        let error = try #require(throws: TorchError.self) { try input.sum().backward() }
        #expect(error.isLossWithoutGraph)
        #expect(DiagnosisCode.of(error) == .lossWithoutGraph)
        #expect(
            DiagnosisCode.message(of: error).hasPrefix("PEFT-G009: backward(float32[]): output 0"))
    }
}
