import Foundation

/// The Unicode normalization forms, aligned as Hugging Face `tokenizers` aligns them.
///
/// The algorithm is that of Unicode Annex 15: decompose, sort marks by combining class, compose.
/// `tokenizers` carries the data of Unicode 9, so scalars that came later stay as they are here.
/// A composed character is aligned with its base character alone, as it is there.
package struct UnicodeNormalizer: Normalizer {
    /// A normalization form.
    package enum Form: Sendable {
        /// Canonical composition.
        case nfc
        /// Canonical decomposition.
        case nfd
        /// Compatibility composition.
        case nfkc
        /// Compatibility decomposition.
        case nfkd
    }

    /// The form to bring texts into.
    package let form: Form

    /// Normalizes; a text that is in the form already, as most are, is only read.
    package func normalize(_ text: inout AlignedText) {
        var scalars: [Unicode.Scalar] = []
        scalars.reserveCapacity(text.bytes.count)
        var isInert = true
        text.bytes.withUnsafeBufferPointer { bytes in
            var position = 0
            while position < bytes.count {
                let (value, length) = UTF8Scan.decode(bytes, at: position)
                let scalar = Unicode.Scalar(value) ?? "\u{FFFD}"
                scalars.append(scalar)
                isInert = isInert && self.isInert(scalar)
                position += length
            }
        }
        guard !isInert else { return }
        var composer = Composer(composes: form == .nfc || form == .nfkc)
        for (index, scalar) in scalars.enumerated() {
            let isFollowedByMark = index + 1 < scalars.count && !self.isInert(scalars[index + 1])
            if self.isInert(scalar), !isFollowedByMark {
                composer.flush()
                composer.output.append(.init(scalar, 0))
                continue
            }
            var count = 0
            for part in decompose(scalar) {
                composer.append(part, count)
                count = 1
            }
        }
        composer.flush()
        text.transform(composer.output)
    }

    /// Whether a scalar combines with the one before it, by the categories M of Unicode 9.
    package static func isCombiningMark(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        // Marks then, letters now.
        case 0x1CF2, 0x1CF3: return true
        // Punctuation then.
        case 0x1_11C9: return false
        default: break
        }
        switch scalar.properties.generalCategory {
        case .nonspacingMark, .spacingMark, .enclosingMark: return UnicodeData.isKnown(scalar)
        default: return false
        }
    }

    /// Whether a scalar stays as it is, whatever comes before it, unless a scalar that is not inert
    /// follows.
    private func isInert(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.value < 0x80 { return true }
        switch form {
        case .nfc:
            if scalar.value < 0x300 { return true }
            if UnicodeData.isHangul(scalar) { return true }
            if !UnicodeData.isKnown(scalar) { return true }
            return !scalar.properties.isFullCompositionExclusion
                && UnicodeData.combiningClass(scalar) == 0
                && !UnicodeData.composesBackward(scalar)
        case .nfd, .nfkc, .nfkd:
            return (0x3400...0x9FFF).contains(scalar.value)
        }
    }

    private func decompose(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
        if scalar.value < 0x80 || !UnicodeData.isKnown(scalar) { return [scalar] }
        if UnicodeData.isHangul(scalar) { return UnicodeData.decomposeHangul(scalar) }
        let text = String(scalar)
        let decomposed =
            switch form {
            case .nfc, .nfd: text.decomposedStringWithCanonicalMapping
            case .nfkc, .nfkd: text.decomposedStringWithCompatibilityMapping
            }
        return Array(decomposed.unicodeScalars)
    }
}

/// Sorts and composes a stream of decomposed scalars.
private struct Composer {
    let composes: Bool
    var output: [AlignedText.Change] = []
    private var pending: [(change: AlignedText.Change, combiningClass: Int)] = []

    init(composes: Bool) { self.composes = composes }

    /// Takes the next decomposed scalar; `count` is 0 for the first of a source scalar, else 1.
    mutating func append(_ scalar: Unicode.Scalar, _ count: Int) {
        let combiningClass = UnicodeData.combiningClass(scalar)
        if combiningClass == 0, !UnicodeData.composesBackward(scalar) { flush() }
        pending.append((.init(scalar, count), combiningClass))
    }

    /// Writes out what is pending: a starter, what composes with it, and the marks after it.
    mutating func flush() {
        defer { pending.removeAll(keepingCapacity: true) }
        sortMarks()
        guard composes else {
            output.append(contentsOf: pending.map(\.change))
            return
        }
        var starter: AlignedText.Change?
        var marks: [AlignedText.Change] = []
        var lastClass: Int?
        for (change, combiningClass) in pending {
            guard let base = starter else {
                if combiningClass == 0 { starter = change } else { output.append(change) }
                continue
            }
            let isBlocked = lastClass.map { $0 >= combiningClass } ?? false
            if !isBlocked, let composed = UnicodeData.compose(base.scalar, change.scalar) {
                starter = .init(composed, base.count + change.count - 1)
            } else if combiningClass == 0 {
                output.append(base)
                output.append(contentsOf: marks)
                marks = []
                starter = change
                lastClass = nil
            } else {
                marks.append(change)
                lastClass = combiningClass
            }
        }
        if let starter { output.append(starter) }
        output.append(contentsOf: marks)
    }

    /// Sorts each run of marks by combining class; marks of one class keep their order.
    private mutating func sortMarks() {
        var start = 0
        while start < pending.count {
            var end = start
            while end < pending.count, pending[end].combiningClass != 0 { end += 1 }
            if end - start > 1 {
                let sorted = pending[start..<end].enumerated().sorted {
                    ($0.element.combiningClass, $0.offset) < ($1.element.combiningClass, $1.offset)
                }
                pending.replaceSubrange(start..<end, with: sorted.map(\.element))
            }
            start = max(end, start) + 1
        }
    }
}

/// The data of Unicode 9 that normalization needs, from Swift's and Foundation's newer data.
private enum UnicodeData {
    /// Starters that may compose with the scalar before them (NFC_Quick_Check=Maybe, class 0).
    private static let backwardComposing: Set<UInt32> = [
        0x09BE, 0x09D7, 0x0B3E, 0x0B56, 0x0B57, 0x0BBE, 0x0BD7, 0x0CC2, 0x0CD5, 0x0CD6, 0x0D3E,
        0x0D57, 0x0DCF, 0x0DDF, 0x102E, 0x1B35, 0x11127, 0x1133E, 0x11357, 0x114B0, 0x114BA,
        0x114BD, 0x115AF,
    ]

    static func composesBackward(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.value < 0x09BE { return false }
        return (0x1161...0x1175).contains(scalar.value) || (0x11A8...0x11C2).contains(scalar.value)
            || backwardComposing.contains(scalar.value)
    }

    static func isKnown(_ scalar: Unicode.Scalar) -> Bool { ScalarClass.isKnown(scalar, in: 9) }

    static func combiningClass(_ scalar: Unicode.Scalar) -> Int {
        if scalar.value < 0x300 || !isKnown(scalar) { return 0 }
        return Int(scalar.properties.canonicalCombiningClass.rawValue)
    }

    static func isHangul(_ scalar: Unicode.Scalar) -> Bool {
        (0xAC00..<0xAC00 + 11_172).contains(scalar.value)
    }

    static func decomposeHangul(_ scalar: Unicode.Scalar) -> [Unicode.Scalar] {
        let index = scalar.value - 0xAC00
        let values = [0x1100 + index / 588, 0x1161 + index % 588 / 28, 0x11A7 + index % 28]
        return values.prefix(index % 28 == 0 ? 2 : 3).compactMap { Unicode.Scalar($0) }
    }

    static func compose(_ base: Unicode.Scalar, _ next: Unicode.Scalar) -> Unicode.Scalar? {
        if let hangul = composeHangul(base.value, next.value) { return hangul }
        guard next.value >= 0x300 else { return nil }
        return composites[UInt64(base.value) << 32 | UInt64(next.value)]
    }

    /// The scalar that each pair composes to, found from the decompositions, since Foundation's own
    /// composition misses some chains (U+0CCA U+0CD5 on Linux).
    private static let composites: [UInt64: Unicode.Scalar] = {
        var byDecomposition: [[UInt32]: UInt32] = [:]
        for value in [0xC0...0x33FF, 0x1_1000...0x1_1FFF].joined() {
            guard let scalar = Unicode.Scalar(UInt32(value)), isKnown(scalar),
                !scalar.properties.isFullCompositionExclusion
            else { continue }
            let parts = String(scalar).decomposedStringWithCanonicalMapping.unicodeScalars
            if parts.count > 1 { byDecomposition[parts.map(\.value)] = scalar.value }
        }
        var composites: [UInt64: Unicode.Scalar] = [:]
        for (parts, value) in byDecomposition {
            let rest = Array(parts.dropLast())
            guard let base = rest.count == 1 ? rest[0] : byDecomposition[rest],
                let next = parts.last
            else { continue }
            composites[UInt64(base) << 32 | UInt64(next)] = Unicode.Scalar(value)
        }
        return composites
    }()

    private static func composeHangul(_ base: UInt32, _ next: UInt32) -> Unicode.Scalar? {
        if (0x1100..<0x1113).contains(base), (0x1161..<0x1176).contains(next) {
            return Unicode.Scalar(0xAC00 + ((base - 0x1100) * 21 + (next - 0x1161)) * 28)
        }
        let isOpen = (0xAC00..<0xAC00 + 11_172).contains(base) && (base - 0xAC00) % 28 == 0
        guard isOpen, (0x11A8..<0x11C3).contains(next) else { return nil }
        return Unicode.Scalar(base + next - 0x11A7)
    }
}
