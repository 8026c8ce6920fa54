/// Finds, splits and replaces parts of a text by its UTF-8 bytes, as Python's `str` methods do.
///
/// Swift's own search works on characters and takes canonically equivalent ones for equal.
struct PythonSearch {
    private let bytes: [UInt8]

    /// Prepares a search in `text`.
    init(_ text: String) { bytes = Array(text.utf8) }

    /// The byte offset of the first occurrence of `part` at or behind `start`.
    func firstIndex(of part: String, from start: Int = 0) -> Int? {
        let part = Array(part.utf8)
        guard let first = part.first else { return start <= bytes.count ? start : nil }
        var index = start
        while index + part.count <= bytes.count {
            if bytes[index] == first, bytes[index..<(index + part.count)].elementsEqual(part) {
                return index
            }
            index += 1
        }
        return nil
    }

    /// The byte offset of the last occurrence of `part` that ends at or before `end`.
    func lastIndex(of part: String, before end: Int) -> Int? {
        let part = Array(part.utf8)
        var index = end - part.count
        while index >= 0 {
            if bytes[index..<(index + part.count)].elementsEqual(part) { return index }
            index -= 1
        }
        return nil
    }

    /// The text between two byte offsets.
    func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }

    /// The number of bytes.
    var count: Int { bytes.count }

    /// The number of scalars before a byte offset.
    func numScalars(before offset: Int) -> Int { bytes[..<offset].count { $0 & 0xC0 != 0x80 } }
}

extension String {
    /// `str.replace`; a nil count replaces every occurrence.
    func pythonReplacing(_ old: String, with new: String, count: Int? = nil) -> String {
        var remaining = count.map { $0 < 0 ? Int.max : $0 } ?? Int.max
        if old.isEmpty {
            var result = ""
            for scalar in unicodeScalars {
                if remaining > 0 {
                    result += new
                    remaining -= 1
                }
                result.unicodeScalars.append(scalar)
            }
            return remaining > 0 ? result + new : result
        }
        let search = PythonSearch(self)
        var result = ""
        var position = 0
        while remaining > 0, let found = search.firstIndex(of: old, from: position) {
            result += search.text(position..<found)
            result += new
            position = found + old.utf8.count
            remaining -= 1
        }
        return position == 0 ? self : result + search.text(position..<search.count)
    }

    /// `str.split` at a separator that is not empty; a negative count has no limit.
    func pythonSplit(_ separator: String, maxSplit: Int = -1) -> [String] {
        let search = PythonSearch(self)
        var parts: [String] = []
        var position = 0
        while parts.count != maxSplit, let found = search.firstIndex(of: separator, from: position)
        {
            parts.append(search.text(position..<found))
            position = found + separator.utf8.count
        }
        return parts + [search.text(position..<search.count)]
    }

    /// `str.rsplit` at a separator that is not empty; a negative count has no limit.
    func pythonReverseSplit(_ separator: String, maxSplit: Int) -> [String] {
        let search = PythonSearch(self)
        var parts: [String] = []
        var end = search.count
        while parts.count != maxSplit, let found = search.lastIndex(of: separator, before: end) {
            parts.append(search.text((found + separator.utf8.count)..<end))
            end = found
        }
        return [search.text(0..<end)] + parts.reversed()
    }

    /// `str.split` without a separator: at runs of white space.
    func pythonSplitAtSpace(maxSplit: Int = -1) -> [String] {
        var parts: [String] = []
        var rest = unicodeScalars.drop(while: \.isPythonSpace)
        while !rest.isEmpty {
            if parts.count == maxSplit {
                parts.append(String(rest))
                break
            }
            let part = rest.prefix { !$0.isPythonSpace }
            parts.append(String(part))
            rest = rest[part.endIndex...].drop(while: \.isPythonSpace)
        }
        return parts
    }

    /// `str.rsplit` without a separator.
    func pythonReverseSplitAtSpace(maxSplit: Int) -> [String] {
        let reversed = String(unicodeScalars.reversed())
        return reversed.pythonSplitAtSpace(maxSplit: maxSplit).reversed().map {
            String($0.unicodeScalars.reversed())
        }
    }

    /// `str.splitlines`.
    func pythonLines(keepsEnds: Bool = false) -> [String] {
        var lines: [String] = []
        var line = String.UnicodeScalarView()
        var isAfterReturn = false
        for scalar in unicodeScalars {
            if isAfterReturn, scalar == "\n" {
                isAfterReturn = false
                if keepsEnds { lines[lines.count - 1].unicodeScalars.append(scalar) }
                continue
            }
            isAfterReturn = scalar == "\r"
            if scalar.isPythonLineEnd {
                if keepsEnds { line.append(scalar) }
                lines.append(String(line))
                line = String.UnicodeScalarView()
            } else {
                line.append(scalar)
            }
        }
        return line.isEmpty ? lines : lines + [String(line)]
    }

    /// `str.strip` and its one-sided kin; without `characters`, white space is removed.
    func pythonStripped(
        _ characters: String? = nil, leading: Bool = true, trailing: Bool = true
    ) -> String {
        let set = characters.map { Set($0.unicodeScalars) }
        func isRemoved(_ scalar: Unicode.Scalar) -> Bool {
            set?.contains(scalar) ?? scalar.isPythonSpace
        }
        var rest = unicodeScalars[...]
        while leading, let first = rest.first, isRemoved(first) { rest.removeFirst() }
        while trailing, let last = rest.last, isRemoved(last) { rest.removeLast() }
        return String(rest)
    }
}
