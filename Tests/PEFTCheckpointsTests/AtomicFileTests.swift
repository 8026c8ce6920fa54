import Foundation
import Glibc
import PEFTCheckpoints
import TestSupport
import Testing

@Suite struct AtomicFileTests {
    @Test func nothingIsVisibleBeforeCommit() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.write(Data("old".utf8), "file")
        let file = try AtomicFile(replacing: url)
        try file.append(Array("new".utf8))
        #expect(try Data(contentsOf: url) == Data("old".utf8))
        try file.commit()
        #expect(try Data(contentsOf: url) == Data("new".utf8))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["file"])
    }

    @Test func aDroppedFileLeavesNothing() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        var file: AtomicFile? = try AtomicFile(replacing: folder.appending(path: "file"))
        try file?.append([1, 2, 3])
        file = nil
        #expect(file == nil)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    }

    /// A rename would replace the device itself, for every program.
    @Test func deviceIsNotReplaced() {
        let error = checkpointError { try AtomicFile.write(Data(), to: URL(filePath: "/dev/null")) }
        #expect(
            error?.description
                == "/dev/null: cannot be written: it is a device or a pipe; give the path of a file"
        )
    }

    @Test func noSpaceLeft() throws {
        let descriptor = open("/dev/full", O_WRONLY)
        defer { close(descriptor) }
        let error = checkpointError {
            try [UInt8](repeating: 0, count: 4_096).withUnsafeBytes {
                try AtomicFile.write($0, to: descriptor, path: "/out/adapter_model.safetensors")
            }
        }
        #expect(
            error?.description
                == "/out/adapter_model.safetensors: cannot be written: "
                + "no space left on the disk; free some space or write to another disk")
    }

    @Test func aMissingFolder() {
        let url = URL(filePath: "/nonexistent/file")
        #expect(
            checkpointError { try AtomicFile.write(Data(), to: url) }?.description
                == "/nonexistent/file: cannot be written: its folder does not exist; "
                + "create the folder first")
    }

    @Test func aFolderInTheWay() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = folder.appending(path: "name")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        #expect(
            checkpointError { try AtomicFile.write(Data([1]), to: url) }?.description
                == "\(url.path): cannot be written: it is a folder; give the path of a file")
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path) == ["name"])
    }
}
