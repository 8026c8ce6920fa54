import CTorch
import Foundation

/// The loaded libtorch: its version, threads and memory.
public enum TorchRuntime {
    /// The version whose headers this program was built with.
    public static var headerVersion: String { String(cString: ctorch_runtime_header_version()) }

    /// The version of the library that this process loaded, as its own configuration states it.
    public static var libraryVersion: String {
        let configuration = String(cString: ctorch_runtime_configuration())
        guard let match = configuration.firstMatch(of: /TORCH_VERSION=([0-9.]+)/) else {
            return "unknown"
        }
        return String(match.1)
    }

    /// Lets the kernel end this process when the one that started it ends, however that ends.
    public static func endWithParent() { ctorch_runtime_end_with_parent() }

    /// Refuses to go on with a library other than the one that the headers describe.
    ///
    /// A mismatch runs at first and then crashes where virtual tables moved, so it is checked at start.
    ///
    /// - Throws: `TorchError` naming both versions and the remedy.
    public static func checkVersion() throws(TorchError) {
        try checkVersion(header: headerVersion, library: libraryVersion)
    }

    /// The check itself, on any two versions.
    package static func checkVersion(header: String, library: String) throws(TorchError) {
        guard header == library else {
            throw TorchError(
                operation: "libtorch version",
                message: """
                    built with the headers of \(header), but the library loaded is \(library); \
                    rebuild against the library that is installed, or load \(header)
                    """)
        }
    }

    /// The number of threads that one operation may use; set it before the first operation.
    public static var numThreads: Int { Int(ctorch_runtime_num_threads()) }

    /// Sets the number of threads that one operation may use.
    ///
    /// - Throws: `TorchError` if the number is not positive.
    public static func setNumThreads(_ count: Int) throws(TorchError) {
        try check("set threads", [], ctorch_runtime_set_num_threads(Int32(clamping: count)))
    }

    /// Calls a C function once for each thread in `0..<count`, on the threads of libtorch's operations.
    ///
    /// For kernels, which take their threads from their caller: `run(count, body, data)` calls `body(data, thread)`.
    package static let runInParallel:
        @convention(c) (
            _ count: Int32, _ body: (@convention(c) (UnsafeMutableRawPointer?, Int32) -> Void)?,
            _ data: UnsafeMutableRawPointer?
        ) -> Void = { ctorch_runtime_parallel($0, $1, $2) }

    /// Calls a closure once for each thread in `0..<count`, on the threads of libtorch's operations; returns when all have ended.
    package static func inParallel(_ count: Int, _ body: (_ thread: Int) -> Void) {
        withoutActuallyEscaping(body) { body in
            var body = body
            withUnsafeMutablePointer(to: &body) { body in
                ctorch_runtime_parallel(
                    Int32(count),
                    { data, thread in
                        data?.assumingMemoryBound(to: ((Int) -> Void).self).pointee(Int(thread))
                    }, UnsafeMutableRawPointer(body))
            }
        }
    }

    /// Tensor handles that Swift holds now; the leak tests watch it.
    public static var numLiveTensors: Int { Int(ctorch_runtime_live_tensors()) }

    /// Closures that libtorch holds now (pullbacks, hooks, owners of wrapped memory).
    public static var numLiveContexts: Int { Int(ctorch_runtime_live_contexts()) }
}

/// This process's memory as the kernel accounts it.
public struct MemoryStatistics: Sendable, Equatable {
    /// Bytes in physical memory now.
    public let residentBytes: Int
    /// The most that was ever in physical memory.
    public let peakResidentBytes: Int
    /// Bytes that `ulimit -d` limits: what only this process has and may write, in physical memory or not.
    public let dataBytes: Int
    /// Bytes that `ulimit -v` limits: all addresses that are taken.
    public let addressSpaceBytes: Int

    /// Reads the figures of this process; zero where the system does not tell.
    public static func current() -> MemoryStatistics {
        let status = (try? String(contentsOfFile: "/proc/self/status", encoding: .utf8)) ?? ""
        func bytes(_ key: String) -> Int {
            for line in status.split(separator: "\n") where line.hasPrefix(key) {
                let digits = line.drop { !$0.isNumber }.prefix { $0.isNumber }
                return (Int(digits) ?? 0) * 1024
            }
            return 0
        }
        return MemoryStatistics(
            residentBytes: bytes("VmRSS:"), peakResidentBytes: bytes("VmHWM:"),
            dataBytes: bytes("VmData:"), addressSpaceBytes: bytes("VmSize:"))
    }
}
