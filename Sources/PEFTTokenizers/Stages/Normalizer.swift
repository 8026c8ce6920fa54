/// The first stage: rewrites a text before it is cut into pieces.
package protocol Normalizer: Sendable {
    /// Rewrites `text` in place and keeps its alignment with the original.
    func normalize(_ text: inout AlignedText) throws(TokenizerError)
}

/// The normalizers that a `tokenizer.json` may name.
package enum NormalizerRegistry {
    /// How each type is read.
    package static let makers: [String: StageMaker<any Normalizer>] = [
        "Sequence": StageMaker { reader throws(TokenizerError) in
            try NormalizerSequence(reader)
        },
        "NFC": StageMaker { _ in UnicodeNormalizer(form: .nfc) },
        "NFD": StageMaker { _ in UnicodeNormalizer(form: .nfd) },
        "NFKC": StageMaker { _ in UnicodeNormalizer(form: .nfkc) },
        "NFKD": StageMaker { _ in UnicodeNormalizer(form: .nfkd) },
        "Lowercase": StageMaker { _ in LowercaseNormalizer() },
        "Strip": StageMaker { reader throws(TokenizerError) in
            StripNormalizer(
                stripsLeft: try reader.requiredFlag("strip_left"),
                stripsRight: try reader.requiredFlag("strip_right"))
        },
        "StripAccents": StageMaker { _ in StripAccentsNormalizer() },
        "Nmt": StageMaker { _ in NmtNormalizer() },
        "BertNormalizer": StageMaker { reader throws(TokenizerError) in
            try BertNormalizer(reader)
        },
        "ByteLevel": StageMaker { _ in ByteLevelNormalizer() },
        "Precompiled": StageMaker { reader throws(TokenizerError) in
            try PrecompiledNormalizer(reader)
        },
        "Prepend": StageMaker { reader throws(TokenizerError) in
            PrependNormalizer(prefix: try reader.required("prepend").string())
        },
        "Replace": StageMaker { reader throws(TokenizerError) in
            try ReplaceStage(reader)
        },
    ]
}

/// Normalizers that run one after the other.
package struct NormalizerSequence: Normalizer {
    private let normalizers: [any Normalizer]

    /// Runs the given ones in order.
    package init(_ normalizers: [any Normalizer]) { self.normalizers = normalizers }

    /// Reads the normalizers in the order of the file.
    package init(_ reader: StageReader) throws(TokenizerError) {
        var normalizers: [any Normalizer] = []
        for element in try reader.required("normalizers").elements() {
            normalizers.append(try element.make(from: NormalizerRegistry.makers))
        }
        self.normalizers = normalizers
    }

    /// Runs all of them.
    package func normalize(_ text: inout AlignedText) throws(TokenizerError) {
        for normalizer in normalizers { try normalizer.normalize(&text) }
    }
}

/// Lowercases each scalar by itself, without regard to language or context.
package struct LowercaseNormalizer: Normalizer {
    /// Replaces each scalar by its lowercase mapping, of one scalar or more.
    package func normalize(_ text: inout AlignedText) {
        var changes: [AlignedText.Change] = []
        var isChanged = false
        for scalar in text.scalars {
            let mapping = scalar.properties.lowercaseMapping.unicodeScalars
            for (index, lower) in mapping.enumerated() {
                changes.append(.init(lower, index == 0 ? 0 : 1))
            }
            isChanged = isChanged || mapping.count != 1 || mapping.first != scalar
        }
        if isChanged { text.transform(changes) }
    }
}

/// Puts a fixed text before every text that is not empty.
package struct PrependNormalizer: Normalizer {
    /// The text that is put before.
    package let prefix: String

    /// Prepends.
    package func normalize(_ text: inout AlignedText) { text.prepend(prefix) }
}

/// Replaces every match of a pattern by a fixed text; both a normalizer and a decoder.
package struct ReplaceStage: Normalizer {
    private let regex: Regex
    private let content: [UInt8]

    /// Replaces `literal` by `content`.
    package init(literal: String, with content: String) throws(TokenizerError) {
        regex = try Regex(literal: literal)
        self.content = Array(content.utf8)
    }

    /// Reads `pattern` and `content`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        regex = try Regex(readPattern: reader.required("pattern"))
        content = Array(try reader.required("content").string().utf8)
    }

    /// Replaces in a text that keeps its alignment.
    package func normalize(_ text: inout AlignedText) throws(TokenizerError) {
        let matches = try spans(in: text.bytes).filter(\.isMatch).map { $0.start..<$0.end }
        text.replace(matches, with: content)
    }

    /// Replaces in plain bytes.
    package func replace(in bytes: [UInt8]) throws(TokenizerError) -> [UInt8] {
        var result: [UInt8] = []
        for span in try spans(in: bytes) {
            result.append(contentsOf: span.isMatch ? content[...] : bytes[span.start..<span.end])
        }
        return result
    }

    private func spans(in bytes: [UInt8]) throws(TokenizerError) -> [Span] {
        var spans: [Span] = []
        try bytes.withUnsafeBufferPointer { buffer in
            Result { () throws(TokenizerError) in
                try regex.appendSpans(in: buffer, to: &spans)
            }
        }.get()
        return spans
    }
}

extension Regex {
    /// Compiles the pattern object `{"Regex": ..}` or `{"String": ..}` of a tokenizer file.
    package convenience init(readPattern reader: StageReader) throws(TokenizerError) {
        if let regex = try reader.optionalString("Regex") {
            try self.init(regex)
        } else if let literal = try reader.optionalString("String") {
            try self.init(literal: literal)
        } else {
            throw reader.mismatch("an object with \"Regex\" or \"String\"")
        }
    }
}
