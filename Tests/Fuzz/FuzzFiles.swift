import Foundation

/// Where samples and kept inputs are, and how an input is written.
enum FuzzFiles {
    /// The folder that holds `Package.swift`.
    static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    /// The committed fixtures.
    static let fixtures = root.appending(path: "Tests/Fixtures")
    /// The committed inputs that once found something, in a folder for each reader.
    static let corpus = fixtures.appending(path: "fuzz")

    /// The files of a sample by their names in its folder; a single file has the empty name.
    static func load(_ url: URL) throws -> [String: [UInt8]] {
        var isFolder: ObjCBool = false
        let exists = FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
        guard exists, isFolder.boolValue else { return ["": Array(try Data(contentsOf: url))] }
        var files: [String: [UInt8]] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: url.path) {
            files[name] = Array(try Data(contentsOf: url.appending(path: name)))
        }
        return files
    }

    /// Writes files where a reader will look for them.
    static func write(_ files: [String: [UInt8]], to url: URL) throws {
        try? FileManager.default.removeItem(at: url)
        guard files[""] == nil else {
            try Data(files[""] ?? []).write(to: url)
            return
        }
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        for (name, bytes) in files { try Data(bytes).write(to: url.appending(path: name)) }
    }
}
