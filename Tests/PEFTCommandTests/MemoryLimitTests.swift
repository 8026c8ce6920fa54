import Foundation
import PEFT
import TestSupport
import Testing
import TrainingTestSupport

/// Runs under a limit on the memory of the process.
@Suite(.serialized) struct MemoryLimitTests {
    /// A model of 450 million parameters, most of them in blocks that are small themselves.
    private static let config = """
        {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 1024,
         "intermediate_size": 2816, "num_hidden_layers": 40, "num_attention_heads": 16,
         "num_key_value_heads": 4, "head_dim": 64, "vocab_size": 64, "max_position_embeddings": 512,
         "rms_norm_eps": 1e-5, "tie_word_embeddings": true}
        """
    private static let limitKilobytes = 200_000

    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
    }

    /// The kernel counts what a process may write, so neither mapped weights nor files take any of the limit.
    @Test func offloadedModelLargerThanTheLimitTrains() throws {
        let made = try RunningProgram.run([
            "init-model", workspace.write(Self.config, as: "config.json"), "--output-dir",
            workspace.path("model"), "--json",
        ])
        try #require(made.status == 0, "\(made.err)")
        let summary = try #require(try JSONValue(parsing: made.out).objectValue)
        let numParameters = try #require(summary["num_parameters"]?.intValue)
        #expect(numParameters / 2 > Self.limitKilobytes * 1024)
        let train = [
            "train", "--model", workspace.path("model"), "--data",
            try workspace.write(rows: TinyRows.make(4)), "--output-dir", workspace.path("out"),
            "--max-steps", "1", "--threads", "1", "--lora-r", "1", "--target-modules", "q_proj",
            "--per-device-train-batch-size", "1", "--gradient-checkpointing",
        ]
        let limit = "ulimit -d \(Self.limitKilobytes)"
        let resident = try RunningProgram.run(train, after: limit)
        #expect(resident.status == 1)
        #expect(resident.err.contains("peft: error: PEFT-R002: "))
        let offloaded = try RunningProgram.run(train + ["--offload", "base"], after: limit)
        #expect(offloaded.status == 0, "\(offloaded.err)")
    }

    /// Without a look at the limit, libdispatch waits for ever for the memory of a thread.
    @Test func limitThatLeavesNothingIsAnError() throws {
        var message: String?
        for kilobytes in stride(from: 200_000, to: 40_000, by: -8_000) where message == nil {
            let result = try RunningProgram.run(
                ["train", "--model", "none", "--data", "none", "--output-dir", "none"],
                after: "ulimit -d \(kilobytes)")
            #expect(result.status == 1)
            if result.err.contains("none: ") { continue }
            message = result.err
        }
        let text = try #require(message)
        #expect(text.hasPrefix("peft: error: PEFT-R002: ulimit -d: the process may take "))
        #expect(text.hasSuffix("raise the limit: peft plan says what a run takes\n"))
    }
}
