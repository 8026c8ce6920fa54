import PEFTTokenizers
import Testing

/// Single stages do what those of Hugging Face `tokenizers` do.
struct TokenizerStageTests {
    /// A stage's configuration and the cases of the fixture for it.
    struct Group: Sendable, CustomTestStringConvertible {
        let config: JSONValue
        let all: String?
        let cases: [[JSONValue]]

        var testDescription: String { config.serialized() }

        var reader: StageReader { StageReader(file: "stages.json", path: "config", value: config) }

        static func read(_ kind: String) throws -> [Group] {
            let root = try JSONValue(parsing: TokenizerFixture.data("stages.json"))
            return try #require(root[kind]?.arrayValue).map { group in
                Group(
                    config: try #require(group["config"]), all: group["all"]?.stringValue,
                    cases: try #require(group["cases"]?.arrayValue).map { $0.arrayValue ?? [] })
            }
        }
    }

    @Test(arguments: try Group.read("pre_tokenizers"))
    func preTokenizersCutAlike(group: Group) throws {
        let stage = try group.reader.make(from: PreTokenizerRegistry.makers)
        #expect(group.cases.count > 5)
        for entry in group.cases {
            let text = try #require(entry[0].stringValue)
            let bytes = Array(text.utf8)
            var list = PieceList(texts: [AlignedText(bytes: bytes, originalStart: 0)])
            if !bytes.isEmpty { list.pieces = [Piece(text: 0, range: bytes.indices)] }
            try stage.preTokenize(&list)
            list.spellBytes()
            let found = list.pieces.map { piece in
                let pieceText = list.texts[piece.text]
                let range = pieceText.originalRange(piece.range)
                return JSONValue.array([
                    .string(String(decoding: pieceText.bytes[piece.range], as: UTF8.self)),
                    .int(range.lowerBound), .int(range.upperBound),
                ])
            }
            #expect(JSONValue.array(found) == entry[1], "\(text.debugDescription)")
        }
    }

    @Test(arguments: try Group.read("normalizers"))
    func normalizersRewriteAlike(group: Group) throws {
        let stage = try group.reader.make(from: NormalizerRegistry.makers)
        #expect(group.cases.count > 30)
        for entry in group.cases {
            let text = try #require(entry[0].stringValue)
            #expect(
                JSONValue.string(try normalize(text, stage)) == entry[1],
                "\(text.debugDescription)")
        }
        guard let all = group.all else { return }
        #expect(TokenizerFixture.hash(try normalizedScalars(stage)) == all)
    }

    @Test(arguments: try Group.read("decoders"))
    func decodersJoinAlike(group: Group) throws {
        let stage = try group.reader.make(from: DecoderRegistry.makers)
        #expect(group.cases.count > 2)
        for entry in group.cases {
            let tokens = try #require(entry[0].arrayValue).map {
                Array(($0.stringValue ?? "").utf8)
            }
            let joined = Array(try stage.decode(tokens).joined())
            #expect(JSONValue.string(String(decoding: joined, as: UTF8.self)) == entry[1])
        }
    }

    @Test func stripsFromTheEnds() throws {
        let config: JSONValue = ["type": "Strip", "content": "_", "start": 1, "stop": 2]
        let reader = StageReader(file: "f", path: "decoder", value: config)
        let stage = try reader.make(from: DecoderRegistry.makers)
        let tokens = ["__a____", "b_", "_", "c"].map { Array($0.utf8) }
        let kept = try stage.decode(tokens).map { String(decoding: $0, as: UTF8.self) }
        #expect(kept == ["_a__", "b", "", "c"])
    }

    /// All scalars up to Unicode 14 but ideographs and Hangul, each before a letter, normalized 512
    /// at a time.
    private func normalizedScalars(_ stage: any Normalizer) throws -> [UInt8] {
        let ranges = [
            0..<0x3400, 0xA000..<0xAC00, 0xF900..<0x1_7000, 0x1_9000..<0x2_0000,
            0x2_F800..<0x3_0000,
        ]
        let scalars = ranges.joined().compactMap { Unicode.Scalar(UInt32($0)) }.filter { scalar in
            let properties = scalar.properties
            guard let age = properties.age, age.major <= 14 else { return false }
            return properties.generalCategory != .unassigned
        }
        var result: [UInt8] = []
        for start in stride(from: 0, to: scalars.count, by: 512) {
            var text = String.UnicodeScalarView()
            for scalar in scalars[start..<min(start + 512, scalars.count)] {
                text.append(scalar)
                text.append("a")
            }
            result += Array(try normalize(String(text), stage).utf8)
        }
        return result
    }

    private func normalize(_ text: String, _ stage: any Normalizer) throws -> String {
        var aligned = AlignedText(bytes: Array(text.utf8), originalStart: 0)
        try stage.normalize(&aligned)
        return String(decoding: aligned.bytes, as: UTF8.self)
    }
}
