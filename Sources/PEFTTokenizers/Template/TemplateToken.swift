/// A piece of a template: text between tags, or a token inside one.
struct TemplateToken: Equatable, Sendable {
    /// What the piece is.
    enum Kind: Equatable, Sendable {
        /// Text outside of tags, white space control already applied.
        case data(String)
        /// `{{`.
        case variableBegin
        /// `}}`.
        case variableEnd
        /// `{%`.
        case blockBegin
        /// `%}`.
        case blockEnd
        /// An identifier or keyword.
        case name(String)
        /// A string literal, escapes resolved.
        case string(String)
        /// An integer literal.
        case integer(Int)
        /// A floating-point literal.
        case float(Double)
        /// An operator or a bracket.
        case symbol(String)
        /// The end of the template.
        case end
    }

    /// What the piece is.
    let kind: Kind
    /// The line on which it starts, from 1.
    let line: Int

    /// The token in words, for messages.
    var description: String {
        switch kind {
        case .data: "text"
        case .variableBegin: "'{{'"
        case .variableEnd: "'}}'"
        case .blockBegin: "'{%'"
        case .blockEnd: "'%}'"
        case .name(let name): "'\(name)'"
        case .string: "a string"
        case .integer(let value): "'\(value)'"
        case .float(let value): "'\(value)'"
        case .symbol(let symbol): "'\(symbol)'"
        case .end: "the end of the template"
        }
    }
}
