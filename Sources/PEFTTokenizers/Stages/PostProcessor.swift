/// The fourth stage: adds special tokens around the tokens of a text, or corrects offsets.
package protocol PostProcessor: Sendable {
    /// Works on the tokens of one text.
    func process(_ tokens: inout TokenList, addSpecialTokens: Bool)
}

/// The tokens of one text, with what post-processors need to know of them.
package struct TokenList: Sendable {
    /// The ids and offsets.
    package var encoding: Encoding
    /// The whole text.
    package let original: [UInt8]
    /// The text that an added token took, by its place among the tokens.
    package var addedTexts: [Int: ArraySlice<UInt8>]
    /// The model's vocabulary.
    package let vocabulary: Vocabulary

    /// The bytes of the token at `index` as the model spells it, or as the text has it.
    package func bytes(at index: Int) -> ArraySlice<UInt8> {
        addedTexts[index] ?? vocabulary.bytes(of: encoding.ids[index]) ?? []
    }
}

/// The post-processors that a `tokenizer.json` may name.
package enum PostProcessorRegistry {
    /// How each type is read.
    package static let makers: [String: StageMaker<any PostProcessor>] = [
        "Sequence": StageMaker { reader throws(TokenizerError) in
            try PostProcessorSequence(reader)
        },
        "ByteLevel": StageMaker { reader throws(TokenizerError) in
            ByteLevelPostProcessor(
                trimsOffsets: try reader.flag("trim_offsets", default: true),
                addsPrefixSpace: try reader.flag("add_prefix_space", default: true))
        },
        "BertProcessing": StageMaker { reader throws(TokenizerError) in
            try TemplatePostProcessor(bert: reader)
        },
        "RobertaProcessing": StageMaker { reader throws(TokenizerError) in
            PostProcessorSequence([
                ByteLevelPostProcessor(
                    trimsOffsets: try reader.requiredFlag("trim_offsets"),
                    addsPrefixSpace: try reader.requiredFlag("add_prefix_space")),
                try TemplatePostProcessor(bert: reader),
            ])
        },
        "TemplateProcessing": StageMaker { reader throws(TokenizerError) in
            try TemplatePostProcessor(reader)
        },
    ]
}

/// Post-processors that run one after the other.
package struct PostProcessorSequence: PostProcessor {
    private let processors: [any PostProcessor]

    /// Runs the given ones in order.
    package init(_ processors: [any PostProcessor]) { self.processors = processors }

    /// Reads the post-processors in the order of the file.
    package init(_ reader: StageReader) throws(TokenizerError) {
        var processors: [any PostProcessor] = []
        for element in try reader.required("processors").elements() {
            processors.append(try element.make(from: PostProcessorRegistry.makers))
        }
        self.processors = processors
    }

    /// Runs all of them.
    package func process(_ tokens: inout TokenList, addSpecialTokens: Bool) {
        for processor in processors {
            processor.process(&tokens, addSpecialTokens: addSpecialTokens)
        }
    }
}

/// Inserts special tokens before and after the text.
package struct TemplatePostProcessor: PostProcessor {
    private let before: [Int]
    private let after: [Int]

    /// Inserts the given ids.
    package init(before: [Int], after: [Int]) {
        self.before = before
        self.after = after
    }

    /// Reads the template for single texts; that for pairs of texts is not used.
    package init(_ reader: StageReader) throws(TokenizerError) {
        let special = try reader.required("special_tokens")
        var sides: [[Int]] = [[], []]
        var side = 0
        let single = try reader.required("single")
        for piece in try single.elements() {
            if piece.member("Sequence") != nil {
                guard side == 0 else { throw piece.mismatch("one sequence in the template") }
                side = 1
            } else {
                let name = try piece.required("SpecialToken").required("id").string()
                for id in try special.required(name).required("ids").elements() {
                    sides[side].append(try id.count())
                }
            }
        }
        guard side == 1 else {
            throw single.mismatch("one sequence in the template", found: "none")
        }
        before = sides[0]
        after = sides[1]
    }

    /// Reads `cls` and `sep`, each a token and its id: the one goes before the text, the other after.
    package init(bert reader: StageReader) throws(TokenizerError) {
        func id(_ key: String) throws(TokenizerError) -> Int {
            let member = try reader.required(key)
            let parts = try member.elements()
            guard parts.count == 2, parts[0].value.stringValue != nil else {
                throw member.mismatch("[token, id]")
            }
            return try parts[1].count()
        }
        self.init(before: [try id("cls")], after: [try id("sep")])
    }

    /// Inserts the tokens, with empty offsets.
    package func process(_ tokens: inout TokenList, addSpecialTokens: Bool) {
        guard addSpecialTokens, !before.isEmpty || !after.isEmpty else { return }
        let empty = repeatElement(0..<0, count: before.count)
        tokens.encoding.ids.insert(contentsOf: before, at: 0)
        tokens.encoding.offsets.insert(contentsOf: empty, at: 0)
        tokens.encoding.ids.append(contentsOf: after)
        tokens.encoding.offsets.append(contentsOf: repeatElement(0..<0, count: after.count))
        tokens.addedTexts = Dictionary(
            uniqueKeysWithValues: tokens.addedTexts.map { ($0 + before.count, $1) })
    }
}

/// Takes the white space at the ends of byte-level tokens out of their offsets.
package struct ByteLevelPostProcessor: PostProcessor {
    /// Whether offsets are changed at all.
    package let trimsOffsets: Bool
    /// Whether the pre-tokenizer may have put a space before the text.
    package let addsPrefixSpace: Bool

    /// Trims.
    package func process(_ tokens: inout TokenList, addSpecialTokens: Bool) {
        guard trimsOffsets else { return }
        for index in tokens.encoding.ids.indices {
            var (leading, trailing) = Self.countSpaces(tokens.bytes(at: index))
            guard leading > 0 || trailing > 0 else { continue }
            var (start, end) = (
                tokens.encoding.offsets[index].lowerBound, tokens.encoding.offsets[index].upperBound
            )
            tokens.original.withUnsafeBufferPointer { text in
                if leading > 0 {
                    if index == 0 || start == 0, addsPrefixSpace, leading == 1 { leading = 0 }
                    while leading > 0, start < end {
                        start += UTF8Scan.length(text[start])
                        leading -= 1
                    }
                }
                var trimmed = end
                while trailing > 0, trimmed > 0 {
                    trimmed = UTF8Scan.previous(text, before: trimmed)
                    trailing -= 1
                }
                if trailing == 0 { end = max(trimmed, start) }
            }
            tokens.encoding.offsets[index] = start..<max(start, end)
        }
    }

    /// The number of white space characters, spelled out or not, at the start and the end.
    private static func countSpaces(_ token: ArraySlice<UInt8>) -> (leading: Int, trailing: Int) {
        let isSpace = String(decoding: token, as: UTF8.self).unicodeScalars.map {
            $0 == ByteAlphabet.scalars[0x20] || ScalarClass.isWhitespace($0.value)
        }
        return (isSpace.prefix { $0 }.count, isSpace.reversed().prefix { $0 }.count)
    }
}
