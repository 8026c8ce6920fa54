/// Cuts pieces of a fixed number of characters.
package struct FixedLengthPreTokenizer: PreTokenizer {
    private let length: Int

    /// Reads `length`, 5 if it is missing.
    package init(_ reader: StageReader) throws(TokenizerError) {
        guard let member = reader.member("length") else {
            length = 5
            return
        }
        length = try member.count()
        guard length > 0 else { throw member.mismatch("an integer above 0") }
    }

    /// Cuts.
    package func preTokenize(_ list: inout PieceList) throws(TokenizerError) {
        try list.split(behavior: .isolated) { bytes, spans in
            var start = 0
            while start < bytes.count {
                var end = start
                var count = 0
                while count < length, end < bytes.count {
                    end += UTF8Scan.length(bytes[end])
                    count += 1
                }
                spans.append(Span(start, end, isMatch: true))
                start = end
            }
        }
    }
}
