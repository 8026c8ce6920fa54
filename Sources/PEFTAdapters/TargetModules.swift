/// Which linear layers get an adapter (or, as `exclude_modules`, get none).
public enum TargetModules: Hashable, Sendable {
    /// Layers whose path is one of the names, or ends with "." and one of the names.
    case names([String])
    /// Layers whose whole path matches the regular expression (see `ModulePattern` for the dialect).
    case regex(String)
    /// Every linear layer but the output head.
    case allLinear
}

extension TargetModules: ExpressibleByArrayLiteral {
    /// Layers by name.
    public init(arrayLiteral elements: String...) { self = .names(elements) }
}

extension TargetModules: ConfigRepresentable {
    package static var expectedValue: String { "text or a list, each entry text" }

    package init?(configValue: ConfigValue) {
        switch configValue {
        case .string(let text): self = text.lowercased() == "all-linear" ? .allLinear : .regex(text)
        case .array:
            guard let names = [String](configValue: configValue) else { return nil }
            self = .names(names)
        default: return nil
        }
    }

    /// The value as PEFT writes it, with names sorted: PEFT writes a Python set, in an order that varies.
    package var configValue: ConfigValue {
        switch self {
        case .names(let names):
            let unique = Set(names).sorted {
                $0.unicodeScalars.lexicographicallyPrecedes($1.unicodeScalars)
            }
            return unique.configValue
        case .regex(let pattern): return .string(pattern)
        case .allLinear: return .string("all-linear")
        }
    }
}

/// One value or a list of them; `adapter_config.json` keeps the difference.
public enum OneOrMore<Element: Hashable & Sendable>: Hashable, Sendable {
    /// A bare value.
    case one(Element)
    /// A list.
    case more([Element])

    /// The value or values as a list.
    public var values: [Element] {
        switch self {
        case .one(let value): [value]
        case .more(let values): values
        }
    }
}

extension OneOrMore: ExpressibleByArrayLiteral {
    /// A list.
    public init(arrayLiteral elements: Element...) { self = .more(elements) }
}

extension OneOrMore: ConfigRepresentable where Element: ConfigRepresentable {
    package static var expectedValue: String { "\(Element.expectedValue) or a list of such" }

    package init?(configValue: ConfigValue) {
        if let value = Element(configValue: configValue) {
            self = .one(value)
        } else {
            guard let values = [Element](configValue: configValue) else { return nil }
            self = .more(values)
        }
    }

    package var configValue: ConfigValue {
        switch self {
        case .one(let value): value.configValue
        case .more(let values): values.configValue
        }
    }
}
