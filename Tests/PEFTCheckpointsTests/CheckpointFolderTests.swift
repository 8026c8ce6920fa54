import Foundation
import Glibc
import PEFTCheckpoints
import TestSupport
import Testing

@Suite struct CheckpointFolderTests {
    private struct Failure: Error {}

    @Test func isRemovedWhole() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let written = try [1, 2].map { step in
            try CheckpointFolder.write(step: step, in: folder) { temporary in
                _ = try temporary.write(Data("state".utf8), "state.json")
            }
        }
        try written[0].remove()
        #expect(CheckpointFolder.list(in: folder) == [written[1]])
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["checkpoint-2"])
        let error = checkpointError { try written[0].remove() }
        guard case .cannotWrite(written[0].url.path, _, _) = error else {
            Issue.record("found \(String(describing: error))")
            return
        }
    }

    @Test func isThereWholeOrNotAtAll() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let run = folder.appending(path: "run")
        let written = try CheckpointFolder.write(step: 20, in: run) { temporary in
            _ = try temporary.write(Data("state".utf8), "state.json")
            #expect(CheckpointFolder.list(in: run).isEmpty)
        }
        #expect(written.step == 20)
        #expect(written.url.lastPathComponent == "checkpoint-20")
        #expect(
            try Data(contentsOf: written.url.appending(path: "state.json")) == Data("state".utf8))
        #expect(throws: Failure.self) {
            try CheckpointFolder.write(step: 30, in: run) { temporary in
                _ = try temporary.write(Data("half".utf8), "state.json")
                throw Failure()
            }
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: run.path) == ["checkpoint-20"])
    }

    @Test func replacesTheSameStep() throws {
        let run = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: run) }
        for text in ["first", "second"] {
            try CheckpointFolder.write(step: 1, in: run) {
                _ = try $0.write(Data(text.utf8), text)
            }
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: run.path) == ["checkpoint-1"])
        let checkpoint = run.appending(path: "checkpoint-1").path
        #expect(try FileManager.default.contentsOfDirectory(atPath: checkpoint) == ["second"])
    }

    @Test func listsByStep() throws {
        let run = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: run) }
        for step in [100, 20, 3] { try CheckpointFolder.write(step: step, in: run) { _ in } }
        for name in ["checkpoint-", "checkpoint-07", "checkpoint-x", "other-1", "checkpoint--5"] {
            try FileManager.default.createDirectory(
                at: run.appending(path: name), withIntermediateDirectories: true)
        }
        #expect(CheckpointFolder.list(in: run).map(\.step) == [3, 20, 100])
        #expect(CheckpointFolder.list(in: run.appending(path: "none")).isEmpty)
    }

    @Test func removesWhatKilledProcessesLeft() throws {
        let run = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: run) }
        // No process has the highest id that Linux allows plus one.
        let dead = 4_194_305
        let stale = [
            ".adapter_model.safetensors.tmp-\(dead)-1f", "checkpoint-9.tmp-\(dead)-a0",
        ]
        let kept = [
            ".adapter_model.safetensors.tmp-\(getpid())-1f", "metrics.jsonl", "notes.tmp-draft",
        ]
        for name in stale + kept { _ = try run.write(Data(), name) }
        #expect(try CheckpointFolder.removeStale(in: run) == stale)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: run.path).sorted() == kept.sorted())
    }

    @Test func bringsBackACheckpointThatWasMovedAside() throws {
        let run = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: run) }
        for (step, name) in [(1, "checkpoint-1.replaced"), (2, "checkpoint-2.replaced")] {
            let written = try CheckpointFolder.write(step: step, in: run) { _ in }
            try FileManager.default.moveItem(at: written.url, to: run.appending(path: name))
        }
        try CheckpointFolder.write(step: 2, in: run) { _ = try $0.write(Data(), "new") }
        #expect(try CheckpointFolder.removeStale(in: run) == ["checkpoint-2.replaced"])
        #expect(CheckpointFolder.list(in: run).map(\.step) == [1, 2])
    }

    @Test func aFileInTheWay() throws {
        let run = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: run) }
        let file = try run.write(Data(), "file")
        #expect(
            checkpointError {
                _ = try CheckpointFolder.write(step: 1, in: file.appending(path: "run")) { _ in }
            }?.description.hasPrefix("\(file.path)/run/checkpoint-1.tmp-\(getpid())-") == true)
    }
}
