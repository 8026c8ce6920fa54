import Foundation
import PEFTCheckpoints
import TestSupport

/// Runs `body` and returns the `CheckpointError` that it throws; nil if it throws nothing else.
func checkpointError(_ body: () throws -> Void) -> CheckpointError? {
    do {
        try body()
        return nil
    } catch {
        return error as? CheckpointError
    }
}

/// Writes damaged files for tests.
extension URL {
    /// Writes `data` to the file `name` in this folder.
    func write(_ data: Data, _ name: String) throws -> URL {
        let url = appending(path: name)
        try data.write(to: url)
        return url
    }

    /// Writes a safetensors file of a JSON header and data to the file `name` in this folder.
    func writeSafetensors(header: String, data: Data = Data(), _ name: String) throws -> URL {
        var bytes = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
        bytes.append(contentsOf: header.utf8)
        return try write(bytes + data, name)
    }
}

extension Data {
    /// The bytes with those from `offset` on replaced.
    func replacing(at offset: Int, with bytes: [UInt8]) -> Data {
        var result = self
        result.replaceSubrange(offset..<offset + bytes.count, with: bytes)
        return result
    }
}

/// A file or folder among this target's fixtures.
func fixture(_ name: String) -> URL {
    Checkout.fixture("checkpoints/" + name)
}

/// A copy of a fixture's folder that a test may damage and must remove.
func copy(_ name: String) throws -> URL {
    let folder = try Checkout.temporaryFolder()
    for file in try FileManager.default.contentsOfDirectory(atPath: fixture(name).path) {
        try FileManager.default.copyItem(
            at: fixture(name).appending(path: file), to: folder.appending(path: file))
    }
    return folder
}

/// The part of the mapping that this process has in memory.
func numResidentBytes(of file: MappedFile) -> Int {
    let start = String(UInt(bitPattern: file.baseAddress), radix: 16)
    return ResidentPages.sizeBytes { $0.hasPrefix(start + "-") } ?? -1
}
