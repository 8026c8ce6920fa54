/// The last stage, of the way back: turns the texts of tokens into the text they stand for.
package protocol Decoder: Sendable {
    /// Rewrites the texts of the tokens, given as bytes; in the end all are joined.
    func decode(_ tokens: [[UInt8]]) throws(TokenizerError) -> [[UInt8]]
}

/// The decoders that a `tokenizer.json` may name.
package enum DecoderRegistry {
    /// How each type is read.
    package static let makers: [String: StageMaker<any Decoder>] = [
        "Sequence": StageMaker { reader throws(TokenizerError) in
            try DecoderSequence(reader)
        },
        "ByteLevel": StageMaker { _ in ByteLevelDecoder() },
        "ByteFallback": StageMaker { _ in ByteFallbackDecoder() },
        "Fuse": StageMaker { _ in FuseDecoder() },
        "Replace": StageMaker { reader throws(TokenizerError) in
            try ReplaceStage(reader)
        },
        "BPEDecoder": StageMaker { reader throws(TokenizerError) in
            BPEDecoder(suffix: Array(try reader.required("suffix").string().utf8))
        },
        "WordPiece": StageMaker { reader throws(TokenizerError) in
            WordPieceDecoder(
                prefix: Array(try reader.required("prefix").string().utf8),
                cleansUp: try reader.requiredFlag("cleanup"))
        },
        "Metaspace": StageMaker { reader throws(TokenizerError) in
            try MetaspaceStage(reader)
        },
        "CTC": StageMaker { reader throws(TokenizerError) in
            try CTCDecoder(reader)
        },
        "Strip": StageMaker { reader throws(TokenizerError) in
            try StripDecoder(reader)
        },
    ]
}

/// Decoders that run one after the other.
package struct DecoderSequence: Decoder {
    private let decoders: [any Decoder]

    /// Runs the given ones in order.
    package init(_ decoders: [any Decoder]) { self.decoders = decoders }

    /// Reads the decoders in the order of the file.
    package init(_ reader: StageReader) throws(TokenizerError) {
        var decoders: [any Decoder] = []
        for element in try reader.required("decoders").elements() {
            decoders.append(try element.make(from: DecoderRegistry.makers))
        }
        self.decoders = decoders
    }

    /// Runs all of them.
    package func decode(_ tokens: [[UInt8]]) throws(TokenizerError) -> [[UInt8]] {
        var tokens = tokens
        for decoder in decoders { tokens = try decoder.decode(tokens) }
        return tokens
    }
}

/// Turns the byte alphabet back into bytes, and joins all tokens.
package struct ByteLevelDecoder: Decoder {
    /// Decodes; a token with a character outside the alphabet stands for itself.
    package func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
        var joined: [UInt8] = []
        for token in tokens {
            let text = String(decoding: token, as: UTF8.self)
            joined.append(contentsOf: ByteAlphabet.bytes(of: text) ?? token)
        }
        return [Array(String(decoding: joined, as: UTF8.self).utf8)]
    }
}

/// Turns tokens `<0x00>` to `<0xFF>` back into bytes.
package struct ByteFallbackDecoder: Decoder {
    /// Decodes; a run that is no valid UTF-8 becomes as many replacement characters as bytes.
    package func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
        var result: [[UInt8]] = []
        var run: [UInt8] = []
        func flush() {
            if run.isEmpty { return }
            if String(validating: run, as: UTF8.self) != nil {
                result.append(run)
            } else {
                result += Array(repeating: Array("\u{FFFD}".utf8), count: run.count)
            }
            run = []
        }
        for token in tokens {
            if let byte = Self.byte(token) {
                run.append(byte)
            } else {
                flush()
                result.append(token)
            }
        }
        flush()
        return result
    }

    private static func byte(_ token: [UInt8]) -> UInt8? {
        guard token.count == 6, token.starts(with: "<0x".utf8), token[5] == UInt8(ascii: ">") else {
            return nil
        }
        return UInt8(String(decoding: token[3..<5], as: UTF8.self), radix: 16)
    }
}

/// Joins all tokens.
package struct FuseDecoder: Decoder {
    /// Joins.
    package func decode(_ tokens: [[UInt8]]) -> [[UInt8]] { [Array(tokens.joined())] }
}

extension ReplaceStage: Decoder {
    /// Replaces in each token.
    package func decode(_ tokens: [[UInt8]]) throws(TokenizerError) -> [[UInt8]] {
        var result: [[UInt8]] = []
        for token in tokens { result.append(try replace(in: token)) }
        return result
    }
}

/// Removes up to so many copies of one character from the ends of each token.
package struct StripDecoder: Decoder {
    private let content: Unicode.Scalar
    private let start: Int
    private let stop: Int

    /// Removes up to `start` copies of `content` at the start and `stop` at the end.
    package init(content: Unicode.Scalar, start: Int, stop: Int) {
        self.content = content
        self.start = start
        self.stop = stop
    }

    /// Reads `content`, `start` and `stop`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        content = try reader.required("content").character()
        start = try reader.required("start").count()
        stop = try reader.required("stop").count()
    }

    /// Strips.
    package func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
        tokens.map { token in
            let scalars = Array(String(decoding: token, as: UTF8.self).unicodeScalars)
            let lower = scalars.prefix(start).prefix { $0 == content }.count
            let upper = scalars.suffix(stop).reversed().prefix { $0 == content }.count
            var kept: [UInt8] = []
            for scalar in scalars.dropLast(upper).dropFirst(lower) {
                UTF8Scan.append(scalar, to: &kept)
            }
            return kept
        }
    }
}
