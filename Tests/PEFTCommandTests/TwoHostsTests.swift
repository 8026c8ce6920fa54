import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// Two hosts with a network cable: network namespaces with a pair of virtual interfaces, removed with the object.
///
/// A system that does not allow them gives two processes on the loopback interface instead.
private final class TwoHosts {
    /// Whether these are namespaces.
    let areSeparate: Bool
    private let name: String

    init() {
        let name = "peft\(getpid() % 100_000)"
        self.name = name
        let commands = [
            "netns add \(name)a", "netns add \(name)b",
            "link add \(name)a netns \(name)a type veth peer name \(name)b netns \(name)b",
            "-n \(name)a addr add 10.77.0.1/24 dev \(name)a",
            "-n \(name)b addr add 10.77.0.2/24 dev \(name)b",
        ]
        areSeparate =
            (commands
            + ["a", "b"].flatMap {
                ["-n \(name)\($0) link set lo up", "-n \(name)\($0) link set \(name)\($0) up"]
            }).allSatisfy(Self.ip)
    }

    deinit {
        for host in ["a", "b"] { _ = Self.ip("netns del \(name)\(host)") }
    }

    /// What a process is started with, so that it runs on one of them.
    var prefixes: [[String]] {
        areSeparate ? ["a", "b"].map { ["/usr/bin/env", "ip", "netns", "exec", name + $0] } : []
    }

    /// The variables of a process on each: the address of the first one, or a second loopback address.
    var environments: [[String: String]] {
        (0..<2).map {
            [
                "RANK": "\($0)", "WORLD_SIZE": "2", "LOCAL_RANK": "0",
                "MASTER_ADDR": areSeparate ? "10.77.0.1" : "127.0.0.2",
                "MASTER_PORT": "\(areSeparate ? 29_500 : Int(port))",
                "PATH": "/usr/sbin:/sbin:/usr/bin:/bin",
            ]
        }
    }

    private let port = RankProcesses.freePort()

    /// Cuts the cable: nothing arrives any more, and nobody is told.
    func disconnect() -> Bool { Self.ip("-n \(name)a link set \(name)a down") }

    private static func ip(_ arguments: String) -> Bool {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["ip"] + arguments.split(separator: " ").map(String.init)
        process.environment = ["PATH": "/usr/sbin:/sbin:/usr/bin:/bin"]
        process.standardError = FileHandle.nullDevice
        guard (try? process.run()) != nil else { return false }
        process.waitUntilExit()
        return process.terminationStatus == 0
    }
}

/// A run over two hosts, whose processes find each other by the address of the first.
@Suite(.serialized) struct TwoHostsTests {
    private let workspace: Workspace
    private let rows: String
    private let hosts = TwoHosts()

    init() throws {
        workspace = try Workspace()
        rows = try workspace.write(rows: TinyRows.make(16))
        print(
            hosts.areSeparate
                ? "two hosts: network namespaces"
                : "two hosts: two loopback addresses, since network namespaces are not allowed here"
        )
    }

    private func flags(_ output: String, rows numRows: Int, steps: Int) -> [String] {
        [
            "train", "--model", TinyModel.grouped, "--data", rows, "--output-dir",
            workspace.path(output), "--dtype", "float32", "--lora-r", "4", "--logging-steps", "1",
            "--save-steps", "2", "--save-total-limit", "2", "--max-steps", "\(steps)",
            "--per-device-train-batch-size", "\(numRows)", "--threads", "1",
            "--ddp-timeout", "10",
        ]
    }

    private func start(_ output: String, steps: Int) throws -> RankProcesses {
        try RankProcesses(
            "peft", environments: hosts.environments,
            arguments: flags(output, rows: 1, steps: steps), prefixes: hosts.prefixes)
    }

    @Test func theyAreTheRunOfOneProcess() throws {
        for result in try start("two", steps: 6).finish() {
            #expect(result.status == 0, "\(result.err)")
        }
        let one = try RunningProgram.run(flags("one", rows: 2, steps: 6))
        #expect(one.status == 0, "\(one.err)")
        let losses = try ["one", "two"].map {
            try RunFiles.metric("loss", in: workspace.path($0))
        }
        try #require(losses[0].count == 6 && losses[1].count == 6)
        #expect(
            zip(losses[0], losses[1]).allSatisfy {
                ($0 - $1).magnitude <= Tolerance.trainingLoss * $0.magnitude
            })
    }

    private func startAndWait() throws -> RankProcesses {
        let processes = try start("out", steps: 1_000_000)
        let folder = URL(filePath: workspace.path("out"))
        while CheckpointFolder.list(in: folder).isEmpty {
            try #require(processes.isRunning(0) && processes.isRunning(1))
            usleep(10_000)
        }
        return processes
    }

    /// A killed process closes its connections, and the other host ends at once.
    @Test(arguments: [0, 1]) func theOtherHostNamesTheRankThatIsKilled(rank: Int) throws {
        let processes = try startAndWait()
        processes.send(SIGKILL, to: rank)
        let other = try processes.finish()[1 - rank]
        #expect(other.status == 1)
        #expect(other.err.contains("rank \(rank)"), "\(other.err)")
    }

    /// Nothing closes a connection whose cable is cut: only `--ddp-timeout` tells.
    @Test func aCutCableEndsBothHosts() throws {
        let processes = try startAndWait()
        if hosts.areSeparate {
            #expect(hosts.disconnect())
        } else {
            processes.send(SIGSTOP, to: 1)  // the nearest that there is
        }
        while processes.isRunning(0) { usleep(10_000) }
        if !hosts.areSeparate { processes.send(SIGKILL, to: 1) }
        for (rank, result) in try processes.finish().enumerated()
        where hosts.areSeparate || rank == 0 {
            #expect(result.status == 1)
            #expect(result.err.contains("rank \(1 - rank)"), "rank \(rank): \(result.err)")
        }
    }
}
