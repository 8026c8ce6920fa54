import COniguruma

/// A compiled regular expression of Oniguruma, the engine of Hugging Face `tokenizers`.
///
/// Unicode classes are those of the linked library: Debian 12's Oniguruma 6.9.8 knows Unicode 14, the
/// one inside the Python wheel of `tokenizers` 0.23 about 9,000 letters more, all of them in scripts
/// and ideographs so rare that no merge crosses the places where the cuts differ.
///
/// - Note: `@unchecked Sendable` holds because a compiled pattern is immutable: `onig_match` and
///   `onig_search` only read it and keep their state on their own stack, and this type never
///   changes the pointer between `init` and `deinit`.
package final class Regex: @unchecked Sendable {
    /// The pattern as it was given.
    package let pattern: String

    private let compiled: OnigRegex

    /// Oniguruma's start code; the library must be started once, before any pattern.
    private static let startCode = coniguruma_initialize()

    /// The longest pattern, in bytes of UTF-8.
    ///
    /// The time to compile one whose letters match in both cases grows with the square of its length: 0.4 s at this one.
    static let maxPatternBytes = 16_384

    /// Compiles a pattern in Oniguruma's own syntax.
    package init(_ pattern: String) throws(TokenizerError) {
        guard pattern.utf8.count <= Self.maxPatternBytes else {
            throw .invalidRegex(
                pattern: pattern.prefix(40) + "...",
                reason:
                    "it has \(pattern.utf8.count) bytes, and at most \(Self.maxPatternBytes) are compiled"
            )
        }
        var compiled: OnigRegex?
        var info = OnigErrorInfo()
        var text = pattern
        let code =
            Self.startCode != ONIG_NORMAL
            ? Self.startCode
            : text.withUTF8 { coniguruma_new(&compiled, $0.baseAddress, $0.count, &info) }
        guard code == ONIG_NORMAL, let compiled else {
            throw .invalidRegex(pattern: pattern, reason: Self.message(code, &info))
        }
        self.pattern = pattern
        self.compiled = compiled
    }

    /// Compiles a pattern that matches exactly `literal`.
    package convenience init(literal: String) throws(TokenizerError) {
        var pattern = ""
        for scalar in literal.unicodeScalars {
            if scalar.isASCII, "\\.+*?()|[]{}^$#&-~".unicodeScalars.contains(scalar) {
                pattern.unicodeScalars.append("\\")
            }
            pattern.unicodeScalars.append(scalar)
        }
        try self.init(pattern)
    }

    deinit { onig_free(compiled) }

    private static func message(_ code: Int32, _ info: inout OnigErrorInfo) -> String {
        var buffer = [UInt8](repeating: 0, count: Int(ONIG_MAX_ERROR_MESSAGE_LEN))
        let length = Int(coniguruma_message(&buffer, code, &info))
        return String(decoding: buffer.prefix(max(length, 0)), as: UTF8.self)
    }

    /// Appends spans that cover `bytes`: the matches and what lies between them.
    ///
    /// An empty match right after another match does not count.
    package func appendSpans(
        in bytes: UnsafeBufferPointer<UInt8>, to spans: inout [Span]
    ) throws(TokenizerError) {
        guard let start = bytes.baseAddress, !bytes.isEmpty else { return }
        let end = start + bytes.count
        var covered = 0
        var position = 0
        var lastMatchEnd = -1
        while position <= bytes.count {
            if position == bytes.count, lastMatchEnd == position { break }
            var found = position
            var length = onig_match(compiled, start, end, start + position, nil, 0)
            if length == ONIG_MISMATCH {
                found = Int(onig_search(compiled, start, end, start + position, end, nil, 0))
                if found == Int(ONIG_MISMATCH) { break }
                if found < 0 { throw failure(Int32(found)) }
                length = onig_match(compiled, start, end, start + found, nil, 0)
            }
            if length < 0 { throw failure(length) }
            let matchEnd = found + Int(length)
            if length == 0, lastMatchEnd == matchEnd {
                position =
                    matchEnd + (matchEnd < bytes.count ? UTF8Scan.length(bytes[matchEnd]) : 1)
                continue
            }
            if covered < found { spans.append(Span(covered, found, isMatch: false)) }
            spans.append(Span(found, matchEnd, isMatch: true))
            covered = matchEnd
            position = matchEnd
            lastMatchEnd = matchEnd
        }
        if covered < bytes.count { spans.append(Span(covered, bytes.count, isMatch: false)) }
    }

    private func failure(_ code: Int32) -> TokenizerError {
        var info = OnigErrorInfo()
        return .invalidRegex(pattern: pattern, reason: Self.message(code, &info))
    }
}
