import Foundation
import PEFT

/// How this process uses memory and threads; set before the first tensor.
enum ProcessPolicy {
    /// Allocations from this size on get pages of their own, which go back to the system when freed.
    ///
    /// The slices of the loss and decoded heads would otherwise leave holes in the heap: 1.88 GB at the peak of a step of 2 x 512
    /// tokens on SmolLM2-135M instead of 1.45 GB, for 3 % more processor time (docs/decisions/0007).
    private static let separatePagesSizeBytes = 16 << 20

    /// How often a waiting OpenMP thread looks before it sleeps, where the user has set nothing: microseconds, not milliseconds.
    private static let spinCount = ("GOMP_SPINCOUNT", "3000")

    /// Applies both policies; starts the program again if its environment must change.
    ///
    /// OpenMP reads its environment when it is loaded, before any code of ours runs.
    static func apply(_ environment: [String: String]) {
        TorchRuntime.setSeparatePages(fromSizeBytes: separatePagesSizeBytes)
        let isDecided = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"].contains {
            environment[$0] != nil
        }
        guard !isDecided, ProcessInfo.processInfo.activeProcessorCount > 1 else { return }
        setenv(spinCount.0, spinCount.1, 1)
        var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
        execv("/proc/self/exe", &arguments)
        // Only reached if the system refuses: then the threads spin, which is slower beside other load and nothing else.
        for argument in arguments { free(argument) }
    }
}
