/// Turns the suffix that ends words into spaces, and removes that of the last token.
package struct BPEDecoder: Decoder {
    /// The suffix.
    package let suffix: [UInt8]

    /// Replaces in each token.
    package func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
        tokens.enumerated().map { index, token in
            token.replacing(suffix, with: index == tokens.count - 1 ? [] : [0x20])
        }
    }
}

/// Joins the parts of words, and puts spaces between words.
package struct WordPieceDecoder: Decoder {
    /// What marks a token that goes on with a word.
    package let prefix: [UInt8]
    /// Whether spaces before punctuation and English contractions disappear.
    package let cleansUp: Bool

    /// Joins and spaces.
    package func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
        tokens.enumerated().map { index, token in
            var token = token
            if index > 0 {
                token =
                    token.starts(with: prefix)
                    ? Array(token.dropFirst(prefix.count)) : [0x20] + token
            }
            return cleansUp ? Self.cleanedUp(token) : token
        }
    }

    /// The replacements of the clean-up, in their order.
    private static let cleanUps: [(from: [UInt8], to: [UInt8])] = [
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
        (" 'm", "'m"), (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
    ].map { (Array($0.utf8), Array($1.utf8)) }

    /// The token without the spaces that stand before punctuation.
    static func cleanedUp(_ token: [UInt8]) -> [UInt8] {
        guard token.contains(0x20) else { return token }
        return cleanUps.reduce(token) { $0.replacing($1.from, with: $1.to) }
    }
}

/// Joins the outputs of a recognizer of speech: repeated ones are one, padding disappears.
package struct CTCDecoder: Decoder {
    private let pad: [UInt8]
    private let wordDelimiter: [UInt8]
    private let cleansUp: Bool

    /// Reads `pad_token`, `word_delimiter_token` and `cleanup`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        pad = Array(try reader.required("pad_token").string().utf8)
        wordDelimiter = Array(try reader.required("word_delimiter_token").string().utf8)
        cleansUp = try reader.requiredFlag("cleanup")
    }

    /// Joins.
    package func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
        var result: [[UInt8]] = []
        var last: [UInt8]?
        for token in tokens where token != last {
            last = token
            var text = token.replacing(pad, with: [])
            if cleansUp {
                text = WordPieceDecoder.cleanedUp(text).replacing(wordDelimiter, with: [0x20])
            }
            if !text.isEmpty { result.append(text) }
        }
        return result
    }
}

extension [UInt8] {
    /// The bytes with each place of `pattern` replaced, from left to right; an empty pattern is found
    /// before each character and at the end.
    fileprivate func replacing(_ pattern: [UInt8], with replacement: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        var position = 0
        if pattern.isEmpty {
            for byte in self {
                if !UTF8Scan.isContinuation(byte) { result += replacement }
                result.append(byte)
            }
            return result + replacement
        }
        while position < count {
            if self[position...].starts(with: pattern) {
                result += replacement
                position += pattern.count
            } else {
                result.append(self[position])
                position += 1
            }
        }
        return result
    }
}
