package import Foundation

/// Locates files of this checkout for tests; independent of the current directory.
package enum Checkout {
    /// The folder that holds `Package.swift`.
    package static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// A committed fixture below `Tests/Fixtures`.
    package static func fixture(_ path: String) -> URL {
        root.appending(path: "Tests/Fixtures").appending(path: path)
    }

    /// The demo model's GGUF file, which `make test` fetches before it runs the tests.
    package static let demoModel = root.appending(
        path: ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf")

    /// A new empty folder under the system's temporary folder; the caller removes it.
    package static func temporaryFolder() throws -> URL {
        let url = FileManager.default.temporaryDirectory
            .appending(path: "swift-peft-" + UUID().uuidString)
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        return url
    }
}
