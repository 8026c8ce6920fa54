/// The second stage: cuts a normalized text into the pieces that the model sees one by one.
package protocol PreTokenizer: Sendable {
    /// Cuts the pieces that are no added tokens into smaller ones.
    func preTokenize(_ list: inout PieceList) throws(TokenizerError)
}

/// The pre-tokenizers that a `tokenizer.json` may name.
package enum PreTokenizerRegistry {
    /// How each type is read.
    package static let makers: [String: StageMaker<any PreTokenizer>] = [
        "Sequence": StageMaker { reader throws(TokenizerError) in
            try PreTokenizerSequence(reader)
        },
        "ByteLevel": StageMaker { reader throws(TokenizerError) in
            try ByteLevelPreTokenizer(reader)
        },
        "Digits": StageMaker { reader throws(TokenizerError) in
            ScalarPreTokenizer(
                behavior: try reader.flag("individual_digits", default: false)
                    ? .isolated : .contiguous,
                isDelimiter: ScalarClass.isNumeric)
        },
        "Split": StageMaker { reader throws(TokenizerError) in
            try SplitPreTokenizer(reader)
        },
        "Whitespace": StageMaker { _ in WhitespacePreTokenizer() },
        "WhitespaceSplit": StageMaker { _ in
            ScalarPreTokenizer(behavior: .removed, isDelimiter: ScalarClass.isWhitespace)
        },
        "CharDelimiterSplit": StageMaker { reader throws(TokenizerError) in
            let delimiter = try reader.required("delimiter").character().value
            return ScalarPreTokenizer(behavior: .removed) { $0 == delimiter }
        },
        "Punctuation": StageMaker { reader throws(TokenizerError) in
            ScalarPreTokenizer(
                behavior: try reader.splitBehavior(default: .isolated),
                isDelimiter: ScalarClass.isPunctuation)
        },
        "BertPreTokenizer": StageMaker { _ in
            PreTokenizerSequence([
                ScalarPreTokenizer(behavior: .removed, isDelimiter: ScalarClass.isWhitespace),
                ScalarPreTokenizer(behavior: .isolated, isDelimiter: ScalarClass.isPunctuation),
            ])
        },
        "Metaspace": StageMaker { reader throws(TokenizerError) in
            try MetaspaceStage(reader)
        },
        "FixedLength": StageMaker { reader throws(TokenizerError) in
            try FixedLengthPreTokenizer(reader)
        },
    ]
}

/// Pre-tokenizers that run one after the other.
package struct PreTokenizerSequence: PreTokenizer {
    private let preTokenizers: [any PreTokenizer]

    /// Runs the given ones in order.
    package init(_ preTokenizers: [any PreTokenizer]) {
        self.preTokenizers = preTokenizers
    }

    /// Reads the pre-tokenizers in the order of the file.
    package init(_ reader: StageReader) throws(TokenizerError) {
        var preTokenizers: [any PreTokenizer] = []
        for element in try reader.required("pretokenizers").elements() {
            preTokenizers.append(try element.make(from: PreTokenizerRegistry.makers))
        }
        self.preTokenizers = preTokenizers
    }

    /// Runs all of them.
    package func preTokenize(_ list: inout PieceList) throws(TokenizerError) {
        for preTokenizer in preTokenizers { try preTokenizer.preTokenize(&list) }
    }
}

/// Cuts by GPT-2's regular expression, then spells every piece in the byte alphabet.
package struct ByteLevelPreTokenizer: PreTokenizer {
    /// GPT-2's regular expression.
    ///
    /// - Source: `openai/gpt-2 src/encoder.py:Encoder`.
    package static let pattern =
        #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

    private let addsPrefixSpace: Bool
    private let regex: Regex?

    /// Makes the stage.
    ///
    /// - Parameters:
    ///   - addsPrefixSpace: a piece that does not start with a space gets one.
    ///   - usesRegex: the pieces are cut by GPT-2's regular expression.
    /// - Throws: `TokenizerError.invalidRegex` if Oniguruma cannot be started.
    package init(addsPrefixSpace: Bool, usesRegex: Bool) throws(TokenizerError) {
        self.addsPrefixSpace = addsPrefixSpace
        regex = usesRegex ? try Regex(Self.pattern) : nil
    }

    /// Reads `add_prefix_space` and `use_regex`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        try self.init(
            addsPrefixSpace: reader.flag("add_prefix_space", default: true),
            usesRegex: reader.flag("use_regex", default: true))
    }

    /// Cuts and spells.
    package func preTokenize(_ list: inout PieceList) throws(TokenizerError) {
        if addsPrefixSpace {
            list.spellBytes()
            let texts = list.texts
            list.rewrite {
                texts[$0.text].bytes[$0.range.lowerBound] != 0x20
            } _: {
                $0.prepend(" ")
            }
        }
        if let regex {
            try list.split(behavior: .isolated) { bytes, spans throws(TokenizerError) in
                try regex.appendSpans(in: bytes, to: &spans)
            }
        } else {
            list.spellBytes()
        }
        list.isByteLevel = true
    }
}

/// Cuts at single characters of a class: digits, punctuation, white space, one delimiter.
package struct ScalarPreTokenizer: PreTokenizer {
    /// What becomes of the characters of the class.
    package let behavior: SplitBehavior
    /// Whether the character with this scalar value is of the class.
    package let isDelimiter: @Sendable (UInt32) -> Bool

    /// Cuts.
    package func preTokenize(_ list: inout PieceList) throws(TokenizerError) {
        try list.split(behavior: behavior) { bytes, spans in
            ScalarSpans.append(in: bytes, to: &spans, matching: isDelimiter)
        }
    }
}

/// Cuts by a pattern of the file's choice.
package struct SplitPreTokenizer: PreTokenizer {
    private let regex: Regex
    private let behavior: SplitBehavior
    private let isInverted: Bool

    /// Cuts at the matches of `regex`; each match is a piece.
    package init(isolating regex: Regex) {
        self.regex = regex
        behavior = .isolated
        isInverted = false
    }

    /// Reads `pattern`, `behavior` and `invert`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        regex = try Regex(readPattern: reader.required("pattern"))
        behavior = try reader.splitBehavior()
        isInverted = try reader.flag("invert", default: false)
    }

    /// Cuts.
    package func preTokenize(_ list: inout PieceList) throws(TokenizerError) {
        try list.split(behavior: behavior) { bytes, spans throws(TokenizerError) in
            try regex.appendSpans(in: bytes, to: &spans)
            guard isInverted else { return }
            for index in spans.indices { spans[index].isMatch.toggle() }
        }
    }
}

/// Keeps runs of word characters and runs of other characters, and drops white space.
package struct WhitespacePreTokenizer: PreTokenizer {
    /// Cuts.
    package func preTokenize(_ list: inout PieceList) throws(TokenizerError) {
        try list.split(behavior: .removed) { bytes, spans in
            var position = 0
            var lastClass = -1
            while position < bytes.count {
                let (value, length) = UTF8Scan.decode(bytes, at: position)
                let isWord = ScalarClass.isWord(value)
                let scalarClass = isWord ? 0 : ScalarClass.isWhitespace(value) ? 1 : 2
                if scalarClass == lastClass, let last = spans.indices.last {
                    spans[last].end += length
                } else {
                    spans.append(
                        Span(position, position + length, isMatch: scalarClass == 1))
                }
                lastClass = scalarClass
                position += length
            }
        }
    }
}

/// Cuts bytes by a property of single scalars.
package enum ScalarSpans {
    /// Appends spans that cover `bytes`: each scalar that matches, and the runs between them.
    @inline(__always)
    package static func append(
        in bytes: UnsafeBufferPointer<UInt8>, to spans: inout [Span],
        matching isMatch: (UInt32) -> Bool
    ) {
        var position = 0
        var start = 0
        while position < bytes.count {
            let (value, length) = UTF8Scan.decode(bytes, at: position)
            if isMatch(value) {
                if start < position { spans.append(Span(start, position, isMatch: false)) }
                spans.append(Span(position, position + length, isMatch: true))
                start = position + length
            }
            position += length
        }
        if start < position { spans.append(Span(start, position, isMatch: false)) }
    }
}

extension StageReader {
    /// The member `behavior`; missing, it is `defaultValue` or an error.
    fileprivate func splitBehavior(
        default defaultValue: SplitBehavior? = nil
    ) throws(TokenizerError) -> SplitBehavior {
        if let defaultValue, member("behavior") == nil { return defaultValue }
        let behavior = try required("behavior")
        guard let known = SplitBehavior(rawValue: try behavior.string()) else {
            let known = SplitBehavior.allCases.map(\.rawValue).joined(separator: ", ")
            throw behavior.mismatch("one of " + known)
        }
        return known
    }
}
