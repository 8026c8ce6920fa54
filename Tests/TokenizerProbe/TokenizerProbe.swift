import Foundation
import PEFTTokenizers

/// Shows what a tokenizer makes of texts and a chat template of chats, for comparison with Hugging Face's.
///
/// `TokenizerProbe rows TOKENIZER TEXTS` writes a line of JSON for each line of JSON that is a text: ids,
/// byte offsets, the decoded text with and without special tokens, the text decoded token by token.
/// `TokenizerProbe speed TOKENIZER TEXTS` writes the bytes that it tokenizes in a second, best of three.
/// TOKENIZER is a `tokenizer.json` or a folder with one. `TokenizerProbe chats TEMPLATE CHATS` writes for each
/// line of JSON with `messages`, `tools`, `prompt` and `variables` the text and the spans of its generation
/// blocks, or the kind of error.
@main enum TokenizerProbe {
    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 4, ["rows", "speed", "chats"].contains(arguments[1])
        else {
            FileHandle.standardError.write(
                Data("usage: TokenizerProbe rows|speed|chats TOKENIZER|TEMPLATE TEXTS|CHATS\n".utf8)
            )
            exit(2)
        }
        let lines = try Data(contentsOf: URL(filePath: arguments[3])).split(separator: 0x0A).map {
            try JSONValue(parsing: Data($0))
        }
        guard arguments[1] != "chats" else {
            let template = try ChatTemplate(String(contentsOfFile: arguments[2], encoding: .utf8))
            for line in lines { print(chat(template, line).serialized(.compact)) }
            return
        }
        let url = URL(filePath: arguments[2])
        let tokenizer =
            url.pathExtension == "json"
            ? try Tokenizer(tokenizerJSON: Data(contentsOf: url)) : try Tokenizer.load(folder: url)
        let texts = lines.map { $0.stringValue ?? "" }
        if arguments[1] == "speed" {
            print(try speed(tokenizer, texts))
        } else {
            for text in texts { print(try row(tokenizer, text).serialized(.compact)) }
        }
    }

    private static func row(_ tokenizer: Tokenizer, _ text: String) throws -> JSONValue {
        let encoding = try tokenizer.encode(text)
        var decoder = tokenizer.makeStreamingDecoder()
        let streamed = encoding.ids.map { decoder.append($0) }.joined() + decoder.finish()
        return [
            .array(encoding.ids.map { .int($0) }),
            .array(encoding.offsets.map { [.int($0.lowerBound), .int($0.upperBound)] }),
            .string(try tokenizer.decode(encoding.ids)),
            .string(try tokenizer.decode(encoding.ids, skipSpecialTokens: true)),
            .string(streamed),
        ]
    }

    private static func chat(_ template: ChatTemplate, _ line: JSONValue) -> JSONValue {
        do {
            let chat = try template.render(
                messages: line["messages"]?.arrayValue ?? [], tools: line["tools"]?.arrayValue,
                addGenerationPrompt: line["prompt"] == true,
                variables: line["variables"]?.objectValue ?? [:])
            return [
                "text": .string(chat.text),
                "spans": .array(
                    chat.generationSpans.map { [.int($0.lowerBound), .int($0.upperBound)] }),
            ]
        } catch {
            let named: Set<TemplateError.Kind> = [.raised, .undefined, .forbidden]
            return ["error": .string(named.contains(error.kind) ? error.kind.rawValue : "other")]
        }
    }

    private static func speed(_ tokenizer: Tokenizer, _ texts: [String]) throws -> Int {
        let numBytes = texts.reduce(0) { $0 + $1.utf8.count }
        let clock = ContinuousClock()
        var best = Double.infinity
        for _ in 0..<3 {
            let elapsed = try clock.measure { for text in texts { _ = try tokenizer.encode(text) } }
            best = min(best, elapsed / .seconds(1))
        }
        return Int(Double(numBytes) / best)
    }
}
