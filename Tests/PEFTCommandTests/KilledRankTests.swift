import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// Ranks that are killed at any moment, above all while a checkpoint is written: one run, killed and started again many times.
@Suite(.serialized) struct KilledRankTests {
    /// When a rank is killed, and which.
    private struct Moment {
        let rank: Int
        let name: String
        /// Looks at the names in the output folder, and in the checkpoint that is written now if there is one.
        let isNow: ([String], [String]?) -> Bool
    }

    private static let numRanks = 3
    private static let numSteps = 60

    private let workspace: Workspace
    private let rows: String

    init() throws {
        workspace = try Workspace()
        rows = try workspace.write(rows: TinyRows.make(12))
    }

    /// The order in which a checkpoint is filled: the optimizer's pieces, the adapter, the state, and the last name.
    private var moments: [Moment] {
        [
            Moment(rank: 1, name: "before the first step") { names, _ in !names.isEmpty },
            Moment(rank: 0, name: "the folder is made") { $1 != nil },
            Moment(rank: 2, name: "the first file") { $1.map { !$0.isEmpty } ?? false },
            Moment(rank: 1, name: "several files") { $1.map { $0.count >= 3 } ?? false },
            Moment(rank: 0, name: "the adapter") {
                $1.map { $0.contains { $0.hasSuffix("adapter_model.safetensors") } } ?? false
            },
            Moment(rank: 2, name: "the state") { $1?.contains("run_state.json") ?? false },
            Moment(rank: 0, name: "a checkpoint more") { [first = Counter()] names, _ in
                first.isMore(names.count { $0.hasPrefix("checkpoint-") && !$0.contains(".") })
            },
        ]
    }

    /// Tells when a number grows.
    private final class Counter {
        private var first: Int?
        func isMore(_ count: Int) -> Bool {
            guard let first else {
                self.first = count
                return false
            }
            return count > first
        }
    }

    private func start(_ output: String, attempt: Int) throws -> RankProcesses {
        var environments = RankProcesses.environments(Self.numRanks)
        for rank in environments.indices {
            environments[rank]["TORCHELASTIC_RUN_ID"] = "test"
            environments[rank]["TORCHELASTIC_RESTART_COUNT"] = "\(attempt)"
        }
        return try RankProcesses(
            "peft", environments: environments,
            arguments: [
                "train", "--model", TinyModel.grouped, "--data", rows, "--output-dir",
                workspace.path(output), "--dtype", "float32", "--lora-r", "3",
                "--per-device-train-batch-size", "1", "--max-steps", "\(Self.numSteps)",
                "--save-steps", "1", "--logging-steps", "1", "--threads", "1", "--ddp-timeout",
                "60",
            ])
    }

    private func names(_ path: String) -> [String]? {
        try? FileManager.default.contentsOfDirectory(atPath: path)
    }

    /// Looks at the folder as fast as it can, so that the kill falls into the moment itself.
    private func wait(for moment: Moment, in output: String, _ processes: RankProcesses) throws {
        let folder = workspace.path(output)
        let known = Set(names(folder) ?? [])
        while true {
            let all = names(folder) ?? []
            let writing = all.first {
                $0.contains("checkpoint-") && Int($0.dropFirst("checkpoint-".count)) == nil
                    && !known.contains($0)
            }
            if moment.isNow(all, writing.flatMap { names(folder + "/" + $0) }) { return }
            try #require(processes.isRunning(moment.rank), "never: \(moment.name)")
        }
    }

    /// Every folder with a checkpoint's name has the bytes that an undisturbed run wrote.
    private func expectWhole(_ output: String, as expected: String, after moment: String) throws {
        for checkpoint in CheckpointFolder.list(in: URL(filePath: workspace.path(output))) {
            let folders = [output, expected].map {
                workspace.path($0) + "/checkpoint-\(checkpoint.step)"
            }
            let files = try folders.map(RunFiles.names)
            #expect(files[0] == files[1], "\(moment): step \(checkpoint.step)")
            for name in files[0] where files[1].contains(name) {
                let bytes = try folders.map { try RunFiles.bytes($0 + "/" + name) }
                #expect(bytes[0] == bytes[1], "\(moment): step \(checkpoint.step), \(name)")
            }
        }
    }

    @Test func noMomentLeavesHalfACheckpoint() throws {
        let undisturbed = try start("whole", attempt: 0).finish()
        try #require(undisturbed.allSatisfy { $0.status == 0 }, "\(undisturbed[0].err)")
        for (attempt, moment) in moments.enumerated() {
            let processes = try start("out", attempt: attempt)
            try wait(for: moment, in: "out", processes)
            processes.send(SIGKILL, to: moment.rank)
            for (rank, result) in try processes.finish().enumerated() where rank != moment.rank {
                #expect(result.status == 1, "\(moment.name): rank \(rank): \(result.err)")
                #expect(
                    result.err.contains("rank \(moment.rank)"),
                    "\(moment.name): rank \(rank): \(result.err)")
            }
            try expectWhole("out", as: "whole", after: moment.name)
        }
        let last = try start("out", attempt: moments.count).finish()
        #expect(last.allSatisfy { $0.status == 0 }, "\(last[0].err)")
        try expectWhole("out", as: "whole", after: "the last start")
        #expect(
            try RunFiles.metric("loss", in: workspace.path("out"))
                == RunFiles.metric("loss", in: workspace.path("whole")))
    }
}
