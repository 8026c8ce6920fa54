import Foundation
import PEFTAdapters

/// Reads a config file into options: the file's keys win over the values that are there.
package struct ConfigFile<Options: ConfigurableOptions> {
    /// The options after reading.
    package var options: Options
    /// Where each key of the file stands.
    package private(set) var places: [String: ConfigProblem.Place] = [:]
    /// What is wrong with the file's keys and values.
    package private(set) var problems: [ConfigProblem] = []

    /// Starts from these options.
    package init(_ options: Options) {
        self.options = options
    }

    /// Reads a YAML or JSON file.
    ///
    /// - Throws: `ConfigError` when the file cannot be read as one map; wrong keys and values are
    ///   collected in `problems`.
    package mutating func read(_ path: String) throws(ConfigError) {
        let data: Data
        do {
            data = try Data(contentsOf: URL(filePath: path))
        } catch {
            let reason = SystemError.explanation(of: error)
            throw ConfigError([ConfigProblem(.unreadableFile(path: path, reason: reason))])
        }
        guard let text = String(data: data, encoding: .utf8) else {
            let reason = "it is not UTF-8 text"
            throw ConfigError([ConfigProblem(.unreadableFile(path: path, reason: reason))])
        }
        try read(
            text: path.hasSuffix(".json") ? JSONEscapes.joiningSurrogates(in: text) : text, path)
    }

    /// Reads a text; `path` names it in errors.
    package mutating func read(text: String, _ path: String) throws(ConfigError) {
        let document: OptionValue
        do throws(YAMLReader.Failure) {
            document = try YAMLReader.read(text)
        } catch {
            throw ConfigError([
                ConfigProblem(error.reason, at: .file(path: path, line: error.line))
            ])
        }
        switch document.content {
        case .null: return
        case .map(let entries):
            for entry in entries { apply(entry, path) }
        default:
            throw ConfigError([
                ConfigProblem(
                    .syntax(
                        "expected a map of options ('key: value'), found \(document.described)"),
                    at: .file(path: path, line: document.line))
            ])
        }
    }

    private mutating func apply(_ entry: OptionEntry, _ path: String) {
        let table = Options.options.filter { $0.form == .keyAndFlag }
        let place = ConfigProblem.Place.file(path: path, line: entry.line)
        guard let option = table.first(where: { $0.key == entry.key }) else {
            let nearest = NearestName.of(entry.key, in: table.map(\.key))
            problems.append(ConfigProblem(.unknownKey(entry.key, nearest: nearest), at: place))
            return
        }
        places[entry.key] = place
        guard option.set(entry.value, &options) else {
            problems.append(
                ConfigProblem(
                    .invalidValue(
                        key: entry.key, expected: option.expectation,
                        found: entry.value.described),
                    at: place))
            return
        }
    }
}

/// What JSON escapes and YAML does not: characters above U+FFFF as two `\u` escapes.
enum JSONEscapes {
    /// The same JSON with every pair of surrogate escapes written as its character.
    static func joiningSurrogates(in json: String) -> String {
        guard json.contains("\\u") else { return json }
        var result = ""
        var rest = json.unicodeScalars[...]
        while let scalar = rest.popFirst() {
            guard scalar == "\\" else {
                result.unicodeScalars.append(scalar)
                continue
            }
            if let high = codeUnit(rest), (0xD800..<0xDC00).contains(high) {
                let after = rest.dropFirst(5)
                if after.first == "\\", let low = codeUnit(after.dropFirst()),
                    (0xDC00..<0xE000).contains(low),
                    let joined = Unicode.Scalar(
                        0x10000 + (high - 0xD800) << 10 + (low - 0xDC00))
                {
                    result.unicodeScalars.append(joined)
                    rest = after.dropFirst(6)
                    continue
                }
            }
            result.unicodeScalars.append(scalar)
            if let escaped = rest.popFirst() { result.unicodeScalars.append(escaped) }
        }
        return result
    }

    /// The number in `uXXXX`, if the text begins so.
    private static func codeUnit(_ text: Substring.UnicodeScalarView) -> UInt32? {
        guard text.first == "u" else { return nil }
        let digits = text.dropFirst().prefix(4)
        guard digits.count == 4, digits.allSatisfy(\.properties.isHexDigit) else { return nil }
        return UInt32(String(digits), radix: 16)
    }
}
