import Foundation
import PEFTTokenizers
import Testing

/// Reads just the tokenizer's keys of a GGUF file, apart from PEFTCheckpoints, which this target does
/// not import.
struct TokenizerGGUFReader {
    private let data: Data
    private var position = 0

    private enum Value {
        case integer(Int)
        case string(String)
        case array([Value])

        var integer: Int? { if case .integer(let value) = self { value } else { nil } }
        var string: String? { if case .string(let value) = self { value } else { nil } }
        var array: [Value] { if case .array(let value) = self { value } else { [] } }
    }

    /// The vocabulary in the file's metadata.
    static func vocabulary(_ data: Data) throws -> GGUFVocabulary {
        var reader = TokenizerGGUFReader(data: data)
        let metadata = try reader.metadata()
        func value(_ key: String) -> Value? { metadata["tokenizer.ggml." + key] }
        return GGUFVocabulary(
            model: try #require(value("model")?.string), pre: value("pre")?.string,
            tokens: try #require(value("tokens")).array.compactMap(\.string),
            tokenTypes: value("token_type")?.array.compactMap(\.integer) ?? [],
            merges: try #require(value("merges")).array.compactMap(\.string),
            bosID: value("bos_token_id")?.integer, eosID: value("eos_token_id")?.integer,
            padID: value("padding_token_id")?.integer, unkID: value("unknown_token_id")?.integer,
            addsBos: value("add_bos_token")?.integer.map { $0 != 0 },
            addsEos: value("add_eos_token")?.integer.map { $0 != 0 },
            chatTemplate: metadata["tokenizer.chat_template"]?.string)
    }

    private init(data: Data) { self.data = data }

    private mutating func metadata() throws -> [String: Value] {
        try #require(data.prefix(4).elementsEqual("GGUF".utf8))
        position = 4 + 4 + 8
        var result: [String: Value] = [:]
        for _ in 0..<integer(bytes: 8) {
            let key = string()
            let type = integer(bytes: 4)
            result[key] = value(type)
        }
        return result
    }

    private mutating func value(_ type: Int) -> Value {
        switch type {
        case 0, 1, 7: return .integer(integer(bytes: 1))
        case 2, 3: return .integer(integer(bytes: 2))
        case 4, 5, 6: return .integer(integer(bytes: 4))
        case 8: return .string(string())
        case 9:
            let element = integer(bytes: 4)
            let count = integer(bytes: 8)
            return .array((0..<count).map { _ in value(element) })
        default: return .integer(integer(bytes: 8))
        }
    }

    private mutating func integer(bytes count: Int) -> Int {
        defer { position += count }
        return (0..<count).reduce(0) { $0 | Int(data[position + $1]) << (8 * $1) }
    }

    private mutating func string() -> String {
        let count = integer(bytes: 8)
        defer { position += count }
        return String(decoding: data[position..<position + count], as: UTF8.self)
    }
}
