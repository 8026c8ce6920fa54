/// Everything that is wrong with a configuration, reported at once.
public struct ConfigError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The problems, in the order in which a reader meets them; never empty.
    public let problems: [ConfigProblem]

    /// Makes an error of its problems.
    ///
    /// - Parameter problems: at least one.
    public init(_ problems: [ConfigProblem]) {
        self.problems = problems
    }

    /// One line a problem.
    public var description: String {
        problems.map(\.description).joined(separator: "\n")
    }

    /// Whether it is only about how the command was called: no file is at fault, and no rule of what can learn.
    package var isUsageError: Bool {
        problems.allSatisfy { problem in
            if case .file = problem.place { return false }
            switch problem.reason {
            case .unreadableFile, .rule: return false
            default: return true
            }
        }
    }
}

/// One thing that is wrong with a configuration, and where.
public struct ConfigProblem: Equatable, Sendable, CustomStringConvertible {
    /// Where a value was given.
    public enum Place: Equatable, Sendable {
        case file(path: String, line: Int)
        case flag(String)
    }

    /// What is wrong.
    public enum Reason: Equatable, Sendable {
        case unreadableFile(path: String, reason: String)
        case syntax(String)
        case unknownKey(String, nearest: String?)
        case unknownFlag(String, nearest: String?)
        case unexpectedArgument(String)
        case duplicateKey(String, firstLine: Int)
        case repeatedFlag(String)
        case missingValue(flag: String, expected: String)
        case invalidValue(key: String, expected: String, found: String)
        case missing(key: String, meaning: String, remedy: String)
        case conflict(key: String, explanation: String)
        case rule(key: String, Diagnosis)
    }

    /// The file and line or the flag at fault; nil for a value that was set in code or not at all.
    public var place: Place?
    /// What is wrong.
    public var reason: Reason

    /// Makes a problem.
    public init(_ reason: Reason, at place: Place? = nil) {
        self.reason = reason
        self.place = place
    }

    /// The configuration key that the problem is about, in snake_case.
    public var key: String? {
        switch reason {
        case .invalidValue(let key, _, _), .missing(let key, _, _), .conflict(let key, _),
            .rule(let key, _):
            key
        case .unknownKey(let key, _), .duplicateKey(let key, _): key
        case .missingValue(let flag, _): String(flag.drop { $0 == "-" }).snakeCased
        default: nil
        }
    }

    /// The code under which the problem is documented, where it has one.
    public var code: DiagnosisCode? {
        if case .rule(_, let diagnosis) = reason { diagnosis.code } else { nil }
    }

    /// The problem in one line: where, what, expected, found, and the remedy if there is one.
    public var description: String {
        switch (reason, place) {
        // The code comes first, as in every message about what cannot learn.
        case (.rule(_, let rule), .file(let path, let line)): "\(rule) (\(path):\(line))"
        case (.rule(_, let rule), _): rule.description
        case (_, .file(let path, let line)): "\(path):\(line): \(message(subject: key ?? ""))"
        case (_, .flag(let flag)): message(subject: flag)
        case (_, nil): message(subject: key ?? "")
        }
    }

    private func message(subject: String) -> String {
        switch reason {
        case .unreadableFile(let path, let reason): "\(path): cannot be read: \(reason)"
        case .syntax(let message): message
        case .unknownKey(let key, let nearest):
            "unknown key '\(key)'" + (nearest.map { "; did you mean '\($0)'?" } ?? "")
        case .unknownFlag(let flag, let nearest):
            "unknown option '\(flag)'" + (nearest.map { "; did you mean '\($0)'?" } ?? "")
        case .unexpectedArgument(let argument): "unexpected argument '\(argument)'"
        case .duplicateKey(let key, let firstLine):
            "\(key) is given twice; the first is on line \(firstLine)"
        case .repeatedFlag(let flag): "\(flag) is given twice"
        case .missingValue(let flag, let expected):
            "\(flag) needs a value: expected \(expected)"
                + " (a value that begins with '--' is written \(flag)=VALUE)"
        case .invalidValue(_, let expected, let found):
            "\(subject): expected \(expected), found \(found)"
        case .missing(let key, let meaning, let remedy):
            "\(key) is required (\(meaning)): \(remedy)"
        case .conflict(_, let explanation): "\(subject): \(explanation)"
        case .rule(_, let diagnosis): diagnosis.description
        }
    }
}

extension [ConfigProblem] {
    /// These problems of reading, then those of values that could be read, each with its place.
    func joined(
        by valueProblems: [ConfigProblem], at places: [String: ConfigProblem.Place]
    ) -> [ConfigProblem] {
        let unread = Set(compactMap(\.key))
        return self
            + valueProblems.compactMap { problem in
                guard let key = problem.key, !unread.contains(key) else { return nil }
                return ConfigProblem(problem.reason, at: places[key])
            }
    }
}

extension String {
    /// The flag spelling of a snake_case key.
    package var kebabCased: String { String(map { $0 == "_" ? "-" : $0 }) }

    /// The key spelling of a kebab-case flag.
    package var snakeCased: String { String(map { $0 == "-" ? "_" : $0 }) }
}
