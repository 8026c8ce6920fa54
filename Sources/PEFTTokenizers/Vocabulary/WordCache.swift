/// One token of a piece: its id and the bytes of the piece that it covers.
package struct PieceToken: Sendable, Equatable {
    /// The id.
    package var id: Int32
    /// The first byte.
    package var start: Int32
    /// The end of the last byte.
    package var end: Int32

    /// Makes a token.
    @inline(__always)
    package init(id: Int32, start: Int32, end: Int32) {
        self.id = id
        self.start = start
        self.end = end
    }
}

/// The tokens of pieces that were seen before.
package struct WordCache: Sendable {
    /// No more words are kept than this.
    private static let maximumCount = 1 << 16
    /// Longer words are not kept.
    private static let maximumLength = 64

    private var words = ByteStringTable(capacity: 1 << 12)
    private var ends: [Int] = []
    private var tokens: [PieceToken] = []

    /// Makes an empty cache.
    package init() {}

    /// Appends the tokens of `word` if it was seen before.
    ///
    /// - Returns: whether it was.
    @inline(__always)
    package func append(
        _ word: UnsafeBufferPointer<UInt8>, to result: inout [PieceToken]
    ) -> Bool {
        guard word.count <= Self.maximumLength else { return false }
        let number = words.find(word)
        guard number >= 0 else { return false }
        let start = number == 0 ? 0 : ends[number - 1]
        for index in start..<ends[number] { result.append(tokens[index]) }
        return true
    }

    /// Keeps the tokens of a word that was not seen before.
    package mutating func insert(
        _ word: UnsafeBufferPointer<UInt8>, _ wordTokens: ArraySlice<PieceToken>
    ) {
        guard word.count <= Self.maximumLength, words.count < Self.maximumCount else { return }
        guard words.insert(word).isNew else { return }
        tokens.append(contentsOf: wordTokens)
        ends.append(tokens.count)
    }
}
