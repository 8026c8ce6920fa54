/// A text after some normalization, which remembers where each byte came from.
package struct AlignedText: Sendable {
    /// The UTF-8 bytes as they are now.
    package private(set) var bytes: [UInt8]

    /// The place in the original text of the slice that this text was made of.
    package let originalStart: Int

    /// For each byte the range of the original text that it stands for; nil while `bytes` are the
    /// original ones, when a byte stands for the whole character that it belongs to.
    private var alignments: [Range<Int>]?

    /// The unchanged bytes from `originalStart` on.
    package init(bytes: [UInt8], originalStart: Int) {
        self.bytes = bytes
        self.originalStart = originalStart
    }

    /// The original range that the bytes in `range` stand for; `range` is not empty.
    @inline(__always)
    package func originalRange(_ range: Range<Int>) -> Range<Int> {
        if let alignments {
            let lower = alignments[range.lowerBound].lowerBound
            let upper = alignments[range.upperBound - 1].upperBound
            return lower..<max(lower, upper)
        }
        var lower = range.lowerBound
        var upper = range.upperBound
        while lower > 0, UTF8Scan.isContinuation(bytes[lower]) { lower -= 1 }
        while upper < bytes.count, UTF8Scan.isContinuation(bytes[upper]) { upper += 1 }
        return lower + originalStart..<upper + originalStart
    }

    /// A part of this text as a text of its own.
    package func slice(_ range: Range<Int>) -> AlignedText {
        let start = range.isEmpty ? originalStart : originalRange(range).lowerBound
        var slice = AlignedText(bytes: Array(bytes[range]), originalStart: start)
        if let alignments { slice.alignments = Array(alignments[range]) }
        return slice
    }

    /// One scalar of a transformed text.
    package struct Change {
        /// The scalar that appears.
        package let scalar: Unicode.Scalar
        /// 0: it replaces one scalar; 1 and above: it is inserted after what went before;
        /// -n: it replaces one scalar and removes the n that follow.
        package let count: Int

        /// Makes a change.
        @inline(__always)
        package init(_ scalar: Unicode.Scalar, _ count: Int) {
            self.scalar = scalar
            self.count = count
        }
    }

    /// Replaces the scalars of `range` by `changes`; scalars that these do not consume disappear.
    ///
    /// - Parameters:
    ///   - range: the bytes of whole scalars.
    ///   - changes: the new scalars.
    ///   - numRemoved: how many scalars at the start of `range` disappear before the first change.
    package mutating func transform(
        _ range: Range<Int>, _ changes: [Change], afterRemoving numRemoved: Int = 0
    ) {
        var newBytes: [UInt8] = []
        var newAlignments: [Range<Int>] = []
        newBytes.reserveCapacity(range.count + 16)
        newAlignments.reserveCapacity(range.count + 16)
        var position = range.lowerBound
        for _ in 0..<numRemoved { position += UTF8Scan.length(bytes[position]) }
        for change in changes {
            let alignment =
                if change.count <= 0 {
                    originalRange(position..<position + 1)
                } else if position > 0 {
                    originalRange(position - 1..<position)
                } else {
                    originalStart..<originalStart
                }
            if change.count <= 0 {
                for _ in 0...(-change.count) where position < range.upperBound {
                    position += UTF8Scan.length(bytes[position])
                }
            }
            let start = newBytes.count
            UTF8Scan.append(change.scalar, to: &newBytes)
            for _ in start..<newBytes.count { newAlignments.append(alignment) }
        }
        var all = alignments ?? bytes.indices.map { originalRange($0..<$0 + 1) }
        all.replaceSubrange(range, with: newAlignments)
        bytes.replaceSubrange(range, with: newBytes)
        alignments = all
    }

    /// Replaces all scalars by `changes`.
    package mutating func transform(_ changes: [Change]) {
        transform(bytes.indices, changes)
    }

    /// Keeps the scalars for which `isKept` holds.
    package mutating func filter(_ isKept: (Unicode.Scalar) -> Bool) {
        var changes: [Change] = []
        var kept: Unicode.Scalar?
        var numRemoved = 0
        var numRemovedFirst = 0
        var isChanged = false
        for scalar in scalars {
            guard isKept(scalar) else {
                numRemoved += 1
                isChanged = true
                continue
            }
            if let kept {
                changes.append(Change(kept, -numRemoved))
            } else {
                numRemovedFirst = numRemoved
            }
            kept = scalar
            numRemoved = 0
        }
        guard isChanged else { return }
        if let kept { changes.append(Change(kept, -numRemoved)) }
        transform(bytes.indices, changes, afterRemoving: kept == nil ? 0 : numRemovedFirst)
    }

    /// Replaces each scalar by one other.
    package mutating func map(_ mapping: (Unicode.Scalar) -> Unicode.Scalar) {
        let old = scalars
        let new = old.map(mapping)
        if !old.elementsEqual(new) { transform(new.map { Change($0, 0) }) }
    }

    /// Spells each byte in the byte alphabet.
    package mutating func spellBytes() {
        transform(
            bytes.map { byte in
                Change(
                    ByteAlphabet.scalars[Int(byte)], UTF8Scan.isContinuation(byte) ? 1 : 0)
            })
    }

    /// The scalars as they are now.
    package var scalars: String.UnicodeScalarView {
        String(decoding: bytes, as: UTF8.self).unicodeScalars
    }

    /// Puts `prefix` before the first scalar, aligned with that scalar; an empty text stays empty.
    package mutating func prepend(_ prefix: String) {
        guard let lead = bytes.first else { return }
        let length = UTF8Scan.length(lead)
        let first = bytes.withUnsafeBufferPointer { UTF8Scan.decode($0, at: 0).value }
        var changes = prefix.unicodeScalars.enumerated().map { Change($1, $0 == 0 ? 0 : 1) }
        guard !changes.isEmpty, let first = Unicode.Scalar(first) else { return }
        changes.append(Change(first, 1))
        transform(0..<length, changes)
    }

    /// Replaces each of the ordered, disjoint `matches` by `content`, which gets the alignment of
    /// the match's last byte.
    package mutating func replace(_ matches: [Range<Int>], with content: [UInt8]) {
        guard !matches.isEmpty else { return }
        let old = alignments ?? bytes.indices.map { originalRange($0..<$0 + 1) }
        var newBytes: [UInt8] = []
        var newAlignments: [Range<Int>] = []
        var copied = 0
        for match in matches {
            newBytes.append(contentsOf: bytes[copied..<match.lowerBound])
            newAlignments.append(contentsOf: old[copied..<match.lowerBound])
            let end = match.upperBound
            let alignment = end > 0 ? old[end - 1] : originalStart..<originalStart
            newBytes.append(contentsOf: content)
            newAlignments.append(contentsOf: repeatElement(alignment, count: content.count))
            copied = end
        }
        newBytes.append(contentsOf: bytes[copied...])
        newAlignments.append(contentsOf: old[copied...])
        bytes = newBytes
        alignments = newAlignments
    }
}
