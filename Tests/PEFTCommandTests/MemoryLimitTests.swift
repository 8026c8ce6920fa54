import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// Runs under a limit on the memory of the process.
@Suite(.serialized) struct MemoryLimitTests {
    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
    }

    /// The message of a limit under which the program loads and nothing more, found by halving.
    ///
    /// Without a look at the limit, libdispatch waits for ever for the memory of a thread.
    private func messageOfExhaustedLimit() throws -> String {
        var (tooSmall, enough) = (0, 4_000_000)
        while enough - tooSmall > 1_000 {
            let kilobytes = (tooSmall + enough) / 2
            let result = try RunningProgram.run(
                ["train", "--model", "none", "--data", "none", "--output-dir", "none"],
                after: "ulimit -d \(kilobytes)")
            if result.err.contains("PEFT-R002") { return result.err }
            if result.status == 1 { enough = kilobytes } else { tooSmall = kilobytes }
        }
        Issue.record(
            "from \(tooSmall) to \(enough) kB the program goes from not loading to running")
        return ""
    }

    @Test func limitThatLeavesNothingIsAnError() throws {
        let message = try messageOfExhaustedLimit()
        #expect(message.hasPrefix("peft: error: PEFT-R002: ulimit -d: the process may take "))
        #expect(message.hasSuffix("raise the limit: peft plan says what a run takes\n"))
    }

    /// A model of small blocks, so many that their 4-bit form is larger than a limit.
    private func makeModel(largerThan limitBytes: Int) throws -> String {
        let blockParameters = 1024 * (2 * 1024 + 2 * 256 + 3 * 2816)
        let config = """
            {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 1024,
             "intermediate_size": 2816, "num_attention_heads": 16, "num_key_value_heads": 4,
             "num_hidden_layers": \(limitBytes / (blockParameters / 2) + 1), "head_dim": 64,
             "vocab_size": 64, "max_position_embeddings": 512, "rms_norm_eps": 1e-5,
             "tie_word_embeddings": true}
            """
        let made = try RunningProgram.run([
            "init-model", workspace.write(config, as: "config.json"), "--output-dir",
            workspace.path("model"), "--json",
        ])
        try #require(made.status == 0, "\(made.err)")
        let summary = try #require(try JSONValue(parsing: made.out).objectValue)
        let numParameters = try #require(summary["num_parameters"]?.intValue)
        #expect(numParameters / 2 > limitBytes)
        return workspace.path("model")
    }

    /// The kernel counts what a process may write, so neither mapped weights nor files take any of the limit.
    @Test func offloadedModelLargerThanTheLimitTrains() throws {
        let own = try #require(
            try messageOfExhaustedLimit().firstMatch(of: /the program itself takes (\d+);/)?.1)
        let limitKilobytes = try #require(Int(own)) + 120_000
        let train = [
            "train", "--model", try makeModel(largerThan: limitKilobytes * 1024), "--data",
            try workspace.write(rows: TinyRows.make(4)), "--output-dir", workspace.path("out"),
            "--max-steps", "1", "--threads", "1", "--lora-r", "1", "--target-modules", "q_proj",
            "--per-device-train-batch-size", "1", "--gradient-checkpointing",
        ]
        let limit = "ulimit -d \(limitKilobytes)"
        let resident = try RunningProgram.run(train, after: limit)
        #expect(resident.status == 1)
        #expect(resident.err.contains("peft: error: PEFT-R002: "))
        let offloaded = try RunningProgram.run(train + ["--offload", "base"], after: limit)
        #expect(offloaded.status == 0, "\(offloaded.err)")
    }
}
