import Foundation

/// Reads a file or standard input line by line, as text.
///
/// Lines end with a newline character and nothing else: a carriage return belongs to its line. The
/// sequence ends at the first line that is no text; `failure` says which.
package final class LineReader: Sequence, IteratorProtocol {
    /// Why lines could not be read.
    package enum Failure: Error, Equatable, CustomStringConvertible {
        case cannotOpen(path: String, reason: String)
        case cannotRead(path: String, reason: String)
        case notText(path: String, line: Int)

        /// The file, the line and the reason.
        package var description: String {
            switch self {
            case .cannotOpen(let path, let reason): "\(path): cannot be opened: \(reason)"
            case .cannotRead(let path, let reason): "\(path): cannot be read: \(reason)"
            case .notText(let path, let line): "\(path):\(line): expected UTF-8 text"
            }
        }
    }

    /// Why the lines ended before the file did.
    package private(set) var failure: Failure?

    private let path: String
    private let file: UnsafeMutablePointer<FILE>
    private var buffer: UnsafeMutablePointer<CChar>?
    private var capacity = 0
    private var numLines = 0

    /// Opens a file; "-" is standard input.
    ///
    /// - Throws: `Failure.cannotOpen`.
    package init(_ path: String) throws(Failure) {
        let isInput = path == "-"
        self.path = isInput ? "standard input" : path
        guard let file = isInput ? fdopen(dup(STDIN_FILENO), "r") : fopen(path, "r") else {
            throw Failure.cannotOpen(path: self.path, reason: Self.reason())
        }
        self.file = file
    }

    deinit {
        free(buffer)
        fclose(file)
    }

    /// The next line, without its newline; nil at the end.
    package func next() -> String? {
        guard failure == nil else { return nil }
        errno = 0
        let length = getline(&buffer, &capacity, file)
        guard length >= 0, let buffer else {
            if errno != 0 { failure = .cannotRead(path: path, reason: Self.reason()) }
            return nil
        }
        numLines += 1
        let bytes = UnsafeRawBufferPointer(start: buffer, count: length)
        let isTerminated = bytes.last == UInt8(ascii: "\n")
        let line = String(validating: bytes.dropLast(isTerminated ? 1 : 0), as: UTF8.self)
        if line == nil { failure = .notText(path: path, line: numLines) }
        return line
    }

    private static func reason() -> String { String(cString: strerror(errno)).lowercased() }
}
