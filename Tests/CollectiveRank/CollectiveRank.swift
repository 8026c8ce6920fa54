import Foundation
import PEFTSharding
import Torch

/// One rank of the tests of process groups: `CollectiveRank <scenario> <timeout seconds> [store file]`.
///
/// Rank and size come from the launcher's variables, and so does the TCP store unless there is a store file. Prints one
/// JSON object; exits 0 also where the scenario is a failure, which it prints.
@main enum CollectiveRank {
    /// What is wrong with the command line.
    struct UsageError: Error {}

    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count >= 3, let scenario = Scenario(rawValue: arguments[1]),
            let timeoutSeconds = Double(arguments[2])
        else { throw UsageError() }
        let environment = try LaunchEnvironment(ProcessInfo.processInfo.environment)
        var report = Report()
        report.catchingError { report in
            let group: ProcessGroup
            if arguments.count > 3 {
                group = try ProcessGroup(
                    store: .file(
                        arguments[3], numRanks: environment.numRanks,
                        timeoutSeconds: timeoutSeconds),
                    rank: environment.rank, size: environment.numRanks,
                    timeoutSeconds: timeoutSeconds, address: "127.0.0.1")
            } else {
                group = try environment.makeProcessGroup(timeoutSeconds: timeoutSeconds)
            }
            try scenario.run(group, &report)
        }
        print(try report.json())
    }
}

/// What a rank saw, as the tests read it.
struct Report: Encodable {
    /// Elements by the name of the collective.
    var values: [String: [Float]] = [:]
    /// The error that ended the scenario.
    var error: String?
    /// The ranks that the error calls silent.
    var silentRanks: [Int] = []
    /// The number of the collective that failed.
    var sequence: Int?
    /// How long the part that was noted first took.
    var elapsedSeconds = 0.0
    /// The error of the call after it, and how long that took.
    var nextError: String?
    /// See ``nextError``.
    var nextElapsedSeconds = 0.0

    /// Runs a part and notes its error and duration.
    mutating func catchingError(_ body: (inout Report) throws -> Void) {
        let begin = ContinuousClock.now
        do {
            try body(&self)
        } catch {
            self.error = self.error ?? "\(error)"
            let collective = error as? CollectiveError
            silentRanks = collective?.silentRanks ?? []
            sequence = collective?.sequence
        }
        guard elapsedSeconds == 0 else { return }
        elapsedSeconds = (ContinuousClock.now - begin) / .seconds(1)
    }

    /// One line.
    func json() throws -> String {
        String(decoding: try JSONEncoder().encode(self), as: UTF8.self)
    }
}
