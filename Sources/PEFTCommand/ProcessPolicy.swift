import Foundation
import PEFT

/// How this process uses threads and caches; set before the first tensor.
///
/// Its allocator is linked in: see CMemory.
enum ProcessPolicy {
    /// How often a waiting OpenMP thread looks before it sleeps, where the user has set nothing: microseconds, not milliseconds.
    private static let spinCount = ("GOMP_SPINCOUNT", "3000")

    /// How many compiled products oneDNN keeps, where the user has set nothing: it compiles one for each number of tokens, and
    /// batches differ in it (docs/decisions/0007).
    private static let productCache = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")

    /// Applies the policies; starts the program again if its environment must change.
    ///
    /// OpenMP and oneDNN read their environment when they are loaded, before any code of ours runs.
    static func apply(_ environment: [String: String]) {
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
