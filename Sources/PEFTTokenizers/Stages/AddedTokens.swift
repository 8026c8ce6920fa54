/// A token that is cut out of the text before the model sees it.
package struct AddedToken: Sendable, Equatable {
    /// The text of the token.
    package var content: String
    /// Whether it matches only between characters that are not part of a word.
    package var isSingleWord = false
    /// Whether it takes the white space on its left with it.
    package var stripsLeft = false
    /// Whether it takes the white space on its right with it.
    package var stripsRight = false
    /// Whether it is searched, normalized itself, in the normalized text.
    package var isNormalized = false
    /// Whether it disappears when decoding skips special tokens.
    package var isSpecial = true
    /// The id that the file gives it.
    package var id: Int

    /// Whether both are the same token with the same flags.
    package static func == (left: AddedToken, right: AddedToken) -> Bool {
        ExactString(left.content) == ExactString(right.content) && left.id == right.id
            && left.isSingleWord == right.isSingleWord && left.stripsLeft == right.stripsLeft
            && left.stripsRight == right.stripsRight && left.isNormalized == right.isNormalized
            && left.isSpecial == right.isSpecial
    }

    /// Makes a special token that is searched as it stands.
    package init(special content: String, id: Int) {
        self.content = content
        self.id = id
    }

    /// Reads an entry of `added_tokens`, or of `added_tokens_decoder`, where the key is the id.
    package init(_ reader: StageReader, id: Int? = nil) throws(TokenizerError) {
        content = try reader.required("content").string()
        isSpecial = try reader.flag("special", default: false)
        isSingleWord = try reader.flag("single_word", default: false)
        stripsLeft = try reader.flag("lstrip", default: false)
        stripsRight = try reader.flag("rstrip", default: false)
        isNormalized = try reader.flag("normalized", default: !isSpecial)
        self.id = if let id { id } else { try reader.required("id").count() }
    }
}

/// All added tokens of a tokenizer, ready to be found in texts.
package struct AddedTokens: Sendable {
    /// The tokens by id.
    package private(set) var byID: [Int: AddedToken] = [:]

    private var idByContent: [ExactString: Int] = [:]

    /// The form in which the decoder sees a token, where normalization changes it.
    private var normalizedForms: [Int: String] = [:]

    private var plainTrie = ByteTrie()
    private var normalizedTrie = ByteTrie()

    /// Prepares the search for `tokens`; `normalizer` is the tokenizer's own.
    package init(_ tokens: [AddedToken], normalizer: (any Normalizer)?) throws(TokenizerError) {
        for token in tokens where !token.content.isEmpty {
            byID[token.id] = token
            idByContent[ExactString(token.content)] = token.id
            guard token.isNormalized else {
                plainTrie.insert(Array(token.content.utf8), value: token.id)
                continue
            }
            var text = AlignedText(bytes: Array(token.content.utf8), originalStart: 0)
            try normalizer?.normalize(&text)
            normalizedForms[token.id] = String(decoding: text.bytes, as: UTF8.self)
            normalizedTrie.insert(text.bytes, value: token.id)
        }
    }

    /// The id of the added token with exactly this text, or nil.
    package func id(of content: String) -> Int? { idByContent[ExactString(content)] }

    /// The text of the token with this id, as the decoder sees it; nil if no added token has the id.
    package func decodingForm(_ id: Int) -> String? {
        normalizedForms[id] ?? byID[id]?.content
    }

    /// Cuts the added tokens out of `text` and normalizes what lies between them.
    package func extract(
        from text: [UInt8], normalizer: (any Normalizer)?
    ) throws(TokenizerError) -> PieceList {
        var list = PieceList(texts: [AlignedText(bytes: text, originalStart: 0)])
        for part in find(plainTrie, in: text, range: 0..<text.count) {
            guard part.tokenID < 0 else {
                list.pieces.append(part)
                continue
            }
            guard let normalizer else {
                list.pieces += find(normalizedTrie, in: text, range: part.range)
                continue
            }
            var normalized = list.texts[0].slice(part.range)
            try normalizer.normalize(&normalized)
            let bytes = normalized.bytes
            for var piece in find(normalizedTrie, in: bytes, range: 0..<bytes.count) {
                piece.text = list.texts.count
                list.pieces.append(piece)
            }
            list.texts.append(normalized)
        }
        return list
    }

    /// Cuts `range` of `bytes` at the tokens of `trie`: leftmost first, then longest.
    private func find(_ trie: ByteTrie, in bytes: [UInt8], range: Range<Int>) -> [Piece] {
        guard !range.isEmpty else { return [] }
        guard !trie.isEmpty else { return [Piece(text: 0, range: range)] }
        return bytes.withUnsafeBufferPointer { all in
            let sentence = UnsafeBufferPointer(rebasing: all[range])
            var pieces: [Piece] = []
            var covered = 0
            func add(_ start: Int, _ end: Int, id: Int) {
                let offset = range.lowerBound
                var piece = Piece(text: 0, range: offset + start..<offset + end)
                piece.tokenID = id
                pieces.append(piece)
            }
            var position = 0
            while let match = trie.firstMatch(in: sentence, from: position) {
                position = match.end
                guard let token = byID[match.value],
                    let (start, end) = extent(of: token, match, in: sentence, covered: covered)
                else { continue }
                if covered < start { add(covered, start, id: -1) }
                add(start, end, id: token.id)
                covered = end
            }
            if covered != sentence.count { add(covered, sentence.count, id: -1) }
            return pieces
        }
    }

    /// The range that a match takes by the flags of its token, or nil if the flags forbid it.
    private func extent(
        of token: AddedToken, _ match: ByteTrie.Match, in sentence: UnsafeBufferPointer<UInt8>,
        covered: Int
    ) -> (start: Int, end: Int)? {
        var (start, end) = (match.start, match.end)
        if token.isSingleWord {
            if start > 0 {
                let before = UTF8Scan.previous(sentence, before: start)
                if ScalarClass.isWord(UTF8Scan.decode(sentence, at: before).value) { return nil }
            }
            if end < sentence.count,
                ScalarClass.isWord(UTF8Scan.decode(sentence, at: end).value)
            {
                return nil
            }
        }
        if token.stripsLeft {
            while start > 0 {
                let before = UTF8Scan.previous(sentence, before: start)
                let value = UTF8Scan.decode(sentence, at: before).value
                guard ScalarClass.isWhitespace(value) else { break }
                start = before
            }
            start = max(start, covered)
        }
        if token.stripsRight {
            while end < sentence.count {
                let (value, length) = UTF8Scan.decode(sentence, at: end)
                guard ScalarClass.isWhitespace(value) else { break }
                end += length
            }
        }
        return (start, end)
    }
}
