import Foundation

/// The ranks of a run as processes of their own, started together; killed if they run too long.
package final class RankProcesses {
    /// How one rank ended, and what it printed.
    package struct Result: Sendable {
        /// The exit status; the negative number of the signal that ended it.
        package let status: Int32
        /// Standard output.
        package let out: String
        /// Standard error.
        package let err: String
    }

    /// What went wrong with the processes themselves.
    package enum Failure: Error {
        case timeout(rank: Int, out: String, err: String)
    }

    /// The folder of the test bundle that runs, where all programs are built.
    private static let folder = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent()

    private let files: URL
    private var processes: [Process] = []
    private let numEnded = DispatchSemaphore(value: 0)

    /// Starts one process a rank, each with one thread an operation.
    ///
    /// - Parameters:
    ///   - program: the program's name among those that the package builds.
    ///   - environments: one a rank, added to this process's environment.
    ///   - arguments: the same for all ranks.
    ///   - prefixes: a command a rank that becomes the program, such as `ip netns exec name`, by its path; none for the program.
    /// - Throws: an error of the file system.
    package init(
        _ program: String, environments: [[String: String]], arguments: [String],
        prefixes: [[String]] = []
    ) throws {
        files = try Checkout.temporaryFolder()
        for (rank, variables) in environments.enumerated() {
            let process = Process()
            let prefix = rank < prefixes.count ? prefixes[rank] : []
            let command = prefix + [Self.folder.appending(path: program).path] + arguments
            process.executableURL = URL(filePath: command[0])
            process.arguments = Array(command.dropFirst())
            process.environment = ProcessInfo.processInfo.environment
                .merging(["OMP_NUM_THREADS": "1"]) { $1 }.merging(variables) { $1 }
            process.standardInput = FileHandle.nullDevice
            process.standardOutput = try makeFile("\(rank).out")
            process.standardError = try makeFile("\(rank).err")
            process.terminationHandler = { [numEnded] _ in numEnded.signal() }
            try process.run()
            processes.append(process)
        }
    }

    deinit {
        for process in processes where process.isRunning {
            kill(process.processIdentifier, SIGKILL)
        }
        try? FileManager.default.removeItem(at: files)
    }

    /// Whether a rank has not ended.
    package func isRunning(_ rank: Int) -> Bool { processes[rank].isRunning }

    /// Sends a rank a signal.
    package func send(_ signal: Int32, to rank: Int) {
        kill(processes[rank].processIdentifier, signal)
    }

    /// The variables of each rank of a run on this machine, as PyTorch's launchers set them.
    package static func environments(_ numRanks: Int) -> [[String: String]] {
        let port = freePort()
        return (0..<numRanks).map {
            [
                "RANK": "\($0)", "LOCAL_RANK": "\($0)", "WORLD_SIZE": "\(numRanks)",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "\(port)",
            ]
        }
    }

    /// Waits until all have ended.
    ///
    /// - Parameter seconds: the longest to wait, far beyond what is needed.
    /// - Returns: one result a rank.
    /// - Throws: `Failure.timeout` with the output of the first rank that still runs; all are killed.
    package func finish(withinSeconds seconds: Double = 120) throws -> [Result] {
        let deadline = DispatchTime.now() + seconds
        for _ in processes where numEnded.wait(timeout: deadline) == .timedOut {
            let rank = processes.firstIndex { $0.isRunning } ?? 0
            throw Failure.timeout(
                rank: rank, out: text("\(rank).out"), err: text("\(rank).err"))
        }
        return processes.enumerated().map { rank, process in
            let status = process.terminationStatus
            return Result(
                status: process.terminationReason == .uncaughtSignal ? -status : status,
                out: text("\(rank).out"), err: text("\(rank).err"))
        }
    }

    /// A port of the loopback interface that nobody listens on now.
    package static func freePort() -> UInt16 {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                _ = bind(descriptor, $0, size)
                _ = getsockname(descriptor, $0, &size)
            }
        }
        return UInt16(bigEndian: address.sin_port)
    }

    private func makeFile(_ name: String) throws -> FileHandle {
        let url = files.appending(path: name)
        try Data().write(to: url)
        return try FileHandle(forWritingTo: url)
    }

    private func text(_ name: String) -> String {
        (try? String(contentsOf: files.appending(path: name), encoding: .utf8)) ?? ""
    }
}
