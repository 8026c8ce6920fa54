/// Environment variables that do not describe one process of a run, all problems together.
package struct LaunchError: Error, Equatable, Sendable, CustomStringConvertible {
    /// One variable that is missing, malformed or contradicts another.
    package struct Problem: Equatable, Sendable {
        /// The variable's name.
        package let variable: String
        /// What it should hold.
        package let expected: String
        /// What it holds; nil if it is not set.
        package let found: String?
        /// What to do.
        package let remedy: String
    }

    /// The launcher that the variables point to.
    package let launcher: Launcher
    /// At least one.
    package let problems: [Problem]

    /// One sentence a problem: variable, expected, found, remedy.
    package var description: String {
        let texts = problems.map {
            "\($0.variable): expected \($0.expected), found \($0.found.map { "'\($0)'" } ?? "nothing"); \($0.remedy)"
        }
        return "launched by \(launcher.rawValue): " + texts.joined(separator: "\n")
    }
}
