/// An expression and the line on which it stands.
struct TemplateExpression: Sendable {
    /// What the expression is.
    let kind: Kind
    /// The line, from 1.
    let line: Int

    /// The forms of expressions.
    indirect enum Kind: Sendable {
        /// A constant.
        case literal(TemplateLiteral)
        /// A variable.
        case name(String)
        /// A list display.
        case list([TemplateExpression])
        /// A tuple display.
        case tuple([TemplateExpression])
        /// A dictionary display.
        case dictionary([TemplatePair])
        /// `value.name`.
        case attribute(TemplateExpression, String)
        /// `value[index]`.
        case item(TemplateExpression, TemplateExpression)
        /// `value[start:stop:step]`.
        case slice(TemplateExpression, TemplateSlice)
        /// `callee(arguments)`.
        case call(TemplateExpression, TemplateCallArguments)
        /// `value|name(arguments)`.
        case filter(TemplateExpression, String, TemplateCallArguments)
        /// `value is name(arguments)`.
        case test(TemplateExpression, String, TemplateCallArguments)
        /// `-value` or `+value`.
        case sign(TemplateExpression, isNegative: Bool)
        /// `left op right` with an arithmetic operator.
        case arithmetic(TemplateOperator, TemplateExpression, TemplateExpression)
        /// `first op next op next`, a chain of comparisons.
        case comparison(TemplateExpression, [TemplateComparison])
        /// `left and right`.
        case and(TemplateExpression, TemplateExpression)
        /// `left or right`.
        case or(TemplateExpression, TemplateExpression)
        /// `not value`.
        case not(TemplateExpression)
        /// `a ~ b ~ c`.
        case concatenation([TemplateExpression])
        /// `value if test else alternative`.
        case conditional(
            test: TemplateExpression, value: TemplateExpression, alternative: TemplateExpression?)
        /// The text of the block that a filter is applied to.
        case capturedText
    }
}

/// A constant in a template.
enum TemplateLiteral: Sendable {
    /// `none`.
    case null
    /// `true` or `false`.
    case bool(Bool)
    /// An integer.
    case int(Int)
    /// A floating-point number.
    case double(Double)
    /// A string.
    case string(String)
}

/// A key and its value in a dictionary display.
struct TemplatePair: Sendable {
    /// The key.
    let key: TemplateExpression
    /// The value.
    let value: TemplateExpression
}

/// The bounds of a slice.
struct TemplateSlice: Sendable {
    /// The first index.
    let start: TemplateExpression?
    /// The index behind the last.
    let stop: TemplateExpression?
    /// The distance between two indices.
    let step: TemplateExpression?
}

/// The arguments of a call, filter or test.
struct TemplateCallArguments: Sendable {
    /// The arguments by position.
    var positional: [TemplateExpression] = []
    /// The arguments by name.
    var named: [(name: String, value: TemplateExpression)] = []
    /// The expression behind `*`.
    var unpackedPositional: TemplateExpression?
    /// The expression behind `**`.
    var unpackedNamed: TemplateExpression?
}

/// An arithmetic operator.
enum TemplateOperator: String, Sendable {
    /// Addition and joining of sequences.
    case add = "+"
    /// Subtraction.
    case subtract = "-"
    /// Multiplication and repetition of sequences.
    case multiply = "*"
    /// Division with a floating-point result.
    case divide = "/"
    /// Division rounded down.
    case floorDivide = "//"
    /// Remainder with the divisor's sign, and formatting of strings.
    case remainder = "%"
    /// Power.
    case power = "**"
}

/// A comparison operator and its right side.
struct TemplateComparison: Sendable {
    /// The operators.
    enum Operator: String, Sendable {
        /// Equality.
        case equal = "=="
        /// Inequality.
        case notEqual = "!="
        /// Strictly less.
        case less = "<"
        /// Less or equal.
        case lessOrEqual = "<="
        /// Strictly greater.
        case greater = ">"
        /// Greater or equal.
        case greaterOrEqual = ">="
        /// Membership.
        case isIn = "in"
        /// No membership.
        case isNotIn = "not in"
    }

    /// The operator.
    let comparison: Operator
    /// The right side.
    let right: TemplateExpression
}

/// A statement and the line on which it starts.
struct TemplateStatement: Sendable {
    /// What the statement is.
    let kind: Kind
    /// The line, from 1.
    let line: Int

    /// The forms of statements.
    indirect enum Kind: Sendable {
        /// Text that is copied.
        case text(String)
        /// `{{ value }}`.
        case output(TemplateExpression)
        /// `{% if %}`: the first branch whose test holds, else the alternative.
        case condition([TemplateBranch], alternative: [TemplateStatement])
        /// `{% for %}`.
        case loop(TemplateLoopStatement)
        /// `{% set target = value %}`.
        case assign(TemplateTarget, TemplateExpression)
        /// `{% set target | filter %}...{% endset %}`; `value` is evaluated on the captured text.
        case assignBlock(TemplateTarget, value: TemplateExpression, body: [TemplateStatement])
        /// `{% macro %}`.
        case macro(TemplateMacroDefinition)
        /// `{% call(arguments) callee(...) %}`.
        case callBlock(TemplateMacroDefinition, call: TemplateExpression)
        /// `{% filter name %}...{% endfilter %}`; `value` is evaluated on the captured text.
        case filterBlock(value: TemplateExpression, body: [TemplateStatement])
        /// `{% with a = 1 %}`.
        case with([TemplateBinding], body: [TemplateStatement])
        /// `{% generation %}`: what the assistant wrote.
        case generation(body: [TemplateStatement])
        /// `{% break %}`.
        case exitLoop
        /// `{% continue %}`.
        case nextIteration
    }
}

/// A test and what is run where it holds.
struct TemplateBranch: Sendable {
    /// The test.
    let test: TemplateExpression
    /// The statements.
    let body: [TemplateStatement]
}

/// A `{% for %}` statement.
struct TemplateLoopStatement: Sendable {
    /// What each element is assigned to.
    let target: TemplateTarget
    /// What is iterated.
    let iterable: TemplateExpression
    /// Which elements are used.
    let filter: TemplateExpression?
    /// Whether `loop(...)` runs the statement again.
    let isRecursive: Bool
    /// What is run for each element.
    let body: [TemplateStatement]
    /// What is run if no iteration comes to its end.
    let alternative: [TemplateStatement]
}

/// What can be assigned to.
indirect enum TemplateTarget: Sendable {
    /// A variable.
    case name(String)
    /// An attribute of a namespace.
    case namespaceAttribute(String, String)
    /// Several targets, one for each element.
    case tuple([TemplateTarget])
}

/// A target and the expression that is assigned to it.
struct TemplateBinding: Sendable {
    /// The target.
    let target: TemplateTarget
    /// The expression.
    let value: TemplateExpression
}

/// A macro, or the body of a call block.
struct TemplateMacroDefinition: Sendable {
    /// The name; nil for the body of a call block.
    let name: String?
    /// The parameters in order.
    let parameters: [TemplateParameter]
    /// The statements.
    let body: [TemplateStatement]
    /// Which of `caller`, `varargs` and `kwargs` the body reads.
    let specialNames: Set<String>
}

/// A parameter of a macro.
struct TemplateParameter: Sendable {
    /// The name.
    let name: String
    /// What the parameter is if no argument is given.
    let defaultValue: TemplateExpression?
}
