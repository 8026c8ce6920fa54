/// The evaluated arguments of a call.
struct TemplateArguments {
    /// The arguments by position.
    var positional: [TemplateValue] = []
    /// The arguments by name, in order.
    var named: [(name: String, value: TemplateValue)] = []

    /// Assigns the arguments to parameters as Python does.
    ///
    /// - Parameters:
    ///   - parameters: their names in order; a `?` behind a name makes it optional, a `/` before
    ///     it lets the argument come by position only.
    ///   - function: the name of the function, for messages.
    /// - Returns: one value for each parameter.
    /// - Throws: `TemplateError` for surplus, unknown, doubled or missing arguments.
    func bind(
        to parameters: [String], of function: String
    ) throws(TemplateError) -> TemplateBoundArguments {
        guard positional.count <= parameters.count else {
            throw TemplateError(
                .type,
                "\(function)() takes \(parameters.count) arguments, found \(positional.count)")
        }
        var values: [TemplateValue?] = positional
        values += Array(repeating: nil, count: parameters.count - positional.count)
        for (name, value) in named {
            guard let index = parameters.firstIndex(where: { $0 == name || $0 == name + "?" })
            else {
                throw TemplateError(
                    .type, "\(function)() got an unexpected keyword argument '\(name)'")
            }
            guard values[index] == nil else {
                throw TemplateError(
                    .type, "\(function)() got multiple values for argument '\(name)'")
            }
            values[index] = value
        }
        for (parameter, value) in zip(parameters, values)
        where value == nil && !parameter.hasSuffix("?") {
            throw TemplateError(
                .type, "\(function)() lacks the argument '\(parameter.filter { $0 != "/" })'")
        }
        return TemplateBoundArguments(function: function, parameters: parameters, values: values)
    }
}

/// Arguments that are assigned to the parameters of a built-in function.
struct TemplateBoundArguments {
    /// The function's name.
    let function: String
    /// The names of the parameters.
    let parameters: [String]
    /// The values in the order of the parameters; nil where none was given.
    let values: [TemplateValue?]

    /// The value of the parameter at `index`, nil if none was given.
    subscript(index: Int) -> TemplateValue? { values[index] }

    /// The value at `index`, nil if none or `None` was given.
    func optional(_ index: Int) -> TemplateValue? {
        values[index].flatMap { $0.isNone ? nil : $0 }
    }

    /// The truth value at `index`.
    func flag(_ index: Int) -> Bool { values[index]?.isTrue ?? false }

    /// The integer at `index`; the default if none was given.
    func int(_ index: Int, default defaultValue: Int? = nil) throws(TemplateError) -> Int {
        guard let value = values[index] else {
            if let defaultValue { return defaultValue }
            throw mismatch(index, "an integer")
        }
        guard let result = value.integer else { throw mismatch(index, "an integer") }
        return result
    }

    /// The number of characters or elements at `index`: less than none is none.
    ///
    /// - Throws: `TemplateError` of kind `value` above 2²⁰, the bound of widths in formats too.
    func length(_ index: Int, default defaultValue: Int? = nil) throws(TemplateError) -> Int {
        let length = try int(index, default: defaultValue)
        guard length <= 1 << 20 else {
            throw TemplateError(.value, "\(function)(): \(length) characters need too much memory")
        }
        return max(0, length)
    }

    /// The string at `index`.
    func text(_ index: Int) throws(TemplateError) -> String {
        guard let text = values[index]?.text else { throw mismatch(index, "a string") }
        return text
    }

    private func mismatch(_ index: Int, _ expected: String) -> TemplateError {
        if case .undefined(let undefined) = values[index] { return undefined.error }
        let found = values[index]?.typeName ?? "nothing"
        let name = parameters[index].filter { $0 != "?" && $0 != "/" }
        return TemplateError(
            .type, "\(function)(): expected \(expected) for '\(name)', found \(found)")
    }
}
