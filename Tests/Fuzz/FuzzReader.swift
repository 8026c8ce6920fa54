import Foundation

/// A reader of files that must end with a value or with an error of the project, whatever it is given.
struct FuzzReader: Sendable {
    /// Its name on the command line and of the folder of kept inputs.
    let name: String
    /// Fixtures that it reads well, below `Tests/Fixtures`: files, or folders of which one file is
    /// changed.
    let samples: [String]
    /// Words that are put in and swapped.
    let words: [String]
    /// Reads the file or folder, and uses what was read as far as no model is needed.
    let read: @Sendable (URL) throws -> Void

    /// All readers.
    static let all = textReaders + checkpointReaders
}
