import Foundation
import PEFTCheckpoints

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
