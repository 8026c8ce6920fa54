/// Byte pair encoding: characters are joined by the merge of the lowest rank, again and again.
///
/// - Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units";
///   results are those of `tokenizers` 0.23 `models/bpe`. Dropout is not supported.
package struct BPEModel: TokenModel {
    /// The tokens and their ids.
    package let vocabulary: Vocabulary

    private let merges: MergeTable
    private let options: Options
    /// The ids of the single characters of the byte alphabet, or nil if symbols are marked.
    private let byteIDs: [Int32]?
    /// The ids of the tokens `<0x00>` to `<0xFF>`, -1 where there is none.
    private let fallbackIDs: [Int32]
    /// The id of the unknown token.
    private let unknownID: Int32?

    /// Takes byte-level pieces as plain bytes.
    package var readsPlainBytes: Bool { true }

    /// The settings beside vocabulary and merges.
    package struct Options: Sendable, Equatable {
        /// The token for characters that the vocabulary lacks, which else disappear.
        package var unknownToken: String?
        /// Whether neighbouring unknown characters become one unknown token.
        package var fusesUnknown = false
        /// Whether unknown characters become tokens `<0x00>` to `<0xFF>`, where these exist.
        package var fallsBackToBytes = false
        /// Whether a piece that is a token is taken whole, whatever the merges say.
        package var ignoresMerges = false
        /// What marks a symbol that does not start a piece.
        package var continuingSubwordPrefix = ""
        /// What marks the symbol that ends a piece.
        package var endOfWordSuffix = ""

        /// The defaults of `tokenizers`.
        package init() {}
    }

    /// Reads the model from its part of `tokenizer.json`.
    package init(_ reader: StageReader) throws(TokenizerError) {
        if let dropout = reader.member("dropout"), dropout.value.doubleValue != 0 {
            throw .unsupported(
                file: reader.file, path: dropout.path, found: "merge dropout",
                remedy: "set it to null: it makes tokenization random")
        }
        var options = Options()
        options.unknownToken = try reader.optionalString("unk_token")
        options.fusesUnknown = try reader.flag("fuse_unk", default: false)
        options.fallsBackToBytes = try reader.flag("byte_fallback", default: false)
        options.ignoresMerges = try reader.flag("ignore_merges", default: false)
        options.continuingSubwordPrefix =
            try reader.optionalString("continuing_subword_prefix") ?? ""
        options.endOfWordSuffix = try reader.optionalString("end_of_word_suffix") ?? ""
        let vocabulary = try Vocabulary(reader.required("vocab"))
        let merges = try reader.required("merges")
        guard let lines = merges.value.arrayValue else { throw merges.mismatch("an array") }
        try self.init(vocabulary: vocabulary, merges: lines, options: options, reader: merges)
    }

    /// Makes a model of a vocabulary and the merges in the order of their rank.
    ///
    /// - Parameters:
    ///   - vocabulary: the tokens and their ids.
    ///   - merges: each a string with one space or an array of two strings.
    ///   - options: the other settings.
    ///   - reader: where the merges were read, for messages.
    /// - Throws: `TokenizerError` for a merge that is malformed or names a token that is not there.
    package init(
        vocabulary: Vocabulary, merges: [JSONValue], options: Options, reader: StageReader
    ) throws(TokenizerError) {
        if let unknown = options.unknownToken, vocabulary.id(of: unknown) == nil {
            throw .missingToken(file: reader.file, path: "unk_token", token: unknown)
        }
        let prefixLength = options.continuingSubwordPrefix.utf8.count
        var table = MergeTable(capacity: merges.count)
        var merged: [UInt8] = []
        for (rank, merge) in merges.enumerated() {
            if case .string(let line) = merge, line.utf8.starts(with: "#version".utf8) { continue }
            let place = StageReader(
                file: reader.file, path: "\(reader.path)[\(rank)]", value: merge)
            guard let (left, right) = Self.pair(merge) else {
                throw place.mismatch("\"left right\" or [\"left\", \"right\"]")
            }
            merged.removeAll(keepingCapacity: true)
            merged.append(contentsOf: left.utf8)
            merged.append(contentsOf: right.utf8.dropFirst(prefixLength))
            let mergedID = vocabulary.id(of: merged)
            guard let leftID = vocabulary.id(of: left), let rightID = vocabulary.id(of: right),
                mergedID >= 0
            else {
                let absent = [left, right].first { vocabulary.id(of: $0) == nil }
                throw .missingToken(
                    file: place.file, path: place.path,
                    token: absent ?? String(decoding: merged, as: UTF8.self))
            }
            table.set(
                Int32(leftID), Int32(rightID),
                .init(rank: UInt32(truncatingIfNeeded: rank), id: mergedID))
        }
        self.init(vocabulary: vocabulary, merges: table, options: options)
    }

    /// Makes a model of merges by id; an unknown token that the vocabulary lacks is none.
    package init(vocabulary: Vocabulary, merges: MergeTable, options: Options) {
        self.vocabulary = vocabulary
        self.options = options
        self.merges = merges
        let ids = ByteAlphabet.encoded.map { vocabulary.id(of: $0) }
        let isPlain = options.continuingSubwordPrefix.isEmpty && options.endOfWordSuffix.isEmpty
        byteIDs = isPlain ? ids : nil
        fallbackIDs = vocabulary.byteTokenIDs()
        unknownID = options.unknownToken.flatMap { vocabulary.id(of: $0) }.map {
            Int32(truncatingIfNeeded: $0)
        }
    }

    private static func pair(_ merge: JSONValue) -> (String, String)? {
        switch merge {
        case .string(let line):
            var line = line
            return line.withUTF8 { bytes in
                guard let space = bytes.firstIndex(of: 0x20),
                    !bytes[(space + 1)...].contains(0x20)
                else { return nil }
                return (
                    String(decoding: bytes[..<space], as: UTF8.self),
                    String(decoding: bytes[(space + 1)...], as: UTF8.self)
                )
            }
        case .array(let parts):
            guard parts.count == 2, let left = parts[0].stringValue,
                let right = parts[1].stringValue
            else { return nil }
            return (left, right)
        default:
            return nil
        }
    }

    /// Appends the tokens of one piece.
    package func tokenize(
        _ piece: UnsafeBufferPointer<UInt8>, isByteLevel: Bool,
        workspace: inout ModelWorkspace, tokens: inout [PieceToken]
    ) {
        if workspace.cache.append(piece, to: &tokens) { return }
        let first = tokens.count
        if let whole = wholeToken(piece, isByteLevel: isByteLevel) {
            tokens.append(PieceToken(id: whole, start: 0, end: Int32(piece.count)))
        } else if isByteLevel, appendBytes(piece, to: &workspace.symbols) {
            join(&workspace, &tokens)
        } else if isByteLevel {
            appendSpelled(piece, &workspace, &tokens)
        } else {
            appendCharacters(piece, to: &workspace.symbols)
            join(&workspace, &tokens)
        }
        workspace.cache.insert(piece, tokens[first...])
    }

    private func wholeToken(_ piece: UnsafeBufferPointer<UInt8>, isByteLevel: Bool) -> Int32? {
        guard options.ignoresMerges else { return nil }
        let id =
            isByteLevel ? vocabulary.id(of: ByteAlphabet.spell(piece)) : vocabulary.id(of: piece)
        return id < 0 ? nil : id
    }

    /// Makes one symbol for each byte, if the vocabulary has all of these bytes' characters.
    private func appendBytes(
        _ piece: UnsafeBufferPointer<UInt8>, to symbols: inout [BPESymbol]
    ) -> Bool {
        guard let byteIDs else { return false }
        symbols.removeAll(keepingCapacity: true)
        for byte in piece {
            let id = byteIDs[Int(byte)]
            guard id >= 0 else { return false }
            symbols.append(BPESymbol(id: id, length: 1))
        }
        return true
    }

    /// Tokenizes the spelling of `piece`, and brings the ranges back to the bytes of `piece`.
    private func appendSpelled(
        _ piece: UnsafeBufferPointer<UInt8>, _ workspace: inout ModelWorkspace,
        _ tokens: inout [PieceToken]
    ) {
        var spelled: [UInt8] = []
        var sources: [Int32] = []
        for (index, byte) in piece.enumerated() {
            let encoded = ByteAlphabet.encoded[Int(byte)]
            spelled.append(contentsOf: encoded)
            for _ in encoded { sources.append(Int32(truncatingIfNeeded: index)) }
        }
        let first = tokens.count
        spelled.withUnsafeBufferPointer { appendCharacters($0, to: &workspace.symbols) }
        join(&workspace, &tokens)
        for index in first..<tokens.count {
            tokens[index].start = sources[Int(tokens[index].start)]
            tokens[index].end = sources[Int(tokens[index].end) - 1] + 1
        }
    }

    /// Makes one symbol for each character, and unknown ones by the options.
    private func appendCharacters(
        _ piece: UnsafeBufferPointer<UInt8>, to symbols: inout [BPESymbol]
    ) {
        symbols.removeAll(keepingCapacity: true)
        var unknownLength = 0
        func flushUnknown() {
            guard let unknownID, unknownLength > 0 else { return }
            symbols.append(BPESymbol(id: unknownID, length: unknownLength))
            unknownLength = 0
        }
        var marked: [UInt8] = []
        var position = 0
        while position < piece.count {
            let length = UTF8Scan.length(piece[position])
            let end = position + length
            let character = UnsafeBufferPointer(rebasing: piece[position..<end])
            let id: Int32
            if byteIDs != nil {
                id = vocabulary.id(of: character)
            } else {
                marked.removeAll(keepingCapacity: true)
                if position > 0 { marked.append(contentsOf: options.continuingSubwordPrefix.utf8) }
                marked.append(contentsOf: character)
                if end == piece.count { marked.append(contentsOf: options.endOfWordSuffix.utf8) }
                id = vocabulary.id(of: marked)
            }
            position = end
            if id >= 0 {
                flushUnknown()
                symbols.append(BPESymbol(id: id, length: length))
                continue
            }
            let isFallback =
                byteIDs != nil
                ? appendFallback(character, to: &symbols) : appendFallback(marked, to: &symbols)
            if isFallback { continue }
            if !options.fusesUnknown { flushUnknown() }
            unknownLength += length
        }
        flushUnknown()
    }

    /// Makes symbols of the tokens `<0x00>` to `<0xFF>` for these bytes, if all of them exist.
    private func appendFallback(
        _ bytes: some Sequence<UInt8>, to symbols: inout [BPESymbol]
    ) -> Bool {
        guard options.fallsBackToBytes, bytes.allSatisfy({ fallbackIDs[Int($0)] >= 0 }) else {
            return false
        }
        for byte in bytes { symbols.append(BPESymbol(id: fallbackIDs[Int(byte)], length: 1)) }
        return true
    }

    /// Applies the merges to the workspace's symbols and appends what is left.
    private func join(_ workspace: inout ModelWorkspace, _ tokens: inout [PieceToken]) {
        workspace.queue.apply(merges, to: &workspace.symbols)
        var start: Int32 = 0
        for symbol in workspace.symbols where symbol.length > 0 {
            let end = start + Int32(truncatingIfNeeded: symbol.length)
            tokens.append(PieceToken(id: symbol.id, start: start, end: end))
            start = end
        }
    }
}
