import Foundation

/// Errors of files, as Foundation throws them, in the system's words.
package enum SystemError {
    /// What happened, without the path: "no such file or directory".
    package static func explanation(of error: any Error) -> String {
        let cause = (error as? CocoaError)?.underlying ?? error
        guard let system = cause as? POSIXError else { return error.localizedDescription }
        return String(cString: strerror(system.code.rawValue)).lowercased()
    }

    /// What happened, with the path if the error knows it.
    package static func message(of error: any Error) -> String? {
        guard let error = error as? CocoaError else { return nil }
        let explanation = explanation(of: error)
        return error.filePath.map { "\($0): \(explanation)" } ?? explanation
    }
}
