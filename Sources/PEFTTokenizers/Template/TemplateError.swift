/// A chat template that cannot be parsed or rendered.
public struct TemplateError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of rule is broken.
    public enum Kind: String, Hashable, Sendable {
        /// The text is not a template: Jinja2's `TemplateSyntaxError`.
        case syntax
        /// Something undefined is used: Jinja2's `UndefinedError`.
        case undefined
        /// An operation does not exist for the operands: Python's `TypeError`.
        case type
        /// An operand has a value that is not allowed: Python's `ValueError` and its like.
        case value
        /// The sandbox forbids it: Jinja2's `SecurityError`.
        case forbidden
        /// Jinja2 can do it and this interpreter cannot.
        case unsupported
        /// The template called `raise_exception`.
        case raised
    }

    /// What kind of rule is broken.
    public let kind: Kind
    /// The line of the template, from 1; nil where the template is not at fault.
    public private(set) var line: Int?
    /// What is wrong: for `raised`, the template's own message.
    public let message: String

    /// Makes an error without a place; the interpreter adds it.
    init(_ kind: Kind, _ message: String, line: Int? = nil) {
        self.kind = kind
        self.message = message
        self.line = line
    }

    /// Place and message in one line.
    public var description: String {
        "chat template" + (line.map { ", line \($0)" } ?? "") + ": " + message
    }

    /// The same error at `line`, unless it has a place already.
    func located(at line: Int) -> TemplateError {
        var error = self
        if error.line == nil { error.line = line }
        return error
    }
}
