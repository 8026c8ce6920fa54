import Foundation
import PEFT
import TestSupport

/// A page of `docs/errors`: what it shows, and how to get there.
struct ErrorPage {
    /// A file that a page shows, or commands, or what they print.
    struct Block: Equatable {
        /// What stands behind the fence: `sh`, `swift`, `json`, `text`.
        let language: String
        /// The file's name in the line before; empty if there is none.
        let name: String
        /// The lines between the fences, each with its end.
        let text: String
    }

    /// The folder of all pages.
    static let folder = Checkout.root.appending(path: "docs/errors")

    /// The page's code.
    let code: DiagnosisCode
    /// The whole page.
    let text: String
    /// Its code blocks in order.
    let blocks: [Block]

    /// Reads the page of a code.
    init(_ code: DiagnosisCode) throws {
        self.code = code
        text = try String(
            contentsOf: Self.folder.appending(path: code.rawValue + ".md"), encoding: .utf8)
        blocks = Self.blocks(in: text)
    }

    /// The commands of each provocation, the last of which makes the mistake, with the message that the page shows for it.
    var provocations: [(commands: [String], message: String)] {
        let commands = blocks.filter { $0.language == "sh" }
        let messages = blocks.filter { $0.language == "text" }
        return zip(commands, messages).map { commands, message in
            (commands.text.split(separator: "\n").map(String.init), message.text)
        }
    }

    /// Writes the page with another message for a provocation.
    func write(message: String, of index: Int) throws {
        var number = -1
        var isOld = false
        var lines: [String] = []
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if line == "```", isOld { isOld = false }
            if !isOld { lines.append(String(line)) }
            guard line == "```text" else { continue }
            number += 1
            isOld = number == index
            if isOld { lines += message.split(separator: "\n").map(String.init) }
        }
        try Data(lines.joined(separator: "\n").utf8).write(
            to: Self.folder.appending(path: code.rawValue + ".md"))
    }

    private static func blocks(in text: String) -> [Block] {
        var blocks: [Block] = []
        var language: Substring?
        var lines: [Substring] = []
        var name = ""
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            if let open = language {
                guard line == "```" else {
                    lines.append(line)
                    continue
                }
                let text = lines.map { $0 + "\n" }.joined()
                blocks.append(Block(language: String(open), name: name, text: text))
                language = nil
                name = ""
            } else if line.hasPrefix("```") {
                language = line.dropFirst(3)
                lines = []
            } else if line.hasSuffix(":"), let file = line.split(separator: "`").first,
                line.contains("`")
            {
                // "`rows.jsonl`:" or "[`Examples/Mistakes/A.swift`](...):"
                name = file == "[" ? String(line.split(separator: "`")[1]) : String(file)
            } else if !line.isEmpty {
                name = ""
            }
        }
        return blocks
    }
}
