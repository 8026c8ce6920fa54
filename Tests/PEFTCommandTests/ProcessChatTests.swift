import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// `peft chat` as a process, on a tiny model that is given its lines.
@Suite(.serialized) struct ProcessChatTests {
    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
    }

    private func chatModel() throws -> String {
        try TinyModel.write(to: workspace.url.appending(path: "chat"))
    }

    private func arguments(_ more: String...) throws -> [String] {
        ["chat", "--model", try chatModel(), "--dtype", "float32", "--threads", "1"] + more
    }

    @Test func aConversationGoesOnWhereItWas() throws {
        let result = try RunningProgram.run(
            arguments("--json", "--max-new-tokens", "8", "--system", "the old house"),
            input: "the house\nthe river\n/reset\nthe house\n")
        #expect(result.status == 0, "\(result.err)")
        let replies = try result.out.split(separator: "\n").map {
            try #require(try JSONValue(parsing: String($0)).objectValue)
        }
        try #require(replies.count == 3)
        #expect(replies.map { $0["user"] } == ["the house", "the river", "the house"])
        func count(_ key: String, _ reply: Int) -> Int { replies[reply][key]?.intValue ?? -1 }
        #expect(count("num_reused_tokens", 0) == 0)
        #expect(count("num_reused_tokens", 1) >= count("num_prompt_tokens", 0))
        #expect(count("num_prompt_tokens", 1) > count("num_prompt_tokens", 0))
        // Begun anew: the same prompt, read already.
        #expect(count("num_prompt_tokens", 2) == count("num_prompt_tokens", 0))
        #expect(count("num_reused_tokens", 2) == count("num_prompt_tokens", 0) - 1)
        #expect(replies[2]["text"] == replies[0]["text"])
    }

    /// The answer is that of a model that reads everything at once.
    @Test func whatWasReadChangesNothing() throws {
        var options = ChatOptions()
        options.model = try chatModel()
        options.dtype = .float32
        options.threads = 1
        options.maxNewTokens = 10
        let chat = try Chat(options)
        var messages = [Chat.Message(role: "user", content: "the house")]
        messages.append(
            Chat.Message(role: "assistant", content: try chat.answer(messages).text))
        messages.append(Chat.Message(role: "user", content: "a river"))
        let second = try chat.answer(messages)
        let fresh = try Chat(options).answer(messages)
        #expect(second.numReusedTokens > 0)
        #expect(fresh.numReusedTokens == 0)
        #expect(second.text == fresh.text)
        #expect(second.numPromptTokens == fresh.numPromptTokens)
    }

    @Test func theFirstPromptIsThatOfGenerate() throws {
        let model = try chatModel()
        let flags = [
            "--model", model, "--dtype", "float32", "--threads", "1", "--max-new-tokens", "9",
        ]
        let generated = try RunningProgram.run(
            ["generate", "--prompt", "the house", "--chat"] + flags)
        let answered = try RunningProgram.run(["chat"] + flags, input: "the house")
        #expect(answered.status == 0, "\(answered.err)")
        #expect(answered.out == generated.out)
        #expect(answered.err == "")
    }

    @Test func anInterruptEndsTheAnswerOnly() throws {
        // The rows of special tokens are zero: they are never the likeliest, and no answer ends by itself.
        let model = try TinyModel.write(to: workspace.url.appending(path: "endless")) {
            name, value in
            guard name == "model.embed_tokens.weight" else { return value }
            let changed = try value.clone()
            try changed.narrow(0, 0, 3).copyInPlace(from: Tensor.zeros([3, value.shape[1]]))
            return changed
        }
        let program = try RunningProgram(
            [
                "chat", "--model", model, "--dtype", "float32", "--threads", "1",
                "--max-new-tokens", "1000000",
            ], input: "the house\n/save saved.jsonl\n")
        try program.wait(until: "an answer") { program.out.count > 40 }
        program.send(SIGINT)
        let result = try program.finish()
        #expect(result.status == 0, "\(result.err)")
        #expect(result.out.hasSuffix("\n"))
    }

    @Test func aModelWithoutTemplateIsRefused() throws {
        let result = try RunningProgram.run(
            ["chat", "--model", TinyModel.tied, "--threads", "1"], input: "the house\n")
        #expect(result.status == 1)
        #expect(result.err.hasPrefix("peft: error: "))
        #expect(result.out == "")
    }
}
