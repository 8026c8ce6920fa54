/// The place in a JSON text that breaks the grammar.
public struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The line, from 1.
    public let line: Int
    /// The column in Unicode scalars, from 1.
    public let column: Int
    /// What the grammar allows there.
    public let expected: String
    /// What is there.
    public let found: String

    /// Place, expectation and finding in one line.
    public var description: String {
        "invalid JSON at line \(line), column \(column): expected \(expected), found \(found)"
    }
}
