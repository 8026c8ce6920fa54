import PEFTTokenizers

extension DatasetRow {
    /// Reads the values of the columns that the kind of row has.
    static func read(
        _ kind: RowKind, from columns: JSONObject
    ) throws(DatasetProblem) -> DatasetRow {
        switch kind {
        case .text:
            return .text(try string("text", columns))
        case .promptCompletion:
            return .promptCompletion(
                prompt: try string("prompt", columns),
                completion: try string("completion", columns))
        case .chatCompletion:
            return .chatCompletion(
                prompt: try messages("prompt", columns),
                completion: try messages("completion", columns),
                context: try context(columns))
        case .messages:
            return .messages(try messages("messages", columns), context: try context(columns))
        case .tokens:
            return .tokens(try tokens(columns))
        case .pair:
            return .pair(
                chosen: try completion("chosen", columns),
                rejected: try completion("rejected", columns))
        case .feedback:
            let label = columns["label"] ?? .null
            guard case .bool(let isDesirable) = label else {
                throw .wrongType(
                    path: "label", expected: "true or false", found: label.kindDescription)
            }
            return .feedback(try completion("completion", columns), isDesirable: isDesirable)
        }
    }

    /// A completion of the prompt, both strings or both lists of messages.
    private static func completion(
        _ column: String, _ columns: JSONObject
    ) throws(DatasetProblem) -> DatasetRow {
        guard columns["prompt"]?.arrayValue != nil else {
            return .promptCompletion(
                prompt: try string("prompt", columns), completion: try string(column, columns))
        }
        return .chatCompletion(
            prompt: try messages("prompt", columns), completion: try messages(column, columns),
            context: try context(columns))
    }

    private static func string(
        _ column: String, _ columns: JSONObject
    ) throws(DatasetProblem) -> String {
        let value = columns[column] ?? .null
        guard let string = value.stringValue else {
            throw .wrongType(path: column, expected: "a string", found: value.kindDescription)
        }
        return string
    }

    private static func array(
        _ column: String, of elements: String, _ columns: JSONObject
    ) throws(DatasetProblem) -> [JSONValue] {
        let value = columns[column] ?? .null
        guard let array = value.arrayValue else {
            throw .wrongType(
                path: column, expected: "an array of \(elements)", found: value.kindDescription)
        }
        return array
    }

    private static func messages(
        _ column: String, _ columns: JSONObject
    ) throws(DatasetProblem) -> [JSONValue] {
        let messages = try array(column, of: "messages", columns)
        if messages.isEmpty { throw .emptyList(path: column) }
        for (index, message) in messages.enumerated() {
            try check(message, path: "\(column)[\(index)]")
        }
        return messages
    }

    private static func check(_ message: JSONValue, path: String) throws(DatasetProblem) {
        guard let object = message.objectValue else {
            throw .wrongType(path: path, expected: "an object", found: message.kindDescription)
        }
        let role = object["role"]
        guard role?.stringValue != nil else {
            throw .wrongType(
                path: "\(path).role", expected: "a string",
                found: role?.kindDescription ?? "nothing")
        }
        let toolCalls = object["tool_calls", default: .null]
        let content = object["content", default: .null]
        switch content {
        case .string, .array: return
        case .null:
            if toolCalls.isNull { throw .messageWithoutContent(path: path) }
        default:
            throw .wrongType(
                path: "\(path).content", expected: "a string or an array of parts",
                found: content.kindDescription)
        }
    }

    /// The template's context; like TRL, `tools` may be an array or a string that holds one in JSON.
    private static func context(_ columns: JSONObject) throws(DatasetProblem) -> ChatContext {
        var context = ChatContext()
        if let tools = columns["tools"] {
            let parsed = tools.stringValue.flatMap { try? JSONValue(parsing: $0) } ?? tools
            guard let array = parsed.arrayValue else {
                throw .wrongType(
                    path: "tools", expected: "an array of objects", found: parsed.kindDescription)
            }
            context.tools = array
        }
        if let variables = columns["chat_template_kwargs"] {
            guard let object = variables.objectValue else {
                throw .wrongType(
                    path: "chat_template_kwargs", expected: "an object",
                    found: variables.kindDescription)
            }
            context.variables = object
        }
        return context
    }

    private static func tokens(_ columns: JSONObject) throws(DatasetProblem) -> [Int32] {
        let values = try array("tokens", of: "integers", columns)
        var tokens: [Int32] = []
        tokens.reserveCapacity(values.count)
        for (index, value) in values.enumerated() {
            guard let id = value.intValue else {
                throw .wrongType(
                    path: "tokens[\(index)]", expected: "an integer", found: value.kindDescription)
            }
            guard id >= 0, let token = Int32(exactly: id) else {
                throw .invalidToken(index: index, found: id)
            }
            tokens.append(token)
        }
        return tokens
    }
}
