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
            DigitsPreTokenizer(
                isolatesDigits: try reader.flag("individual_digits", default: false))
        },
        "Split": StageMaker { reader throws(TokenizerError) in
            try SplitPreTokenizer(reader)
        },
        "Whitespace": StageMaker { _ in WhitespacePreTokenizer() },
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

/// Cuts numbers off: each digit for itself or each run of digits.
package struct DigitsPreTokenizer: PreTokenizer {
    /// Whether each digit is a piece.
    package let isolatesDigits: Bool

    /// Cuts.
    package func preTokenize(_ list: inout PieceList) throws(TokenizerError) {
        try list.split(behavior: isolatesDigits ? .isolated : .contiguous) { bytes, spans in
            ScalarSpans.append(in: bytes, to: &spans, matching: ScalarClass.isNumeric)
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
        let behavior = try reader.required("behavior")
        guard let known = SplitBehavior(rawValue: try behavior.string()) else {
            let known = SplitBehavior.allCases.map(\.rawValue).joined(separator: ", ")
            throw behavior.mismatch("one of " + known)
        }
        self.behavior = known
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
