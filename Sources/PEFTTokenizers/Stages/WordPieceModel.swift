/// WordPiece: the longest token that the word begins with, then the longest of the rest, and so on.
///
/// - Source: Schuster and Nakajima 2012, "Japanese and Korean Voice Search"; results are those of
///   `tokenizers` 0.23 `models/wordpiece/mod.rs`.
package struct WordPieceModel: TokenModel {
    /// The tokens and their ids.
    package let vocabulary: Vocabulary

    private let unknownID: Int32
    private let prefix: [UInt8]
    private let maximumLength: Int
    /// No token is longer, in bytes.
    private let longestToken: Int

    /// Sees spelled text.
    package var readsPlainBytes: Bool { false }

    /// Reads `vocab`, `unk_token`, `continuing_subword_prefix` and `max_input_chars_per_word`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        let vocabulary = try Vocabulary(reader.required("vocab"))
        let unknown = try reader.required("unk_token").string()
        self.vocabulary = vocabulary
        unknownID = vocabulary.id(of: Array(unknown.utf8))
        prefix = Array(try reader.required("continuing_subword_prefix").string().utf8)
        maximumLength = try reader.required("max_input_chars_per_word").count()
        longestToken = vocabulary.longestToken
    }

    /// Appends the tokens of one piece; a word that cannot be cut into tokens is unknown as a whole.
    package func tokenize(
        _ piece: UnsafeBufferPointer<UInt8>, isByteLevel: Bool,
        workspace: inout ModelWorkspace, tokens: inout [PieceToken]
    ) throws(TokenizerError) {
        if workspace.cache.append(piece, to: &tokens) { return }
        let first = tokens.count
        let length = piece.count { !UTF8Scan.isContinuation($0) }
        if length > maximumLength || !appendTokens(piece, &tokens) {
            guard unknownID >= 0 else {
                throw .unknownText(text: String(decoding: piece, as: UTF8.self))
            }
            tokens.removeSubrange(first...)
            let end = Int32(truncatingIfNeeded: piece.count)
            tokens.append(PieceToken(id: unknownID, start: 0, end: end))
        }
        workspace.cache.insert(piece, tokens[first...])
    }

    private func appendTokens(
        _ piece: UnsafeBufferPointer<UInt8>, _ tokens: inout [PieceToken]
    ) -> Bool {
        var marked: [UInt8] = []
        var start = 0
        while start < piece.count {
            marked.removeAll(keepingCapacity: true)
            if start > 0 { marked.append(contentsOf: prefix) }
            let prefixLength = marked.count
            var end = min(piece.count, start + max(longestToken - prefixLength, 0))
            while end < piece.count, end > start, UTF8Scan.isContinuation(piece[end]) { end -= 1 }
            marked.append(contentsOf: piece[start..<end])
            var id: Int32 = -1
            while end > start {
                id = vocabulary.id(of: marked)
                if id >= 0 { break }
                repeat {
                    end -= 1
                    marked.removeLast()
                } while UTF8Scan.isContinuation(piece[end])
            }
            guard id >= 0 else { return false }
            tokens.append(
                PieceToken(
                    id: id, start: Int32(truncatingIfNeeded: start),
                    end: Int32(truncatingIfNeeded: end)))
            start = end
        }
        return true
    }
}

/// One token for each word, without parts.
package struct WordLevelModel: TokenModel {
    /// The tokens and their ids.
    package let vocabulary: Vocabulary

    private let unknownID: Int32

    /// Sees spelled text.
    package var readsPlainBytes: Bool { false }

    /// Reads `vocab` and `unk_token`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        let vocabulary = try Vocabulary(reader.required("vocab"))
        let unknown = try reader.required("unk_token").string()
        self.vocabulary = vocabulary
        unknownID = vocabulary.id(of: Array(unknown.utf8))
    }

    /// Appends the token that one piece is.
    package func tokenize(
        _ piece: UnsafeBufferPointer<UInt8>, isByteLevel: Bool,
        workspace: inout ModelWorkspace, tokens: inout [PieceToken]
    ) throws(TokenizerError) {
        let known = vocabulary.id(of: piece)
        let id = known >= 0 ? known : unknownID
        guard id >= 0 else {
            throw .unknownText(text: String(decoding: piece, as: UTF8.self))
        }
        tokens.append(PieceToken(id: id, start: 0, end: Int32(truncatingIfNeeded: piece.count)))
    }
}
