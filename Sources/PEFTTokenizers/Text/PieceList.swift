/// One part of a text on its way through the pipeline.
package struct Piece: Sendable {
    /// The text that `range` points into, as an index into `PieceList.texts`.
    package var text: Int
    /// The bytes of this piece; never empty.
    package var range: Range<Int>
    /// The id of the added token that this piece is, or -1 if the model has to tokenize it.
    package var tokenID = -1

    /// Makes a piece that the model has to tokenize.
    @inline(__always)
    package init(text: Int, range: Range<Int>) {
        self.text = text
        self.range = range
    }
}

/// A text cut into pieces: what pre-tokenizers work on.
package struct PieceList: Sendable {
    /// The texts that the pieces point into.
    package var texts: [AlignedText]

    /// The pieces in the order of the text.
    package var pieces: [Piece]

    /// Whether the pieces stand for their spelling in the byte alphabet.
    ///
    /// Spelling them out is put off, since the model can work on the plain bytes.
    package var isByteLevel = false

    /// Makes a list of the given texts and pieces.
    package init(texts: [AlignedText], pieces: [Piece] = []) {
        self.texts = texts
        self.pieces = pieces
    }

    /// Cuts every piece that is no added token by the spans that `find` appends for its bytes.
    ///
    /// - Parameters:
    ///   - behavior: what becomes of the spans that match.
    ///   - find: appends ordered spans that cover the given bytes; empty ones are dropped.
    /// - Throws: what `find` throws.
    package mutating func split(
        behavior: SplitBehavior,
        _ find: (UnsafeBufferPointer<UInt8>, inout [Span]) throws(TokenizerError) -> Void
    ) throws(TokenizerError) {
        spellBytes()
        var result: [Piece] = []
        result.reserveCapacity(pieces.count * 4)
        var spans: [Span] = []
        for piece in pieces {
            guard piece.tokenID < 0 else {
                result.append(piece)
                continue
            }
            spans.removeAll(keepingCapacity: true)
            try texts[piece.text].bytes.withUnsafeBufferPointer { bytes in
                Result { () throws(TokenizerError) in
                    try find(UnsafeBufferPointer(rebasing: bytes[piece.range]), &spans)
                }
            }.get()
            behavior.apply(to: &spans)
            for span in spans where span.start < span.end {
                let start = piece.range.lowerBound
                result.append(
                    Piece(text: piece.text, range: start + span.start..<start + span.end))
            }
        }
        pieces = result
    }

    /// Replaces every piece that is no added token by a text of its own, as `change` leaves it.
    package mutating func rewrite(
        where condition: (Piece) -> Bool, _ change: (inout AlignedText) -> Void
    ) {
        for index in pieces.indices where pieces[index].tokenID < 0 && condition(pieces[index]) {
            var text = texts[pieces[index].text].slice(pieces[index].range)
            change(&text)
            pieces[index].range = text.bytes.indices
            pieces[index].text = texts.count
            texts.append(text)
        }
    }

    /// Spells byte-level pieces out, for a stage that has to see them so; otherwise does nothing.
    package mutating func spellBytes() {
        guard isByteLevel else { return }
        isByteLevel = false
        rewrite { _ in
            true
        } _: {
            $0.spellBytes()
        }
    }
}

/// A part of a piece that a pattern matched or passed over.
package struct Span: Equatable, Sendable {
    /// The first byte.
    package var start: Int
    /// The end of the last byte.
    package var end: Int
    /// Whether the pattern matched here.
    package var isMatch: Bool

    /// Makes a span.
    @inline(__always)
    package init(_ start: Int, _ end: Int, isMatch: Bool) {
        self.start = start
        self.end = end
        self.isMatch = isMatch
    }
}

/// What becomes of the delimiters where a text is split.
package enum SplitBehavior: String, Sendable, CaseIterable {
    /// Delimiters are dropped.
    case removed = "Removed"
    /// Each delimiter is a piece.
    case isolated = "Isolated"
    /// A delimiter ends the piece before it.
    case mergedWithPrevious = "MergedWithPrevious"
    /// A delimiter starts the piece after it.
    case mergedWithNext = "MergedWithNext"
    /// A run of delimiters is a piece.
    case contiguous = "Contiguous"

    /// Turns matched and unmatched spans into the spans to keep.
    package func apply(to spans: inout [Span]) {
        switch self {
        case .isolated:
            break
        case .removed:
            spans.removeAll { $0.isMatch }
        case .contiguous:
            spans = Self.merge(spans) { $0.isMatch == $1 }
        case .mergedWithPrevious:
            spans = Self.merge(spans) { $0.isMatch && !$1 }
        case .mergedWithNext:
            spans = Self.merge(spans.reversed()) { $0.isMatch && !$1 }.reversed()
        }
    }

    /// Joins a span with the one before it where `joins(span, whether the one before matched)`.
    private static func merge(_ spans: [Span], _ joins: (Span, Bool) -> Bool) -> [Span] {
        var result: [Span] = []
        var previousMatched = false
        for span in spans {
            if let last = result.indices.last, joins(span, previousMatched) {
                result[last].start = min(result[last].start, span.start)
                result[last].end = max(result[last].end, span.end)
            } else {
                result.append(span)
            }
            previousMatched = span.isMatch
        }
        return result
    }
}
