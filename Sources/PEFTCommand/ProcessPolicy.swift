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

    /// How many compiled products oneDNN keeps, where the user has set nothing: it compiles one for each number of tokens, and
    /// batches differ in it (docs/decisions/0007).
    private static let productCache = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

    /// Applies the policies; starts the program again if its environment must change.
    ///
    /// OpenMP and oneDNN read their environment when they are loaded, before any code of ours runs.
    static func apply(_ environment: [String: String]) {
        TorchRuntime.setSeparatePages(fromSizeBytes: separatePagesSizeBytes)
        let isWaitingDecided = ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"].contains {
            environment[$0] != nil
        }
        var additions: [(String, String)] = []
        if !isWaitingDecided, ProcessInfo.processInfo.activeProcessorCount > 1 {
            additions.append(spinCount)
        }
        if environment[productCache.0] == nil { additions.append(productCache) }
        guard !additions.isEmpty else { return }
        for (name, value) in additions { setenv(name, value, 1) }
        var arguments = CommandLine.arguments.map { strdup($0) } + [nil]
        execv("/proc/self/exe", &arguments)
        // Only reached if the system refuses: then the threads spin, which is slower beside other load and nothing else.
        for argument in arguments { free(argument) }
    }
}
