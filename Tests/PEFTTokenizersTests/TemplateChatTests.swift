import Foundation
import PEFTTokenizers
import TestSupport
import Testing

/// Whole chat templates against transformers; made by `scripts/fixtures/templates.py`.
@Suite struct TemplateChatTests {
    static let templates = [
        "smollm2", "chatml_generation", "header_tools", "inst_alternating", "plain_prose",
        "thinking_tools", "turns_model", "qwen2_5", "qwen3_training", "phi3_5_training",
    ]

    @Test(arguments: templates)
    func conversationsAgreeWithTransformers(_ name: String) throws {
        let fixture = try JSONValue(
            parsing: try Data(contentsOf: Checkout.fixture("templates/chats.json")))
        let tools = try #require(fixture["tools"]?.arrayValue)
        let url = Checkout.fixture("templates/\(name).jinja")
        let template = try ChatTemplate(try String(contentsOf: url, encoding: .utf8))
        let cases = try #require(fixture["cases"]?.arrayValue).filter {
            $0["template"] == .string(name + ".jinja")
        }
        #expect(cases.count == 92)
        for item in cases {
            let label = try #require(item["conversation"]?.stringValue)
            var variables = try #require(fixture["conversations"]?[label]?.objectValue)
            let messages = try #require(variables["messages"]?.arrayValue)
            variables["messages"] = nil
            variables["bos_token"] = "<s>"
            variables["eos_token"] = "</s>"
            do {
                let chat = try template.render(
                    messages: messages, tools: item["tools"] == true ? tools : nil,
                    addGenerationPrompt: item["prompt"] == true, variables: variables,
                    time: TemplateSnippetTests.time)
                let text = item["text"]?.stringValue ?? "an error"
                #expect(Array(chat.text.utf8) == Array(text.utf8), "\(label)")
                let spans = (item["spans"]?.arrayValue ?? []).compactMap { span in
                    span.arrayValue?.compactMap(\.intValue)
                }
                #expect(chat.generationSpans.map { [$0.lowerBound, $0.upperBound] } == spans)
            } catch {
                let kind = item["error"]?.stringValue ?? "no error"
                let special: Set<TemplateError.Kind> = [.raised, .undefined, .forbidden]
                #expect(
                    (special.contains(error.kind) ? error.kind.rawValue : "other") == kind,
                    "\(label): \(error)")
                if kind == "raised" { #expect(error.message == item["message"]?.stringValue) }
            }
        }
    }
}
