/// Cuts a template into tokens as Jinja2 does with `trim_blocks` and `lstrip_blocks`.
///
/// - Source: jinja2 3.1.6 `lexer.py:Lexer.tokeniter`.
struct TemplateLexer {
    private let scalars: [Unicode.Scalar]
    private var position = 0
    private var line = 1
    private var isLineStarting = true
    private var tokens: [TemplateToken] = []

    /// The tokens of `source`, an end token last.
    static func tokens(of source: String) throws(TemplateError) -> [TemplateToken] {
        var lexer = TemplateLexer(source)
        try lexer.run()
        return lexer.tokens
    }

    /// Line ends become `\n`; one at the end of the template is dropped.
    private init(_ source: String) {
        var scalars: [Unicode.Scalar] = []
        scalars.reserveCapacity(source.utf8.count)
        var isAfterReturn = false
        for scalar in source.unicodeScalars {
            if scalar != "\n" || !isAfterReturn { scalars.append(scalar == "\r" ? "\n" : scalar) }
            isAfterReturn = scalar == "\r"
        }
        if scalars.last == "\n" { scalars.removeLast() }
        self.scalars = scalars
    }

    private mutating func run() throws(TemplateError) {
        while position < scalars.count {
            let start = position
            guard let opening = nextOpening() else {
                emitText(start..<scalars.count)
                position = scalars.count
                break
            }
            position = opening
            if let rawBegin = matchRaw("raw") {
                strip(start..<opening, sign: rawBegin.sign, isVariable: false)
                advance(to: rawBegin.end, trimsNewline: false, trimsSpace: rawBegin.trimsSpace)
                try lexRaw()
                continue
            }
            let kind = scalars[opening + 1]
            let sign = peek(2) == "-" || peek(2) == "+" ? peek(2) : nil
            strip(start..<opening, sign: sign, isVariable: kind == "{")
            position = opening + (sign == nil ? 2 : 3)
            switch kind {
            case "#":
                try skipComment()
            case "{":
                append(.variableBegin)
                try lexTag(close: "}}")
            default:
                append(.blockBegin)
                try lexTag(close: "%}")
            }
        }
        append(.end)
    }

    private func peek(_ offset: Int) -> Unicode.Scalar? {
        position + offset < scalars.count ? scalars[position + offset] : nil
    }

    private mutating func append(_ kind: TemplateToken.Kind) {
        tokens.append(TemplateToken(kind: kind, line: line))
    }

    private func nextOpening() -> Int? {
        var index = position
        while index + 1 < scalars.count {
            if scalars[index] == "{" {
                let next = scalars[index + 1]
                if next == "%" || next == "{" || next == "#" { return index }
            }
            index += 1
        }
        return nil
    }

    private func has(_ text: String, at index: Int) -> Bool {
        var index = index
        for scalar in text.unicodeScalars {
            guard index < scalars.count, scalars[index] == scalar else { return false }
            index += 1
        }
        return true
    }

    private func skipSpace(from index: Int) -> Int {
        var index = index
        while index < scalars.count, scalars[index].isPythonSpace { index += 1 }
        return index
    }

    private func failure(_ message: String) -> TemplateError {
        TemplateError(.syntax, message, line: line)
    }
}

// MARK: Text and white space

extension TemplateLexer {
    private mutating func emitText(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        append(.data(String(scalars[range])))
        line += scalars[range].count { $0 == "\n" }
    }

    /// Emits the text before a tag, less the white space that the tag removes.
    private mutating func strip(_ range: Range<Int>, sign: Unicode.Scalar?, isVariable: Bool) {
        let text = scalars[range]
        var end = range.upperBound
        if sign == "-" {
            while end > range.lowerBound, scalars[end - 1].isPythonSpace { end -= 1 }
        } else if sign == nil, !isVariable {
            let lineStart = text.lastIndex(of: "\n").map { $0 + 1 } ?? range.lowerBound
            if lineStart > range.lowerBound || isLineStarting,
                scalars[lineStart..<end].allSatisfy(\.isPythonSpace)
            {
                end = lineStart
            }
        }
        emitText(range.lowerBound..<end)
        line += scalars[end..<range.upperBound].count { $0 == "\n" }
    }

    /// Moves behind a tag's end and the white space that it removes.
    private mutating func advance(to end: Int, trimsNewline: Bool, trimsSpace: Bool) {
        let start = position
        var end = end
        if trimsSpace {
            end = skipSpace(from: end)
        } else if trimsNewline, end < scalars.count, scalars[end] == "\n" {
            end += 1
        }
        line += scalars[start..<end].count { $0 == "\n" }
        isLineStarting = end > 0 && scalars[end - 1] == "\n"
        position = end
    }

    /// A raw or endraw tag at the current position.
    private func matchRaw(
        _ name: String
    ) -> (sign: Unicode.Scalar?, end: Int, trimsSpace: Bool, trimsNewline: Bool)? {
        guard has("{%", at: position) else { return nil }
        let mark = peek(2)
        let sign = mark == "-" || mark == "+" ? mark : nil
        var index = skipSpace(from: position + (sign == nil ? 2 : 3))
        guard has(name, at: index) else { return nil }
        index = skipSpace(from: index + name.unicodeScalars.count)
        if has("-%}", at: index) { return (sign, index + 3, true, false) }
        if name == "endraw", has("+%}", at: index) { return (sign, index + 3, false, false) }
        return has("%}", at: index) ? (sign, index + 2, false, true) : nil
    }

    private mutating func lexRaw() throws(TemplateError) {
        let start = position
        let openingLine = line
        while position < scalars.count {
            if let rawEnd = matchRaw("endraw") {
                strip(start..<position, sign: rawEnd.sign, isVariable: false)
                advance(
                    to: rawEnd.end, trimsNewline: rawEnd.trimsNewline,
                    trimsSpace: rawEnd.trimsSpace)
                return
            }
            position += 1
        }
        line = openingLine
        throw failure("expected '{% endraw %}', found the end of the template")
    }

    private mutating func skipComment() throws(TemplateError) {
        let start = position
        while position < scalars.count {
            if has("#}", at: position) {
                let mark = position > start ? scalars[position - 1] : nil
                let end = position + 2
                position = start
                advance(to: end, trimsNewline: mark != "+", trimsSpace: mark == "-")
                return
            }
            position += 1
        }
        throw failure("expected '#}' at the end of the comment, found the end of the template")
    }
}

// MARK: Tags

extension TemplateLexer {
    private static let symbols = [
        "**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "[", "]", "(", ")", "{",
        "}", ">", "<", "=", ".", ":", "|", ",", ";",
    ]
    private static let closing: [String: String] = ["(": ")", "[": "]", "{": "}"]

    private mutating func lexTag(close: String) throws(TemplateError) {
        var open: [String] = []
        while position < scalars.count {
            if open.isEmpty, closeTag(close) { return }
            let scalar = scalars[position]
            if scalar.isPythonSpace {
                if scalar == "\n" { line += 1 }
                position += 1
            } else if scalar.isPythonDigit {
                try lexNumber()
            } else if scalar.isIdentifierPart {
                lexName()
            } else if scalar == "'" || scalar == "\"" {
                try lexString(quote: scalar)
            } else {
                try lexSymbol(&open)
            }
        }
        throw failure("expected '\(open.last ?? close)', found the end of the template")
    }

    private mutating func closeTag(_ close: String) -> Bool {
        let mark = peek(0) == "-" || (peek(0) == "+" && close == "%}") ? peek(0) : nil
        let start = position + (mark == nil ? 0 : 1)
        guard has(close, at: start) else { return false }
        append(close == "%}" ? .blockEnd : .variableEnd)
        advance(
            to: start + 2, trimsNewline: close == "%}" && mark == nil, trimsSpace: mark == "-")
        return true
    }

    private mutating func lexName() {
        let start = position
        while let scalar = peek(0), scalar.isIdentifierPart { position += 1 }
        append(.name(String(scalars[start..<position])))
    }

    private mutating func lexSymbol(_ open: inout [String]) throws(TemplateError) {
        guard let symbol = Self.symbols.first(where: { has($0, at: position) }) else {
            throw failure("unexpected character '\(scalars[position])'")
        }
        if let close = Self.closing[symbol] {
            open.append(close)
        } else if symbol == ")" || symbol == "]" || symbol == "}" {
            guard let expected = open.popLast() else { throw failure("unexpected '\(symbol)'") }
            guard expected == symbol else {
                throw failure("expected '\(expected)', found '\(symbol)'")
            }
        }
        append(.symbol(symbol))
        position += symbol.unicodeScalars.count
    }

    private mutating func lexNumber() throws(TemplateError) {
        let radixes: [Unicode.Scalar: Int] = ["b": 2, "o": 8, "x": 16]
        if peek(0) == "0", let mark = peek(1), let radix = radixes[mark.lowercasedASCII] {
            let digits = takeDigits(from: position + 2, radix: radix, allowsLeadingUnderscore: true)
            if let value = Int(digits.text, radix: radix) {
                append(.integer(value))
                position = digits.end
                return
            }
        }
        let whole = takeDigits(from: position)
        var text = whole.text
        var end = whole.end
        let isAfterPoint = position > 0 && scalars[position - 1] == "."
        if !isAfterPoint {
            if end < scalars.count, scalars[end] == "." {
                let fraction = takeDigits(from: end + 1)
                if !fraction.text.isEmpty {
                    (text, end) = (text + "." + fraction.text, fraction.end)
                }
            }
            if end < scalars.count, scalars[end].lowercasedASCII == "e" {
                let mark = end + 1 < scalars.count ? scalars[end + 1] : " "
                let isSigned = mark == "+" || mark == "-"
                let exponent = takeDigits(from: end + (isSigned ? 2 : 1))
                if !exponent.text.isEmpty {
                    text += "e" + (isSigned ? String(mark) : "") + exponent.text
                    end = exponent.end
                }
            }
        }
        position = end
        if let value = Int(text) {
            guard text == "0" || !text.hasPrefix("0") || text.allSatisfy({ $0 == "0" }) else {
                throw failure("unexpected leading zero in '\(text)'")
            }
            append(.integer(value))
        } else if text.contains(where: { $0 == "." || $0 == "e" }), let value = Double(text) {
            append(.float(value))
        } else {
            throw TemplateError(
                .unsupported, "the integer \(text) does not fit into 64 bits", line: line)
        }
    }

    private func takeDigits(
        from start: Int, radix: Int = 10, allowsLeadingUnderscore: Bool = false
    ) -> (text: String, end: Int) {
        var text = ""
        var index = start
        while index < scalars.count {
            let isSeparator = scalars[index] == "_" && (!text.isEmpty || allowsLeadingUnderscore)
            let digit = isSeparator ? index + 1 : index
            guard digit < scalars.count, scalars[digit].isASCII,
                Character(scalars[digit]).hexDigitValue.map({ $0 < radix }) == true
            else { break }
            text.unicodeScalars.append(scalars[digit])
            index = digit + 1
        }
        return (text, index)
    }

    private mutating func lexString(quote: Unicode.Scalar) throws(TemplateError) {
        var end = position + 1
        while end < scalars.count, scalars[end] != quote { end += scalars[end] == "\\" ? 2 : 1 }
        guard end < scalars.count else {
            throw failure(
                "expected \(quote) at the end of the string, found the end of the template")
        }
        let body = scalars[(position + 1)..<end]
        let text: String
        if body.contains("\\") {
            do {
                text = try TemplateEscapes.resolve(body)
            } catch {
                throw error.located(at: line)
            }
        } else {
            text = String(body)
        }
        append(.string(text))
        line += body.count { $0 == "\n" }
        position = end + 1
    }
}
