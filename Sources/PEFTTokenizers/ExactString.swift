#if canImport(Glibc)
    import Glibc
#else
    import Foundation
#endif

/// A string whose equality and hash are those of its UTF-8 bytes.
///
/// Swift's own `==` takes canonically equivalent strings for equal, which would merge distinct
/// entries of a vocabulary.
package struct ExactString: Sendable {
    /// The text itself.
    package let text: String

    /// Wraps `text`.
    package init(_ text: String) { self.text = text }
}

extension ExactString: Hashable, Comparable {
    /// Whether both hold the same bytes.
    package static func == (left: ExactString, right: ExactString) -> Bool {
        compare(left, right, orderMatters: false) == 0
    }

    /// Whether `left` comes first in the order of Unicode scalars, which is that of UTF-8 bytes.
    package static func < (left: ExactString, right: ExactString) -> Bool {
        compare(left, right, orderMatters: true) < 0
    }

    /// Feeds the bytes to the hasher.
    package func hash(into hasher: inout Hasher) {
        var copy = text
        copy.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }

    private static func compare(
        _ left: ExactString, _ right: ExactString, orderMatters: Bool
    ) -> Int {
        var left = left.text
        var right = right.text
        return left.withUTF8 { left in
            right.withUTF8 { right in
                if !orderMatters, left.count != right.count { return 1 }
                guard let leftStart = left.baseAddress, let rightStart = right.baseAddress else {
                    return left.count - right.count
                }
                let order = memcmp(leftStart, rightStart, min(left.count, right.count))
                return order != 0 ? Int(order) : left.count - right.count
            }
        }
    }
}
