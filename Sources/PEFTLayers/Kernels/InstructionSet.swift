import CKernels
import Foundation

/// The processor features that a kernel is compiled for; those without products give the same bits on all.
package enum InstructionSet: Int32, CaseIterable, Sendable {
    case portable
    case avx2
    case avx512
    /// The same, with products of bfloat16 numbers.
    case avx512bf16

    /// Whether this processor and operating system run it.
    package var isSupported: Bool { ckernels_isa_is_supported(rawValue) == 1 }

    /// The name by which a user chooses it.
    package var name: String { String(describing: self) }

    /// The fastest one that this machine runs.
    package static let fastest = allCases.last { $0.isSupported } ?? .portable

    /// What kernels use unless they are told otherwise: the user's choice, else the fastest one; the same for the whole process.
    ///
    /// - Precondition: the choice can be followed, see ``requireChoice()``.
    package static let best: InstructionSet = {
        do throws(InstructionSetError) {
            return try chosen(in: ProcessInfo.processInfo.environment) ?? fastest
        } catch {
            preconditionFailure(error.description)
        }
    }()

    // MARK: - The user's choice

    /// The environment variable that names one for the whole process.
    package static let variable = "PEFT_INSTRUCTION_SET"

    /// Refuses a choice that this process cannot follow; called before anything is read.
    ///
    /// - Throws: ``InstructionSetError``.
    package static func requireChoice() throws(InstructionSetError) {
        _ = try chosen(in: ProcessInfo.processInfo.environment)
    }

    /// The choice that the variables of a process make; nil if there is none.
    ///
    /// - Parameter environment: the process's variables; an empty value is none.
    /// - Returns: one that this machine runs.
    /// - Throws: ``InstructionSetError``.
    package static func chosen(
        in environment: [String: String]
    ) throws(InstructionSetError) -> InstructionSet? {
        guard let name = environment[variable], !name.isEmpty else { return nil }
        guard let choice = allCases.first(where: { $0.name == name }) else {
            throw .unknown(name: name)
        }
        guard choice.isSupported else { throw .unsupported(choice) }
        return choice
    }
}

/// A choice of an instruction set that cannot be followed.
package enum InstructionSetError: Error, Equatable, Sendable {
    /// No instruction set has this name.
    case unknown(name: String)
    /// The processor or the operating system lacks it.
    case unsupported(InstructionSet)
}

extension InstructionSetError: CustomStringConvertible {
    /// What, where, expected, found and the remedy.
    package var description: String {
        let supported = InstructionSet.allCases.filter(\.isSupported).map(\.name)
            .joined(separator: ", ")
        let remedy = "choose one of these, or unset \(InstructionSet.variable) for the fastest"
        return switch self {
        case .unknown(let name):
            "\(InstructionSet.variable): expected one of \(supported), found '\(name)'; \(remedy)"
        case .unsupported(let choice):
            "\(InstructionSet.variable): this processor does not run \(choice.name), it runs "
                + "\(supported); \(remedy)"
        }
    }
}
