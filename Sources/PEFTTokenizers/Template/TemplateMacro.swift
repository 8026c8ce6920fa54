/// A macro or the body of a call block, with the scope in which it is defined.
///
/// - Source: jinja2 3.1.6 `runtime.py:Macro.__call__`.
final class TemplateMacro: TemplateObject {
    private let definition: TemplateMacroDefinition
    private let scope: TemplateScope

    /// Makes a macro that sees the variables of `scope`.
    init(_ definition: TemplateMacroDefinition, in scope: TemplateScope) {
        self.definition = definition
        self.scope = scope
    }

    /// The name of the type in messages.
    var typeName: String { "Macro" }
    /// Macros can be called.
    var isCallable: Bool { true }

    /// The macro's name.
    var representation: String? {
        "<Macro " + (definition.name?.pythonRepresentation ?? "anonymous") + ">"
    }

    /// `name`, `arguments`, `caller`, `catch_kwargs` and `catch_varargs`.
    func attribute(_ name: String) -> TemplateValue? {
        switch name {
        case "name": definition.name.map { .string($0) } ?? TemplateValue.null
        case "arguments": .tuple(definition.parameters.map { .string($0.name) })
        case "caller": .bool(definition.specialNames.contains("caller"))
        case "catch_kwargs": .bool(definition.specialNames.contains("kwargs"))
        case "catch_varargs": .bool(definition.specialNames.contains("varargs"))
        default: nil
        }
    }

    /// The text of the body for the given arguments.
    func call(
        _ arguments: TemplateArguments, _ interpreter: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        let inner = TemplateScope(parent: scope)
        try assign(arguments, to: inner)
        for parameter in definition.parameters where inner.own(parameter.name) == nil {
            inner.set(
                parameter.name, .undefined("parameter '\(parameter.name)' was not provided"))
        }
        for parameter in definition.parameters {
            guard let defaultValue = parameter.defaultValue,
                inner.own(parameter.name)?.isUndefined == true,
                !given(parameter.name, arguments)
            else { continue }
            inner.set(parameter.name, try interpreter.evaluate(defaultValue, inner))
        }
        return .string(try interpreter.callBody(definition.body, inner))
    }

    private func given(_ name: String, _ arguments: TemplateArguments) -> Bool {
        let names = definition.parameters.prefix(arguments.positional.count).map(\.name)
        return names.contains(name) || arguments.named.contains { $0.name == name }
    }

    private func assign(
        _ arguments: TemplateArguments, to inner: TemplateScope
    ) throws(TemplateError) {
        let label = definition.name.map { "'\($0)'" } ?? "of a call block"
        let parameters = definition.parameters.map(\.name)
        for (name, value) in zip(parameters, arguments.positional) { inner.set(name, value) }
        var surplus = TemplateDictionary()
        var caller: TemplateValue?
        let open = parameters.dropFirst(arguments.positional.count)
        for (name, value) in arguments.named {
            if open.contains(name) {
                inner.set(name, value)
            } else if name == "caller", definition.specialNames.contains("caller") {
                caller = value
            } else {
                surplus.set(name, value)
            }
        }
        if definition.specialNames.contains("caller") {
            inner.set("caller", caller ?? .undefined("No caller defined"))
        }
        if definition.specialNames.contains("kwargs") {
            inner.set("kwargs", .dictionary(surplus))
        } else if let name = surplus.keys.first?.text {
            throw TemplateError(.type, "macro \(label) takes no keyword argument '\(name)'")
        }
        let extra = Array(arguments.positional.dropFirst(parameters.count))
        if definition.specialNames.contains("varargs") {
            inner.set("varargs", .tuple(extra))
        } else if !extra.isEmpty {
            throw TemplateError(
                .type, "macro \(label) takes not more than \(parameters.count) argument(s)")
        }
    }
}
