import Foundation
import PEFT
import PEFTCommand
import Testing
import TrainingTestSupport

/// What `peft chat` makes of lines, without a model.
@Suite struct ConversationTests {
    private let output = Output()
    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
    }

    private struct Refused: Error, CustomStringConvertible {
        var description: String { "refused" }
    }

    /// A conversation with a model that says what it was given; it refuses the word "no".
    private func talk(
        _ lines: [String], isInteractive: Bool = false,
        _ change: (inout ChatOptions) -> Void = { _ in }
    ) throws {
        var options = ChatOptions()
        change(&options)
        var conversation = Conversation(
            options, console: output.console(), stop: StopRequest(), isInteractive: isInteractive
        ) { messages, _, write in
            guard messages.last?.content != "no" else { throw Refused() }
            let text = messages.map { "\($0.role.prefix(1)):\($0.content)" }.joined(separator: "|")
            write(String(text.prefix(3)))
            write(String(text.dropFirst(3)))
            return ChatReply(
                text: "ok", numPromptTokens: 5, numReusedTokens: 3, numNewTokens: 2,
                stopReason: .endOfText)
        }
        try conversation.run(lines)
    }

    @Test func answersFollowTheirLines() throws {
        try talk(["Hello", "", "  ", "And then?"]) { $0.system = "Be brief." }
        #expect(
            output.out == """
                s:Be brief.|u:Hello
                s:Be brief.|u:Hello|a:ok|u:And then?

                """)
        #expect(output.err == "")
    }

    @Test func wordsAreForTheProgram() throws {
        try talk([
            "one", "/reset", "two", "/system A poet.", "three", "/system", "//four", "/exit",
            "five",
        ])
        #expect(output.out == "u:one\nu:two\ns:A poet.|u:three\nu:/four\n")
        try talk(["/help"])
        #expect(output.err.contains("  /save FILE    write the conversation"))
    }

    @Test func jsonIsOneObjectAnAnswer() throws {
        try talk(["Hello"]) { $0.json = true }
        #expect(
            output.out
                == #"{"user": "Hello", "text": "ok", "num_prompt_tokens": 5, "num_reused_tokens": 3, "#
                + #""num_new_tokens": 2, "stop_reason": "end_of_text"}"# + "\n")
    }

    @Test func savedConversationsAreRows() throws {
        let path = workspace.path("saved.jsonl")
        try talk(["Hello", "/save \(path)"]) { $0.system = "Be brief." }
        #expect(
            try String(contentsOfFile: path, encoding: .utf8)
                == #"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}, "#
                + #"{"role": "assistant", "content": "ok"}]}"# + "\n")
        // Nothing is replaced.
        #expect(throws: CheckpointError.self) { try talk(["Hello", "/save \(path)"]) }
    }

    @Test(arguments: [
        (["/rest"], "unknown word '/rest'; did you mean '/reset'?"),
        (["/save"], "/save needs a file"), (["/save x"], "nothing has been said"),
    ])
    func wrongWordsEndWhatIsPiped(_ lines: [String], _ message: String) throws {
        let error = #expect(throws: Conversation.Failure.self) { try talk(lines + ["on"]) }
        #expect(error?.description.hasPrefix(message) == true)
        #expect(output.out == "")
    }

    /// What was refused is not part of the conversation.
    @Test func aTerminalGoesOn() throws {
        try talk(["no", "/rest", "yes"], isInteractive: true)
        #expect(output.out == "u:yes\n")
        #expect(output.err.contains("peft: error: refused\n> peft: error: unknown word"))
    }
}
