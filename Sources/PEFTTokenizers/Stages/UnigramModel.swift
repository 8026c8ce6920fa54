/// The best way to cut a piece up to one of its places (of the Unigram model).
package struct UnigramPath: Sendable {
    /// The sum of the scores of its tokens.
    fileprivate var score = 0.0
    /// Where its last token starts, or -1 if no path leads here.
    fileprivate var start: Int32 = -1
    /// The id of its last token.
    fileprivate var id: Int32 = -1
}

/// A unigram language model: of all ways to cut a piece into tokens the one of the highest score.
///
/// `score(t₁…tₙ) = Σ log p(tᵢ)`; of several best ways the first found counts, shorter tokens first.
///
/// - Source: Kudo 2018, "Subword Regularization"; results are those of `tokenizers` 0.23
///   `models/unigram/model.rs:encode_optimized`. Sampling is not supported.
package struct UnigramModel: TokenModel {
    /// The tokens and their ids.
    package let vocabulary: Vocabulary

    private let scores: [Double]
    private let trie: ByteTrie
    private let unknownID: Int32?
    /// The score of a character that is no token.
    private let unknownScore: Double
    /// The ids of `<0x00>` to `<0xFF>` where unknown text becomes these, else nil.
    private let fallbackIDs: [Int32]?

    /// How much less than the least probable token an unknown character scores.
    private static let unknownPenalty = 10.0

    /// Sees spelled text.
    package var readsPlainBytes: Bool { false }

    /// Reads `vocab`, `unk_id` and `byte_fallback`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        let elements = try reader.required("vocab").elements()
        var vocabulary = Vocabulary(capacity: elements.count)
        var scores: [Double] = []
        guard elements.count < Vocabulary.maximumCount else {
            throw reader.mismatch("less than \(Vocabulary.maximumCount) tokens")
        }
        for (id, element) in elements.enumerated() {
            guard let pair = element.value.arrayValue, pair.count == 2,
                let token = pair[0].stringValue, let score = pair[1].doubleValue, score.isFinite
            else { throw element.mismatch("[token, score]") }
            vocabulary.insert(token, id: id)
            scores.append(score)
        }
        var unknownID: Int32?
        if let member = reader.member("unk_id") {
            let id = try member.count()
            guard id < scores.count else { throw member.mismatch("an id below \(scores.count)") }
            unknownID = Int32(truncatingIfNeeded: id)
        }
        var trie = ByteTrie()
        for id in scores.indices {
            guard let bytes = vocabulary.bytes(of: id) else { continue }
            trie.insert(Array(bytes), value: Int(vocabulary.id(of: Array(bytes))))
        }
        self.vocabulary = vocabulary
        self.scores = scores
        self.trie = trie
        self.unknownID = unknownID
        unknownScore = (scores.min() ?? .infinity) - Self.unknownPenalty
        fallbackIDs =
            try reader.flag("byte_fallback", default: false) ? vocabulary.byteTokenIDs() : nil
    }

    /// Appends the tokens of one piece.
    package func tokenize(
        _ piece: UnsafeBufferPointer<UInt8>, isByteLevel: Bool,
        workspace: inout ModelWorkspace, tokens: inout [PieceToken]
    ) throws(TokenizerError) {
        if workspace.cache.append(piece, to: &tokens) { return }
        let first = tokens.count
        guard findPaths(piece, &workspace.paths) else {
            throw .unknownText(text: String(decoding: piece, as: UTF8.self))
        }
        appendTokens(piece, workspace.paths, &tokens)
        try resolveUnknown(piece, &tokens, from: first)
        workspace.cache.insert(piece, tokens[first...])
    }

    /// Finds the best path to each place; false if one leads over an unknown character and there is
    /// no token for those.
    private func findPaths(
        _ piece: UnsafeBufferPointer<UInt8>, _ paths: inout [UnigramPath]
    ) -> Bool {
        paths.removeAll(keepingCapacity: true)
        for _ in 0...piece.count { paths.append(UnigramPath()) }
        return paths.withUnsafeMutableBufferPointer { paths in
            var start = 0
            while start < piece.count {
                let length = UTF8Scan.length(piece[start])
                let score = paths[start].score
                var isKnown = false
                func offer(_ end: Int, _ id: Int32, _ score: Double) {
                    guard paths[end].start < 0 || score > paths[end].score else { return }
                    paths[end].score = score
                    paths[end].start = Int32(truncatingIfNeeded: start)
                    paths[end].id = id
                }
                trie.forEachPrefix(of: piece, from: start) { end, id in
                    offer(end, id, score + scores[Int(id)])
                    isKnown = isKnown || end == start + length
                }
                if !isKnown {
                    let end = start + length
                    let unknown = score + unknownScore
                    if paths[end].start < 0 || unknown > paths[end].score {
                        guard let unknownID else { return false }
                        offer(end, unknownID, unknown)
                    }
                }
                start += length
            }
            return true
        }
    }

    /// Appends the best path's tokens; neighbouring unknown ones are one.
    private func appendTokens(
        _ piece: UnsafeBufferPointer<UInt8>, _ paths: [UnigramPath], _ tokens: inout [PieceToken]
    ) {
        let first = tokens.count
        var end = piece.count
        while end > 0 {
            let path = paths[end]
            let isUnknown = path.id == unknownID
            if isUnknown, tokens.count > first, tokens[tokens.count - 1].id == path.id {
                tokens[tokens.count - 1].start = path.start
            } else {
                let tokenEnd = Int32(truncatingIfNeeded: end)
                tokens.append(PieceToken(id: path.id, start: path.start, end: tokenEnd))
            }
            end = Int(path.start)
        }
        tokens[first...].reverse()
    }

    /// Gives each run of unknown characters the id of the token that it may be after all, or bytes.
    private func resolveUnknown(
        _ piece: UnsafeBufferPointer<UInt8>, _ tokens: inout [PieceToken], from first: Int
    ) throws(TokenizerError) {
        guard let unknownID, tokens[first...].contains(where: { $0.id == unknownID }) else {
            return
        }
        let found = Array(tokens[first...])
        tokens.removeSubrange(first...)
        for token in found {
            guard token.id == unknownID else {
                tokens.append(token)
                continue
            }
            let text = UnsafeBufferPointer(rebasing: piece[Int(token.start)..<Int(token.end)])
            let id = vocabulary.id(of: text)
            if id >= 0 {
                tokens.append(PieceToken(id: id, start: token.start, end: token.end))
            } else if let fallbackIDs, text.allSatisfy({ fallbackIDs[Int($0)] >= 0 }) {
                for byte in text {
                    let id = fallbackIDs[Int(byte)]
                    tokens.append(PieceToken(id: id, start: token.start, end: token.end))
                }
            } else {
                tokens.append(token)
            }
        }
    }
}
