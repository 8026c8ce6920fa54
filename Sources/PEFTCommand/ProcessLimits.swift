import Foundation
import PEFT

/// What the process must be left by the system to do anything at all.
///
/// Its allocator and the environment of its libraries are decided before it starts: see CProcess.
enum ProcessLimits {
    /// Bytes that a process needs to do anything at all: stacks of libdispatch's first threads, 8 MB each, small objects.
    private static let smallestRoom = 40_000_000

    /// A limit on this process's memory that leaves it nothing to work with, in the words of an error; nil if there is none.
    ///
    /// Beyond it not even a thread can be started, and libdispatch tries that again for ever.
    static func exhausted() -> String? {
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
