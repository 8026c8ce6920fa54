import Foundation
package import PEFT

/// What the user types in `peft chat`, and what the model answers: line by line, with a few words that are for the program.
///
/// On a terminal an error ends nothing but the line that made it; what is piped ends with its first error.
package struct Conversation {
    /// Answers the last of some messages, handing over the text as it comes.
    package typealias Answer =
        ([Chat.Message], StopRequest, (String) -> Void) throws -> ChatReply

    /// Why a line for the program was refused.
    package enum Failure: Error, Equatable, CustomStringConvertible {
        case unknownWord(String, nearest: String?)
        case noArgument(String, what: String)
        case nothingToSave

        /// What was wrong, and what to do.
        package var description: String {
            switch self {
            case .unknownWord(let word, let nearest):
                "unknown word '\(word)'" + (nearest.map { "; did you mean '\($0)'?" } ?? "")
                    + "; /help shows them, and // begins a message with a slash"
            case .noArgument(let word, let what): "\(word) needs \(what)"
            case .nothingToSave: "nothing has been said that could be saved"
            }
        }
    }

    /// The words for the program, with what they do.
    private static let words = [
        ("/system", "TEXT", "begin anew with this system message; without text with none"),
        ("/reset", "", "begin anew"),
        ("/save", "FILE", "write the conversation as a row that peft train reads"),
        ("/help", "", "show this"),
        ("/exit", "", "end, as does the end of the input"),
    ]

    private let console: Console
    private let stop: StopRequest
    private let isInteractive: Bool
    private let asJSON: Bool
    private let answer: Answer
    private var system: String?
    private var messages: [Chat.Message] = []

    /// Begins a conversation.
    ///
    /// - Parameters:
    ///   - options: the system message, and whether to print JSON.
    ///   - console: where it prints.
    ///   - stop: ends an answer.
    ///   - isInteractive: whether somebody types.
    ///   - answer: answers.
    package init(
        _ options: ChatOptions, console: Console, stop: StopRequest, isInteractive: Bool,
        answer: @escaping Answer
    ) {
        system = options.system
        asJSON = options.json
        self.console = console
        self.stop = stop
        self.isInteractive = isInteractive
        self.answer = answer
    }

    /// Talks until the lines end or one says so.
    ///
    /// - Parameter lines: what the user types.
    /// - Throws: where nobody types, the first error of a line.
    package mutating func run(_ lines: some Sequence<String>) throws {
        if isInteractive { console.err("/help shows what is not for the model\n") }
        var iterator = lines.makeIterator()
        while true {
            if isInteractive { console.err("> ") }
            guard let line = iterator.next() else { break }
            do {
                guard try take(line) else { return }
            } catch {
                guard isInteractive else { throw error }
                console.printError(DiagnosisCode.message(of: error))
            }
        }
        if isInteractive { console.err("\n") }
    }

    /// Takes one line; whether there are to be more.
    private mutating func take(_ line: String) throws -> Bool {
        let text = line.trimmingCharacters(in: .whitespaces)
        if text.isEmpty { return true }
        guard text.hasPrefix("/"), !text.hasPrefix("//") else {
            try say(text.hasPrefix("//") ? String(text.dropFirst()) : text)
            return true
        }
        let parts = text.split(separator: " ", maxSplits: 1).map(String.init)
        let argument = parts.count > 1 ? parts[1].trimmingCharacters(in: .whitespaces) : nil
        switch parts[0] {
        case "/exit": return false
        case "/help": console.err(Self.help)
        case "/reset": messages = []
        case "/system": (system, messages) = (argument, [])
        case "/save":
            guard let argument else { throw Failure.noArgument("/save", what: "a file") }
            try save(to: argument)
        default:
            let known = Self.words.map(\.0)
            throw Failure.unknownWord(parts[0], nearest: NearestName.of(parts[0], in: known))
        }
        return true
    }

    private var all: [Chat.Message] {
        (system.map { [Chat.Message(role: "system", content: $0)] } ?? []) + messages
    }

    /// Says something to the model; without an answer it is not part of the conversation.
    private mutating func say(_ text: String) throws {
        stop.withdraw()
        let message = Chat.Message(role: "user", content: text)
        var isOpen = false
        defer { if isOpen { console.out("\n") } }
        let reply = try answer(all + [message], stop) { piece in
            guard !asJSON else { return }
            isOpen = true
            console.out(piece)
        }
        messages += [message, Chat.Message(role: "assistant", content: reply.text)]
        if asJSON {
            console.printLine(reply.json(to: text).line)
        } else {
            isOpen = true
        }
    }

    private func save(to path: String) throws {
        guard !messages.isEmpty else { throw Failure.nothingToSave }
        let url = URL(filePath: path)
        try AtomicFolder.requireFree(url)
        let row: JSONObject = ["messages": .array(all.map(\.json))]
        try AtomicFile.write(Data((row.line + "\n").utf8), to: url)
    }

    private static var help: String {
        let width = words.map { $0.0.count + $0.1.count + 1 }.max() ?? 0
        return words.map { word, argument, meaning in
            let usage = argument.isEmpty ? word : "\(word) \(argument)"
            return "  " + usage.padding(toLength: width + 2, withPad: " ", startingAt: 0) + meaning
        }.joined(separator: "\n") + "\n"
    }
}
