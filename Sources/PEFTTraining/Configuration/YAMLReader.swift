import CYAML
import Foundation

/// Reads one YAML or JSON document into a `OptionValue` tree.
///
/// The syntax is libyaml's (YAML 1.1, of which JSON files are a subset); unquoted scalars are read by
/// YAML 1.2's core schema. Anchors, aliases, tags and several documents in a file are refused: no
/// option needs them, and an alias makes small files large.
package struct YAMLReader {
    /// Why a text is not a configuration, and where.
    package struct Failure: Error, Equatable {
        /// What is wrong, in a sentence without its place.
        package var reason: ConfigProblem.Reason
        /// The line, from 1.
        package var line: Int
    }

    /// Deeper trees than this are refused; configurations need three levels.
    private static let maxDepth = 64

    private let parser: UnsafeMutablePointer<yaml_parser_t>
    private var depth = 0

    /// The document's value; `null` for a text without one.
    ///
    /// - Throws: `Failure` for a syntax error, a repeated key, or a refused feature.
    package static func read(_ text: String) throws(Failure) -> OptionValue {
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        defer { parser.deallocate() }
        guard yaml_parser_initialize(parser) == 1 else {
            throw Failure(reason: .syntax("out of memory while reading YAML"), line: 0)
        }
        defer { yaml_parser_delete(parser) }
        let bytes = Array(text.utf8)
        var reader = YAMLReader(parser: parser)
        let result: Result<OptionValue, Failure> = bytes.withUnsafeBufferPointer { buffer in
            yaml_parser_set_input_string(parser, buffer.baseAddress, buffer.count)
            yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
            do throws(Failure) {
                return .success(try reader.readStream())
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private init(parser: UnsafeMutablePointer<yaml_parser_t>) {
        self.parser = parser
    }

    // MARK: - Events

    /// What one parser event says, copied out of C memory.
    private enum Event {
        case mark
        case streamEnd
        case documentStart
        case scalar(String, isPlain: Bool)
        case listStart
        case listEnd
        case mapStart
        case mapEnd
    }

    private func next() throws(Failure) -> (event: Event, line: Int) {
        var raw = yaml_event_t()
        guard yaml_parser_parse(parser, &raw) == 1 else { throw parserFailure() }
        defer { yaml_event_delete(&raw) }
        let line = Int(raw.start_mark.line) + 1
        switch raw.type {
        case YAML_STREAM_END_EVENT: return (.streamEnd, line)
        case YAML_DOCUMENT_START_EVENT: return (.documentStart, line)
        case YAML_SCALAR_EVENT:
            let scalar = raw.data.scalar
            try refuse(anchor: scalar.anchor, tag: scalar.tag, line: line)
            let text = String(
                decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length),
                as: UTF8.self)
            return (.scalar(text, isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE), line)
        case YAML_SEQUENCE_START_EVENT:
            let start = raw.data.sequence_start
            try refuse(anchor: start.anchor, tag: start.tag, line: line)
            return (.listStart, line)
        case YAML_MAPPING_START_EVENT:
            let start = raw.data.mapping_start
            try refuse(anchor: start.anchor, tag: start.tag, line: line)
            return (.mapStart, line)
        case YAML_SEQUENCE_END_EVENT: return (.listEnd, line)
        case YAML_MAPPING_END_EVENT: return (.mapEnd, line)
        case YAML_ALIAS_EVENT:
            throw Failure(
                reason: .syntax("aliases (*name) are not supported; write the value out"),
                line: line)
        default: return (.mark, line)
        }
    }

    private func refuse(
        anchor: UnsafeMutablePointer<yaml_char_t>?, tag: UnsafeMutablePointer<yaml_char_t>?,
        line: Int
    ) throws(Failure) {
        if anchor != nil {
            throw Failure(
                reason: .syntax("anchors (&name) are not supported; write the value out"),
                line: line)
        }
        if tag != nil {
            throw Failure(
                reason: .syntax("tags (!name) are not supported; quote a string to keep it one"),
                line: line)
        }
    }

    private func parserFailure() -> Failure {
        let problem = parser.pointee.problem.map { String(cString: $0) } ?? "not readable"
        let context = parser.pointee.context.map { " " + String(cString: $0) } ?? ""
        let mark = parser.pointee.problem_mark
        let isReaderError = parser.pointee.error == YAML_READER_ERROR
        let line = isReaderError ? Int(parser.pointee.mark.line) : Int(mark.line)
        let column = isReaderError ? "" : " (column \(mark.column + 1))"
        return Failure(
            reason: .syntax("not valid YAML or JSON: \(problem)\(context)\(column)"),
            line: line + 1)
    }

    // MARK: - Tree

    private mutating func readStream() throws(Failure) -> OptionValue {
        var value: OptionValue?
        while true {
            let (event, line) = try next()
            switch event {
            case .streamEnd: return value ?? OptionValue(.null, line: 1)
            case .documentStart:
                guard value == nil else {
                    throw Failure(
                        reason: .syntax("expected one document, found a second ('---')"),
                        line: line)
                }
                value = try readValue(try next())
            default: break
            }
        }
    }

    private mutating func readValue(
        _ start: (event: Event, line: Int)
    ) throws(Failure) -> OptionValue {
        depth += 1
        defer { depth -= 1 }
        guard depth <= Self.maxDepth else {
            throw Failure(
                reason: .syntax("nested more than \(Self.maxDepth) levels deep"), line: start.line)
        }
        switch start.event {
        case .scalar(let text, let isPlain):
            return isPlain
                ? .plain(text, line: start.line) : OptionValue(.string(text), line: start.line)
        case .listStart: return OptionValue(.list(try readList()), line: start.line)
        case .mapStart: return OptionValue(.map(try readMap()), line: start.line)
        default: return OptionValue(.null, line: start.line)
        }
    }

    private mutating func readList() throws(Failure) -> [OptionValue] {
        var items: [OptionValue] = []
        while true {
            let item = try next()
            if case .listEnd = item.event { return items }
            items.append(try readValue(item))
        }
    }

    private mutating func readMap() throws(Failure) -> [OptionEntry] {
        var entries: [OptionEntry] = []
        var lines: [String: Int] = [:]
        while true {
            let (event, line) = try next()
            if case .mapEnd = event { return entries }
            guard case .scalar(let key, _) = event else {
                throw Failure(
                    reason: .syntax("a key must be a word, not a list or a map"), line: line)
            }
            if let firstLine = lines.updateValue(line, forKey: key) {
                throw Failure(reason: .duplicateKey(key, firstLine: firstLine), line: line)
            }
            entries.append(OptionEntry(key: key, line: line, value: try readValue(try next())))
        }
    }
}
