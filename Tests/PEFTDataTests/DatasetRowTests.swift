import PEFTData
import PEFTTokenizers
import Testing

/// Columns and their values: the kinds of rows, and exact texts of what is refused.
@Suite struct DatasetRowTests {
    private func parse(_ text: String, ignoresExtraColumns: Bool = false) throws -> DatasetRow {
        try DatasetRow.parse(JSONValue(parsing: text), ignoresExtraColumns: ignoresExtraColumns).row
    }

    private func ignored(_ text: String, ignoresExtraColumns: Bool = false) throws -> [String] {
        try DatasetRow.parse(JSONValue(parsing: text), ignoresExtraColumns: ignoresExtraColumns)
            .ignored
    }

    private func problem(_ text: String) -> String {
        do {
            return "no problem: \(try parse(text))"
        } catch {
            return String(describing: error)
        }
    }

    @Test func eachKindIsTold() throws {
        let user: JSONValue = ["role": "user", "content": "hi"]
        let bot: JSONValue = ["role": "assistant", "content": "ho"]
        #expect(try parse(#"{"text": "a"}"#) == .text("a"))
        #expect(
            try parse(#"{"completion": "b", "prompt": "a"}"#)
                == .promptCompletion(prompt: "a", completion: "b"))
        #expect(try parse(#"{"tokens": [0, 2147483647]}"#) == .tokens([0, .max]))
        let chat = #"[{"role": "user", "content": "hi"}]"#
        let reply = #"[{"role": "assistant", "content": "ho"}]"#
        #expect(try parse(#"{"messages": \#(chat)}"#) == .messages([user], context: ChatContext()))
        #expect(
            try parse(#"{"prompt": \#(chat), "completion": \#(reply)}"#)
                == .chatCompletion(prompt: [user], completion: [bot], context: ChatContext()))
    }

    @Test func chatsMayHaveToolsAndVariables() throws {
        let chat = #""messages": [{"role": "user", "content": "hi"}]"#
        let context = ChatContext(tools: [["name": "f"]], variables: ["a": 1])
        for tools in [#"[{"name": "f"}]"#, #""[{\"name\": \"f\"}]""#] {
            let row = try parse(
                #"{\#(chat), "tools": \#(tools), "chat_template_kwargs": {"a": 1}}"#)
            #expect(row == .messages([["role": "user", "content": "hi"]], context: context))
        }
    }

    @Test func messagesMayHoldPartsOrToolCallsInPlaceOfText() throws {
        let rows = [
            #"{"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}"#,
            #"{"messages": [{"role": "assistant", "content": null, "tool_calls": []}]}"#,
            #"{"messages": [{"role": "assistant", "tool_calls": [{"name": "f"}]}]}"#,
        ]
        for row in rows { #expect(try parse(row).kind == .messages) }
    }

    @Test func nullColumnsCountAsMissing() throws {
        #expect(
            try parse(#"{"text": "a", "messages": null, "tools": null, "labels": null}"#)
                == .text("a"))
    }

    @Test func furtherColumnsAreIgnoredAndNamed() throws {
        #expect(try ignored(#"{"id": 7, "text": "a", "source": "web"}"#) == ["id", "source"])
        #expect(
            try ignored(#"{"text": "a", "labels": [1], "tools": []}"#, ignoresExtraColumns: true)
                == ["labels", "tools"])
    }

    @Test(arguments: [
        (
            #"{}"#,
            #"expected a row with {"text"}, {"prompt", "completion"}, {"messages"} or {"tokens"}, "#
                + "found no columns"
        ),
        (
            #"{"id": 1, "mesages": []}"#,
            #"expected a row with {"text"}, {"prompt", "completion"}, {"messages"} or {"tokens"}, "#
                + "found the columns 'id', 'mesages'; did you mean 'messages' by 'mesages'?"
        ),
        (
            #"{"Text": "a"}"#,
            #"expected a row with {"text"}, {"prompt", "completion"}, {"messages"} or {"tokens"}, "#
                + "found the columns 'Text'; did you mean 'text' by 'Text'?"
        ),
        (
            #"{"text": "a", "messages": []}"#,
            #"expected a row of one kind ({"text"}, {"prompt", "completion"}, {"messages"} or "#
                + #"{"tokens"}), found 'text', 'messages' together; keep one"#
        ),
        (#"{"prompt": "a"}"#, "'prompt' needs 'completion' beside it, which is missing"),
        (#"{"completion": "a"}"#, "'completion' needs 'prompt' beside it, which is missing"),
        (
            #"{"prompt": "a", "compleiton": "b"}"#,
            "unknown column 'compleiton'; did you mean 'completion'? Else rename or remove it, or "
                + "set ignore_extra_columns"
        ),
        (
            #"{"messages": [{"role": "user", "content": ""}], "tool": []}"#,
            "unknown column 'tool'; did you mean 'tools'? Else rename or remove it, or set "
                + "ignore_extra_columns"
        ),
        (
            #"{"input_ids": [1, 2]}"#,
            "column 'input_ids' would change what is learned, but is not supported; name it "
                + "'tokens', or set ignore_extra_columns"
        ),
        (
            #"{"tokens": [1, 2], "labels": [1, 2]}"#,
            "column 'labels' would change what is learned, but is not supported; remove it, or set "
                + "ignore_extra_columns"
        ),
        (
            #"{"text": "a", "tools": []}"#,
            "column 'tools' has no effect in a row of text; remove it, or set ignore_extra_columns"
        ),
    ])
    func columnsThatCannotBeMeantAreRefused(row: String, expected: String) {
        #expect(problem(row) == expected)
    }

    @Test(arguments: [
        (#"{"text": 5}"#, "text: expected a string, found an integer"),
        (#"{"prompt": "a", "completion": {}}"#, "completion: expected a string, found an object"),
        (
            #"{"prompt": [{"role": "user", "content": ""}], "completion": "b"}"#,
            "completion: expected an array of messages, found a string"
        ),
        (
            #"{"prompt": "a", "completion": [{"role": "user", "content": ""}]}"#,
            "completion: expected a string, found an array"
        ),
        (#"{"messages": "a"}"#, "messages: expected an array of messages, found a string"),
        (#"{"messages": []}"#, "messages: expected at least one element, found none"),
        (#"{"messages": ["a"]}"#, "messages[0]: expected an object, found a string"),
        (#"{"messages": [{}]}"#, "messages[0].role: expected a string, found nothing"),
        (#"{"messages": [{"role": 1}]}"#, "messages[0].role: expected a string, found an integer"),
        (
            #"{"messages": [{"role": "user", "content": ""}, {"role": "user"}]}"#,
            "messages[1]: expected 'content' or 'tool_calls', found neither"
        ),
        (
            #"{"messages": [{"role": "user", "content": 1.5}]}"#,
            "messages[0].content: expected a string or an array of parts, found a floating-point "
                + "number"
        ),
        (
            #"{"messages": [{"role": "user", "content": ""}], "tools": "[1"}"#,
            "tools: expected an array of objects, found a string"
        ),
        (
            #"{"messages": [{"role": "user", "content": ""}], "chat_template_kwargs": []}"#,
            "chat_template_kwargs: expected an object, found an array"
        ),
        (#"{"tokens": "1 2"}"#, "tokens: expected an array of integers, found a string"),
        (
            #"{"tokens": [1, 2.0]}"#,
            "tokens[1]: expected an integer, found a floating-point number"
        ),
        (
            #"{"tokens": [1, -1]}"#,
            "tokens[1]: expected a token id from 0 to 2147483647, found -1"
        ),
        (
            #"{"tokens": [2147483648]}"#,
            "tokens[0]: expected a token id from 0 to 2147483647, found 2147483648"
        ),
    ])
    func valuesOfTheWrongTypeAreRefused(row: String, expected: String) {
        #expect(problem(row) == expected)
    }

    @Test(arguments: [
        ("tool", "tools"), ("Tools", "tools"), ("tolos", "tools"), ("toolss", "tools"),
        ("toals", "tools"), ("tools", nil), ("pools_", nil), ("task", nil), ("", nil),
    ])
    func namesOneSlipAwayAreNear(name: String, expected: String?) {
        #expect(nearestName(to: name, among: ["tools", "chat_template_kwargs"]) == expected)
    }
}
