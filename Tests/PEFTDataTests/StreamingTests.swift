import Foundation
import PEFTData
import TestSupport
import Testing

/// Encoded rows in a file are the same rows, and take next to no memory.
@Suite struct StreamingTests {
    private func streamed(_ text: String, use: RowUse = .examples) throws -> (
        file: TokenDataset, memory: TokenDataset
    ) {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "rows.jsonl")
        try Data(text.utf8).write(to: url)
        var options = EncodingOptions()
        options.use = use
        let memory = try TokenDataset.load(url, tokenizer: nil, options: options)
        options.streamingFolder = folder.path
        let file = try TokenDataset.load(url, tokenizer: nil, options: options)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["rows.jsonl"])
        return (file, memory)
    }

    @Test(arguments: [1, 3, 20_000])
    func rowsAreThoseInMemory(count: Int) throws {
        let text = (0..<count).map { row in
            "{\"tokens\": \((0...(row % 5 + 1)).map { (row + $0) % 1000 })}\n"
        }.joined()
        let (file, memory) = try streamed(text)
        #expect(file == memory)
        #expect(file.sequences.lengths == memory.sequences.lengths)
        #expect(
            file.sequences.indices.allSatisfy {
                file.sequences.numTargetTokens(at: $0) == memory.sequences.numTargetTokens(at: $0)
            })
    }

    @Test func batchesAreThoseInMemory() throws {
        let text = (0..<50).map { "{\"tokens\": [\($0), 1, \($0 % 7)]}\n" }.joined()
        let (file, memory) = try streamed(text)
        let options = BatchSchedule.Options(perDeviceTrainBatchSize: 4)
        let (first, second) = (
            try BatchSchedule(dataset: file, options: options),
            try BatchSchedule(dataset: memory, options: options)
        )
        for step in 0..<20 {
            #expect(first.microBatches(step: step) == second.microBatches(step: step))
        }
    }

    @Test func aFolderThatCannotBeWrittenIsAnError() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "rows.jsonl")
        try Data("{\"tokens\": [1, 2]}\n".utf8).write(to: url)
        var options = EncodingOptions()
        options.streamingFolder = "/proc/none"
        let error = #expect(throws: DatasetError.self) {
            _ = try TokenDataset.load(url, tokenizer: nil, options: options)
        }
        #expect(
            error?.problem
                == .unwritable(folder: "/proc/none", reason: "No such file or directory"))
    }
}
