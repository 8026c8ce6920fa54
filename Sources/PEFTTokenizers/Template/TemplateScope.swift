/// The variables of a block; what is not found here is looked up in the enclosing block.
final class TemplateScope {
    private var variables: [String: TemplateValue]
    private let parent: TemplateScope?

    /// Makes an empty scope inside `parent`.
    init(parent: TemplateScope) {
        variables = [:]
        self.parent = parent
    }

    /// Makes the outermost scope.
    init(_ variables: [String: TemplateValue]) {
        self.variables = variables
        parent = nil
    }

    /// Sets a variable of this scope.
    func set(_ name: String, _ value: TemplateValue) { variables[name] = value }

    /// The variable of this very scope.
    func own(_ name: String) -> TemplateValue? { variables[name] }

    /// The variable of this scope or the next one outside.
    func value(of name: String) -> TemplateValue {
        var scope: TemplateScope? = self
        while let current = scope {
            if let value = current.variables[name] { return value }
            scope = current.parent
        }
        return .undefined("'\(name)' is undefined")
    }
}
