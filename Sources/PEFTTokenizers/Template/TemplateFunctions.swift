/// A filter: what it does with its left side and its arguments.
struct TemplateFilter: Sendable {
    /// What a filter does with its value and arguments.
    typealias Body =
        @Sendable (TemplateValue, TemplateBoundArguments, TemplateInterpreter)
        throws(TemplateError) -> TemplateValue
    /// What a filter with free arguments does.
    typealias FreeBody =
        @Sendable (TemplateValue, TemplateArguments, TemplateInterpreter)
        throws(TemplateError) -> TemplateValue

    private let parameters: [String]?
    private let body: Body
    private let freeBody: FreeBody

    /// Makes a filter with the given parameters behind its value; `?` marks optional ones.
    init(_ parameters: [String], _ body: @escaping Body) {
        self.parameters = parameters
        self.body = body
        freeBody = { value, _, _ in value }
    }

    /// Makes a filter without parameters.
    init(_ body: @escaping Body) { self.init([], body) }

    /// Makes a filter that takes any arguments.
    init(free body: @escaping FreeBody) {
        parameters = nil
        self.body = { value, _, _ in value }
        freeBody = body
    }

    /// Runs the filter under its name, which messages show.
    func callAsFunction(
        _ name: String, _ value: TemplateValue, _ arguments: TemplateArguments,
        _ interpreter: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        guard let parameters else { return try freeBody(value, arguments, interpreter) }
        return try body(value, try arguments.bind(to: parameters, of: name), interpreter)
    }
}

/// A test: its parameters, and when it holds.
struct TemplateTest: Sendable {
    /// When a test holds for its value and arguments.
    typealias Body =
        @Sendable (TemplateValue, TemplateBoundArguments) throws(TemplateError) -> Bool

    /// The names of the parameters behind the value; `?` marks optional ones.
    let parameters: [String]
    /// When the test holds.
    let holds: Body

    /// Makes a test with the given parameters.
    init(_ parameters: [String] = [], _ holds: @escaping Body) {
        self.parameters = parameters
        self.holds = holds
    }

    /// Runs the test `name`.
    func callAsFunction(
        _ name: String, _ value: TemplateValue, _ arguments: TemplateArguments
    ) throws(TemplateError) -> Bool {
        try holds(value, try arguments.bind(to: parameters, of: name))
    }
}

/// A method of a built-in type: its parameters, and what it does with its object.
struct TemplateMethod: Sendable {
    /// What a method does with its object and arguments.
    typealias Body =
        @Sendable (TemplateValue, TemplateBoundArguments) throws(TemplateError) -> TemplateValue
    /// What a method with free arguments does.
    typealias FreeBody =
        @Sendable (TemplateValue, TemplateArguments) throws(TemplateError) -> TemplateValue

    /// What the method does.
    let call: FreeBody

    /// Makes a method with the given parameters; `?` marks optional ones.
    init(_ name: String, _ parameters: [String] = [], _ body: @escaping Body) {
        call = { (value, arguments) throws(TemplateError) in
            try body(value, try arguments.bind(to: parameters, of: name))
        }
    }

    /// Makes a method that takes any arguments.
    init(free body: @escaping FreeBody) { call = body }
}

/// A global function.
final class TemplateFunction: TemplateObject {
    /// What a function does with its arguments.
    typealias Body = (TemplateArguments, TemplateInterpreter) throws(TemplateError) -> TemplateValue

    private let body: Body

    /// Makes a function.
    init(_ body: @escaping Body) { self.body = body }

    /// The name of the type in messages.
    var typeName: String { "function" }
    /// Python shows an address.
    var representation: String? { nil }
    /// Functions can be called.
    var isCallable: Bool { true }

    /// Calls the function.
    func call(
        _ arguments: TemplateArguments, _ interpreter: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        try body(arguments, interpreter)
    }
}
