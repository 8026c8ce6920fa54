import Foundation

extension TemplateValue {
    /// Applies an arithmetic operator as Python does.
    func apply(
        _ operation: TemplateOperator, _ other: TemplateValue
    ) throws(TemplateError) -> TemplateValue {
        if operation == .remainder, let format = text {
            let result = try PythonPercentFormat.apply(format, other, escapes: isMarkup)
            return isMarkup ? .markup(result) : .string(result)
        }
        if case .undefined(let undefined) = self { throw undefined.error }
        if case .undefined(let undefined) = other { throw undefined.error }
        if let left = integer, let right = other.integer {
            return try Self.apply(operation, left, right)
        }
        if let left = number, let right = other.number {
            return .double(try Self.apply(operation, left, right))
        }
        if operation == .add {
            try Self.checkLength((storedLength ?? 0) + (other.storedLength ?? 0))
            if let sum = try joined(with: other) { return sum }
        }
        if operation == .multiply {
            if let count = other.integer, let result = try repeated(count) { return result }
            if let count = integer, let result = try other.repeated(count) { return result }
        }
        if operation == .subtract, isView || other.isView {
            throw TemplateError(.unsupported, "sets are not supported: '-' of a \(typeName)")
        }
        throw TemplateError(
            .type,
            "unsupported operand types for \(operation.rawValue): '\(typeName)' and "
                + "'\(other.typeName)'")
    }

    private var isView: Bool { if case .view = self { true } else { false } }

    private var isMarkup: Bool { if case .markup = self { true } else { false } }

    /// No text of more bytes and no list of more elements is made of others, since loops soon make them
    /// as large as memory.
    static let maximumLength = 1 << 24

    /// Refuses what is too long.
    static func checkLength(_ count: Int) throws(TemplateError) {
        guard count <= maximumLength else {
            throw TemplateError(
                .value, "a text or list of \(count) bytes or elements needs too much memory")
        }
    }

    private func joined(with other: TemplateValue) throws(TemplateError) -> TemplateValue? {
        switch (self, other) {
        case (.string(let left), .string(let right)): .string(left + right)
        case (.markup, .string), (.string, .markup), (.markup, .markup):
            .markup(try escaped() + (try other.escaped()))
        case (.list(let left), .list(let right)): .list(left + right)
        case (.tuple(let left), .tuple(let right)): .tuple(left.items + right.items)
        default: nil
        }
    }

    /// The bytes of a text, the elements of a list or tuple; nil for anything else.
    private var storedLength: Int? {
        switch self {
        case .string(let text), .markup(let text): text.utf8.count
        case .list(let items): items.count
        case .tuple(let tuple): tuple.items.count
        default: nil
        }
    }

    /// The sequence `count` times; nil if this is no sequence.
    private func repeated(_ count: Int) throws(TemplateError) -> TemplateValue? {
        guard let size = storedLength else { return nil }
        let count = max(0, count)
        let total = size.multipliedReportingOverflow(by: count)
        guard !total.overflow, total.partialValue <= Self.maximumLength else {
            throw TemplateError(.value, "repeating a sequence \(count) times needs too much memory")
        }
        switch self {
        case .string(let text): return .string(String(repeating: text, count: count))
        case .markup(let text): return .markup(String(repeating: text, count: count))
        default:
            let items = storedItems ?? []
            let result = Array(repeatElement(items, count: count).joined())
            if case .list = self { return .list(result) }
            return .tuple(result)
        }
    }

    /// Python's unary `-` or `+`.
    func signed(isNegative: Bool) throws(TemplateError) -> TemplateValue {
        if case .undefined(let undefined) = self { throw undefined.error }
        if let value = integer {
            if !isNegative { return .int(value) }
            return try Self.apply(.subtract, 0, value)
        }
        guard case .double(let value) = self else {
            throw TemplateError(
                .type, "bad operand type for unary \(isNegative ? "-" : "+"): '\(typeName)'")
        }
        return .double(isNegative ? -value : value)
    }

    // MARK: Numbers

    private static func apply(
        _ operation: TemplateOperator, _ left: Int, _ right: Int
    ) throws(TemplateError) -> TemplateValue {
        let result: (partialValue: Int, overflow: Bool)
        switch operation {
        case .add: result = left.addingReportingOverflow(right)
        case .subtract: result = left.subtractingReportingOverflow(right)
        case .multiply: result = left.multipliedReportingOverflow(by: right)
        case .divide:
            return .double(try apply(.divide, Double(left), Double(right)))
        case .floorDivide, .remainder:
            guard right != 0 else { throw divisionByZero }
            let quotient = left.dividedReportingOverflow(by: right)
            let remainder = left.remainderReportingOverflow(dividingBy: right).partialValue
            let adjusts = remainder != 0 && (remainder < 0) != (right < 0)
            if operation == .remainder { return .int(adjusts ? remainder + right : remainder) }
            result = (quotient.partialValue - (adjusts ? 1 : 0), quotient.overflow)
        case .power:
            if right < 0 { return .double(try apply(.power, Double(left), Double(right))) }
            result = power(left, right)
        }
        guard !result.overflow else {
            throw TemplateError(
                .unsupported,
                "the result of \(left) \(operation.rawValue) \(right) does not fit into 64 bits")
        }
        return .int(result.partialValue)
    }

    private static func power(_ base: Int, _ exponent: Int) -> (Int, Bool) {
        var (result, base, exponent) = (1, base, exponent)
        while exponent > 0 {
            if exponent & 1 == 1 {
                let product = result.multipliedReportingOverflow(by: base)
                if product.overflow { return (0, true) }
                result = product.partialValue
            }
            exponent >>= 1
            if exponent > 0 {
                let square = base.multipliedReportingOverflow(by: base)
                if square.overflow { return (0, true) }
                base = square.partialValue
            }
        }
        return (result, false)
    }

    private static var divisionByZero: TemplateError { TemplateError(.value, "division by zero") }

    private static func apply(
        _ operation: TemplateOperator, _ left: Double, _ right: Double
    ) throws(TemplateError) -> Double {
        switch operation {
        case .add: return left + right
        case .subtract: return left - right
        case .multiply: return left * right
        case .divide:
            guard right != 0 else { throw divisionByZero }
            return left / right
        case .floorDivide:
            guard right != 0 else { throw divisionByZero }
            let remainder = try apply(.remainder, left, right)
            let quotient = (left - remainder) / right
            let floor = quotient.rounded(.down)
            return quotient - floor > 0.5 ? floor + 1 : floor
        case .remainder:
            guard right != 0 else { throw divisionByZero }
            let remainder = fmod(left, right)
            if remainder == 0 { return right < 0 ? -0.0 : 0.0 }
            return (remainder < 0) != (right < 0) ? remainder + right : remainder
        case .power:
            if left == 0, right < 0 {
                throw TemplateError(.value, "0.0 cannot be raised to a negative power")
            }
            let result = pow(left, right)
            if result.isNaN, !left.isNaN, !right.isNaN {
                throw TemplateError(.unsupported, "complex numbers are not supported")
            }
            if result.isInfinite, left.isFinite, right.isFinite {
                throw TemplateError(.value, "the result of a power is too large")
            }
            return result
        }
    }
}
