/// Files or folders, each perhaps with a weight: by which rows are drawn from it, or by which an adapter counts.
///
/// As a flag `--dataset a.jsonl:0.7 --dataset b.csv:0.3`; in a file a list of such texts, or of maps with `path` and `weight`.
public struct WeightedPaths: Hashable, Sendable {
    /// One file or folder.
    public struct Source: Hashable, Sendable {
        /// Where it is.
        public var path: String
        /// Its weight beside the others'; nil where none is given, for rows: every row is taken once an epoch.
        public var weight: Double?

        /// Names a file or folder.
        public init(path: String, weight: Double? = nil) {
            self.path = path
            self.weight = weight
        }

        /// Reads `path` or `path:weight`.
        init(_ text: String) {
            guard let colon = text.lastIndex(of: ":"), colon > text.startIndex,
                let weight = Double(text[text.index(after: colon)...])
            else {
                self.init(path: text)
                return
            }
            self.init(path: String(text[..<colon]), weight: weight)
        }

        /// The text that reads back to it.
        var text: String {
            weight.map { "\(path):\($0.optionValue.numberText)" } ?? path
        }
    }

    /// The files or folders, in order.
    public var sources: [Source]

    /// Names files or folders.
    public init(_ sources: [Source] = []) { self.sources = sources }

    /// Their weights, if all have one.
    package var weights: [Double]? {
        let weights = sources.compactMap(\.weight)
        return weights.count == sources.count && !weights.isEmpty ? weights : nil
    }
}

extension OptionValue {
    /// The value as it is written.
    fileprivate var numberText: String { YAMLWriter.text(of: self) }
}

extension WeightedPaths: ConfigParsable {
    package static var expectation: String {
        "files, each PATH or PATH:WEIGHT, or a map of path and weight"
    }
    package static var placeholder: String { "FILE[:WEIGHT]" }
    package static var arity: ConfigArity { .repeated }

    package init?(_ value: OptionValue) {
        guard case .list(let items) = value.content else { return nil }
        var sources: [Source] = []
        for item in items {
            guard let source = Self.source(item) else { return nil }
            sources.append(source)
        }
        self.init(sources)
    }

    private static func source(_ value: OptionValue) -> Source? {
        switch value.content {
        case .string(let text): return Source(text)
        case .map(let entries):
            var source = Source(path: "")
            for entry in entries {
                switch entry.key {
                case "path":
                    guard let path = String(entry.value) else { return nil }
                    source.path = path
                case "weight":
                    guard let weight = Double(entry.value) else { return nil }
                    source.weight = weight
                default: return nil
                }
            }
            return source.path.isEmpty ? nil : source
        default: return nil
        }
    }

    package static func value(ofArguments arguments: [String]) -> OptionValue {
        OptionValue(.list(arguments.map { OptionValue(.string($0)) }))
    }

    package var optionValue: OptionValue {
        OptionValue(.list(sources.map { OptionValue(.string($0.text)) }))
    }
}

extension WeightedPaths: Codable {
    /// Reads a list of texts.
    public init(from decoder: any Decoder) throws {
        let texts = try decoder.singleValueContainer().decode([String].self)
        self.init(texts.map { Source($0) })
    }

    /// Writes a list of texts.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(sources.map(\.text))
    }
}
