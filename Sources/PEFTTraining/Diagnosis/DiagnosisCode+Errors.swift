import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTData
import PEFTQuantization
import Torch

/// The code of any error, where it has one.
extension DiagnosisCode {
    /// Finds the code under which an error of this package is documented.
    ///
    /// - Parameter error: any error.
    /// - Returns: nil for errors that are not about learning, such as a file that is not there.
    public static func of(_ error: any Error) -> DiagnosisCode? {
        switch error {
        case let diagnosis as Diagnosis: diagnosis.code
        case let error as ConfigError: error.problems.lazy.compactMap(\.code).first
        case let error as TorchError: of(error)
        case let error as AdapterError: of(error)
        case let error as CheckpointError: of(error)
        case QuantizationError.torch(let error): of(error)
        case let error as DatasetError: of(error.problem)
        case let problem as DatasetProblem: of(problem)
        case let error as TrainingError: of(error)
        default: nil
        }
    }

    /// What an error says, behind its code if it has one: our own describe themselves, Foundation's name a file and a cause.
    package static func message(of error: any Error) -> String {
        let message = SystemError.message(of: error) ?? String(describing: error)
        guard let code = of(error)?.rawValue, !message.hasPrefix(code) else { return message }
        return "\(code): \(message)"
    }

    private static func of(_ error: TorchError) -> DiagnosisCode? {
        if error.isLossWithoutGraph { return .lossWithoutGraph }
        return error.isOutOfMemory ? .memoryTooSmall : nil
    }

    private static func of(_ error: AdapterError) -> DiagnosisCode? {
        switch error {
        case .unmatched: .unmatchedTarget
        case .alreadyAdapted: .alreadyAdapted
        case .mismatchedTensors: .adapterTensorsDiffer
        case .torch(let error): of(error)
        default: nil
        }
    }

    /// Tensors of a model or optimizer that do not fit have no code: the name of the file tells an adapter's from them.
    private static func of(_ error: CheckpointError) -> DiagnosisCode? {
        guard case .tensors(let path, _) = error,
            URL(filePath: path).lastPathComponent == AdapterFolder.weightsName
        else { return nil }
        return .adapterTensorsDiffer
    }

    private static func of(_ problem: DatasetProblem) -> DiagnosisCode? {
        switch problem {
        case .noTargets: .noTargets
        case .tooLong: .rowsTooLong
        default: nil
        }
    }

    private static func of(_ error: TrainingError) -> DiagnosisCode? {
        switch error {
        case .tokenOutOfRange: .tokenOutOfRange
        default: nil
        }
    }
}
