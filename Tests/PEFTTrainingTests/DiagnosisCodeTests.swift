import PEFT
import PEFTTraining
import Testing

@Suite struct DiagnosisCodeTests {
    /// An error and the code under which it is documented.
    struct Case: Sendable, CustomTestStringConvertible {
        let error: any Error
        let code: DiagnosisCode?
        var testDescription: String { code?.rawValue ?? "none: \(error)" }
    }

    private static let problem = TensorProblem.missing(name: "a", expected: [1])

    static let cases = [
        Case(error: Diagnosis(.tiedTwice, at: "a", "b", remedy: "c"), code: .tiedTwice),
        Case(error: AdapterError.unmatched([]), code: .unmatchedTarget),
        Case(error: AdapterError.alreadyAdapted([]), code: .alreadyAdapted),
        Case(
            error: AdapterError.mismatchedTensors(missing: ["a"], unexpected: [], mismatched: []),
            code: .adapterTensorsDiffer),
        Case(error: AdapterError.invalidConfig([]), code: nil),
        Case(
            error: CheckpointError.tensors(
                path: "/out/adapter_model.safetensors", problems: [problem]),
            code: .adapterTensorsDiffer),
        Case(
            error: CheckpointError.tensors(
                path: "/out/optimizer.safetensors", problems: [problem]), code: nil),
        Case(error: CheckpointError.tensors(path: "/model", problems: [problem]), code: nil),
        Case(
            error: CheckpointError.truncated(
                path: "/out/adapter_model.safetensors", expectedBytes: 8, foundBytes: 7), code: nil),
        Case(
            error: DatasetError(file: "f", line: 1, problem: .noTargets(.emptyCompletion)),
            code: .noTargets),
        Case(error: DatasetProblem.noTargets(.noAssistantTurn), code: .noTargets),
        Case(
            error: DatasetError(
                file: "f", line: 1,
                problem: .tooLong(length: 9, maxLength: 8, numRows: 1, longest: 9)),
            code: .rowsTooLong),
        Case(error: DatasetError(file: "f", line: nil, problem: .noRows), code: nil),
        Case(
            error: TrainingError.tokenOutOfRange(token: 9, row: 0, vocabularySize: 9),
            code: .tokenOutOfRange),
        Case(error: TrainingError.emptyPrompt, code: nil),
        Case(error: CancellationError(), code: nil),
    ]

    @Test(arguments: cases)
    func errorsHaveTheirCodes(_ example: Case) {
        #expect(DiagnosisCode.of(example.error) == example.code)
    }

    @Test func codesAreUnique() {
        let codes = DiagnosisCode.allCases
        #expect(Set(codes.map(\.rawValue)).count == codes.count)
        #expect(Set(codes.map(\.title)).count == codes.count)
    }
}
