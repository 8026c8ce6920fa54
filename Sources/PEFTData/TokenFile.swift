import Foundation

/// Encoded rows in a file without a name, mapped into memory: the system reads pages when they are asked for and drops them when it
/// needs their room.
///
/// A token takes four bytes, the highest bit of which says whether it is a target. In memory are three numbers a row.
final class TokenFile: Sendable {
    /// Builds a file row by row.
    struct Writer: ~Copyable {
        private let descriptor: Int32
        private let folder: String
        private let rowsPerElement: Int
        private var rows = Rows()

        /// Makes an empty file on the disk of a folder.
        ///
        /// - Throws: `unwritable`.
        init(in folder: String, rowsPerElement: Int) throws(DatasetProblem) {
            self.rowsPerElement = rowsPerElement
            var name = Array("\(folder)/.rows-XXXXXX".utf8CString)
            descriptor = mkstemp(&name)
            guard descriptor >= 0 else { throw Self.failure(folder) }
            unlink(name)
            self.folder = folder
        }

        deinit { close(descriptor) }

        /// Appends rows.
        ///
        /// - Throws: `unwritable`, as on a full disk.
        mutating func append(_ sequences: [TokenSequence]) throws(DatasetProblem) {
            var words: [UInt32] = []
            for sequence in sequences {
                for (token, isTarget) in zip(sequence.tokens, sequence.isTarget) {
                    words.append(UInt32(bitPattern: token) | (isTarget ? TokenFile.targetBit : 0))
                }
                rows.add(sequence)
            }
            let isWritten = words.withUnsafeBytes { bytes in
                var done = 0
                while done < bytes.count {
                    let count = write(
                        descriptor, bytes.baseAddress?.advanced(by: done), bytes.count - done)
                    if count < 0, errno == EINTR { continue }
                    guard count > 0 else { return false }
                    done += count
                }
                return true
            }
            guard isWritten else { throw Self.failure(folder) }
        }

        /// The file with everything that was appended.
        ///
        /// - Throws: `unwritable` if it cannot be mapped.
        func finish() throws(DatasetProblem) -> TokenFile {
            let sizeBytes = max(1, rows.numTokens) * MemoryLayout<UInt32>.size
            let address = mmap(nil, sizeBytes, PROT_READ, MAP_SHARED, descriptor, 0)
            guard let address, address != MAP_FAILED else { throw Self.failure(folder) }
            return TokenFile(
                address: UInt(bitPattern: address), sizeBytes: sizeBytes, rows: rows,
                rowsPerElement: rowsPerElement)
        }

        private static func failure(_ folder: String) -> DatasetProblem {
            .unwritable(folder: folder, reason: String(cString: strerror(errno)))
        }
    }

    /// What is known of the rows without reading them.
    struct Rows: Sendable {
        private(set) var starts: [Int] = [0]
        private(set) var numTargets: [Int32] = []
        private(set) var isDesirable: [Bool?] = []

        var count: Int { numTargets.count }
        var numTokens: Int { starts[count] }

        mutating func add(_ sequence: TokenSequence) {
            starts.append(numTokens + sequence.tokens.count)
            numTargets.append(Int32(sequence.numTargetTokens))
            isDesirable.append(sequence.isDesirable)
        }
    }

    fileprivate static let targetBit: UInt32 = 1 << 31

    /// The address of the mapping, which nothing writes to and which lives as long as this.
    private let address: UInt
    private let sizeBytes: Int
    private let rows: Rows
    /// Sequences that one row of the file has made.
    private let rowsPerElement: Int

    private init(address: UInt, sizeBytes: Int, rows: Rows, rowsPerElement: Int) {
        self.rowsPerElement = rowsPerElement
        self.address = address
        self.sizeBytes = sizeBytes
        self.rows = rows
    }

    deinit { munmap(UnsafeMutableRawPointer(bitPattern: address), sizeBytes) }

    /// The number of rows.
    var count: Int { rows.count }

    /// The number of a row's tokens.
    func length(at position: Int) -> Int { rows.starts[position + 1] - rows.starts[position] }

    /// The number of a row's tokens whose loss counts.
    func numTargetTokens(at position: Int) -> Int { Int(rows.numTargets[position]) }

    /// Reads a row.
    subscript(position: Int) -> TokenSequence {
        let base = UnsafeRawPointer(bitPattern: address)?.assumingMemoryBound(to: UInt32.self)
        let words = UnsafeBufferPointer(
            start: base?.advanced(by: rows.starts[position]), count: length(at: position))
        return TokenSequence(
            tokens: words.map { Int32(bitPattern: $0 & ~Self.targetBit) },
            isTarget: words.map { $0 & Self.targetBit != 0 }, row: position / rowsPerElement,
            isDesirable: rows.isDesirable[position])
    }
}
