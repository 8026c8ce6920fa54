import PEFTLayers
import Torch

/// What a process needs to be before it computes anything.
enum ComputingProcess {
    /// Checks the library and the user's choice of instructions, and sets the number of threads.
    ///
    /// - Parameter numThreads: nil for libtorch's choice.
    /// - Throws: `TorchError` for a libtorch of another version, `InstructionSetError` for a choice that the processor lacks.
    static func prepare(numThreads: Int?) throws {
        try TorchRuntime.checkVersion()
        try InstructionSet.requireChoice()
        if let numThreads { try TorchRuntime.setNumThreads(numThreads) }
    }
}
