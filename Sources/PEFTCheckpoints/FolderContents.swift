import Foundation

/// The names in a folder.
struct FolderContents {
    /// The names, sorted.
    let names: [String]

    /// Lists the folder at `url`.
    ///
    /// - Throws: `CheckpointError.cannotRead` if there is no such folder or it cannot be listed.
    init(_ url: URL) throws(CheckpointError) {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
            throw .cannotRead(
                path: url.path, reason: "no such file or folder", remedy: "check the path")
        }
        guard isFolder.boolValue else {
            throw .cannotRead(
                path: url.path, reason: "it is not a folder", remedy: "give the path of a folder")
        }
        do {
            names = try FileManager.default.contentsOfDirectory(atPath: url.path).sorted()
        } catch {
            throw .cannotRead(
                path: url.path, reason: "permission denied",
                remedy: "give your user the right to read it")
        }
    }

    /// Creates the folder at `url`, and those above it, unless it is there.
    static func create(_ url: URL) throws(CheckpointError) {
        do {
            try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        } catch {
            let cause = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
            let code = cause.map { Int32($0.code) } ?? 0
            if cause?.domain == NSPOSIXErrorDomain, code != 0 {
                throw AtomicFile.writeError(path: url.path, code: code)
            }
            throw .cannotWrite(
                path: url.path, reason: "the folder cannot be created", remedy: "check the path")
        }
    }
}
