import Foundation

/// Processes of this machine that a test did not start itself, such as those that a launcher has started.
package enum RunningProcesses {
    /// Processes that have a word in their command line.
    ///
    /// - Parameters:
    ///   - word: such as the name of the test's folder, which no other process has.
    ///   - variable: what their environment must hold, such as `RANK=1`; nil for anything.
    /// - Returns: their ids.
    package static func all(with word: String, variable: String? = nil) -> [Int32] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { Int32($0) }.filter { process in
            strings("/proc/\(process)/cmdline").contains { $0.contains(word) }
                && (variable.map { strings("/proc/\(process)/environ").contains($0) } ?? true)
        }
    }

    /// The strings of a file that ends each with a zero byte; none if the process has ended.
    private static func strings(_ path: String) -> [String] {
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        return text.split(separator: "\0").map(String.init)
    }
}
