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

    // MARK: - Limits

    /// Bytes that a process needs to do anything at all: stacks of threads, small objects.
    private static let smallestRoom = 16_000_000

    /// A limit on this process's memory that leaves it nothing to work with, in the words of an error; nil if there is none.
    ///
    /// Beyond it not even a thread can be started, and libdispatch tries that again for ever.
    static func exhaustedLimit() -> String? {
        let memory = MemoryStatistics.current()
        let limits = [
            (flag: "-d", resource: RLIMIT_DATA, taken: memory.dataBytes),
            (flag: "-v", resource: RLIMIT_AS, taken: memory.addressSpaceBytes),
        ]
        for (flag, resource, taken) in limits {
            var limit = rlimit()
            guard getrlimit(__rlimit_resource_t(resource.rawValue), &limit) == 0,
                limit.rlim_cur < rlim_t(taken + smallestRoom)
            else { continue }
            let code = DiagnosisCode.memoryTooSmall.rawValue
            return "\(code): ulimit \(flag): the process may take \(limit.rlim_cur / 1024) kB, "
                + "of which the program itself takes \(taken / 1024); raise the limit: "
                + "peft plan says what a run takes"
        }
        return nil
    }
}
