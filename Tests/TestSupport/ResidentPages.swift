import Foundation

/// What of this process's mappings is in memory, by the kernel's account.
package enum ResidentPages {
    /// Counts the mappings whose line in `/proc/self/smaps` is one of those asked for.
    ///
    /// - Parameter isAskedFor: is given `<start>-<end> <access> ... <path>`, the addresses in hexadecimal.
    /// - Returns: their bytes in memory; nil if there is no such mapping.
    package static func sizeBytes(where isAskedFor: (Substring) -> Bool) -> Int? {
        // By a handle: Foundation takes the first page of a file without size for all of it.
        let data = try? FileHandle(forReadingAtPath: "/proc/self/smaps")?.readToEnd()
        var isInside = false
        var sum: Int?
        for line in String(decoding: data ?? Data(), as: UTF8.self).split(separator: "\n") {
            if line.drop(while: \.isHexDigit).first == "-" {
                isInside = isAskedFor(line)
            } else if isInside, line.hasPrefix("Rss:") {
                let kilobytes = line.split(separator: " ").compactMap { Int($0) }.first ?? 0
                sum = (sum ?? 0) + kilobytes * 1_024
            }
        }
        return sum
    }
}
