import Foundation
import Glibc
import PEFTCheckpoints
import TestSupport
import Testing

@Suite struct MappedFileTests {
    @Test func bytesAreThoseOfTheFile() throws {
        let url = Checkout.fixture("checkpoints/dtypes.safetensors")
        let file = try MappedFile(url)
        let expected = try Data(contentsOf: url)
        #expect(file.sizeBytes == expected.count)
        #expect(Data(file.bytes) == expected)
    }

    @Test func releasedPagesReadTheSame() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let bytes = Data((0..<1 << 22).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 8) })
        let file = try MappedFile(try folder.write(bytes, "file"))
        #expect(Data(file.bytes) == bytes)
        #expect(numResidentBytes(of: file) >= 1 << 22)
        file.release(0..<1 << 21)
        #expect(numResidentBytes(of: file) <= 1 << 21)
        #expect(Data(file.bytes) == bytes)
    }

    @Test func missingFile() {
        #expect(
            message("/nonexistent/model.gguf")
                == "/nonexistent/model.gguf: cannot be read: no such file; check the path")
    }

    @Test func folder() {
        let path = Checkout.root.path
        #expect(
            message(path) == "\(path): cannot be read: it is a folder; give the path of a file")
    }

    @Test func device() {
        #expect(
            message("/dev/null")
                == "/dev/null: cannot be read: it is not a file; give the path of a file")
    }

    @Test func emptyFile() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.write(Data(), "empty")
        #expect(
            message(url.path)
                == "\(url.path): cannot be read: the file is empty; "
                + "copy or download the file again")
    }

    @Test(.enabled(if: geteuid() != 0, "root may read every file"))
    func unreadableFile() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.write(Data([1]), "secret")
        chmod(url.path, 0)
        #expect(
            message(url.path)
                == "\(url.path): cannot be read: permission denied; "
                + "give your user the right to read it")
    }

    private func message(_ path: String) -> String? {
        checkpointError { _ = try MappedFile(URL(filePath: path)) }?.description
    }

    /// The resident part of the mapping in this process, from /proc/self/smaps.
    private func numResidentBytes(of file: MappedFile) -> Int {
        let start = String(UInt(bitPattern: file.baseAddress), radix: 16)
        let data = try? FileHandle(forReadingAtPath: "/proc/self/smaps")?.readToEnd()
        let maps = String(decoding: data ?? Data(), as: UTF8.self)
        var isInside = false
        for line in maps.split(separator: "\n") {
            if line.hasPrefix(start + "-") { isInside = true }
            if isInside, line.hasPrefix("Rss:") {
                let number = line.split(separator: " ").compactMap { Int($0) }.first ?? -1
                return number * 1_024
            }
        }
        return -1
    }
}
