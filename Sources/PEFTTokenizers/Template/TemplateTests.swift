/// The tests that `is` knows; a new test is a line in the table.
///
/// - Source: jinja2 3.1.6 `tests.py`.
enum TemplateTests {
    /// The tests by name.
    static let table: [String: TemplateTest] = [
        "boolean": TemplateTest { value, _ in if case .bool = value { true } else { false } },
        "callable": TemplateTest { value, _ in value.isCallable },
        "defined": TemplateTest { value, _ in !value.isUndefined },
        "divisibleby": TemplateTest(["num"]) { (value, arguments) throws(TemplateError) in
            try remainder(value, arguments[0] ?? .null).isEqual(to: .int(0))
        },
        "escaped": TemplateTest { value, _ in if case .markup = value { true } else { false } },
        "even": TemplateTest { (value, _) throws(TemplateError) in
            try remainder(value, .int(2)).isEqual(to: .int(0))
        },
        "false": TemplateTest { value, _ in if case .bool(false) = value { true } else { false } },
        "filter": TemplateTest { (value, _) throws(TemplateError) in
            _ = try TemplateKey(value)
            return value.text.map { TemplateFilters.table[$0] != nil } ?? false
        },
        "float": TemplateTest { value, _ in if case .double = value { true } else { false } },
        "in": TemplateTest(["seq"]) { (value, arguments) throws(TemplateError) in
            try (arguments[0] ?? .null).contains(value)
        },
        "integer": TemplateTest { value, _ in if case .int = value { true } else { false } },
        "iterable": TemplateTest { value, _ in isIterable(value) },
        "lower": TemplateTest { (value, _) throws(TemplateError) in
            try value.string().isPythonCased(upper: false)
        },
        "mapping": TemplateTest { value, _ in if case .dictionary = value { true } else { false } },
        "none": TemplateTest { value, _ in value.isNone },
        "number": TemplateTest { value, _ in value.number != nil },
        "odd": TemplateTest { (value, _) throws(TemplateError) in
            try remainder(value, .int(2)).isEqual(to: .int(1))
        },
        "sameas": TemplateTest(["other"]) { value, arguments in
            value.isSame(as: arguments[0] ?? .null)
        },
        "sequence": TemplateTest { value, _ in
            switch value {
            case .string, .markup, .list, .tuple, .dictionary, .range, .undefined: true
            default: false
            }
        },
        "string": TemplateTest { value, _ in value.text != nil },
        "test": TemplateTest { (value, _) throws(TemplateError) in
            _ = try TemplateKey(value)
            return value.text.map { table[$0] != nil } ?? false
        },
        "true": TemplateTest { value, _ in if case .bool(true) = value { true } else { false } },
        "undefined": TemplateTest { value, _ in value.isUndefined },
        "upper": TemplateTest { (value, _) throws(TemplateError) in
            try value.string().isPythonCased(upper: true)
        },
        "==": comparison(.equal), "eq": comparison(.equal), "equalto": comparison(.equal),
        "!=": comparison(.notEqual), "ne": comparison(.notEqual),
        ">": comparison(.greater), "gt": comparison(.greater), "greaterthan": comparison(.greater),
        ">=": comparison(.greaterOrEqual), "ge": comparison(.greaterOrEqual),
        "<": comparison(.less), "lt": comparison(.less), "lessthan": comparison(.less),
        "<=": comparison(.lessOrEqual), "le": comparison(.lessOrEqual),
    ]

    /// The error that there is no test of that name.
    static func missing(_ name: String) -> TemplateError {
        TemplateError(.syntax, "expected the name of a test, found '\(name)', which is unknown")
    }

    private static func comparison(_ operation: TemplateComparison.Operator) -> TemplateTest {
        TemplateTest(["other"]) { (value, arguments) throws(TemplateError) in
            try value.compare(operation, arguments[0] ?? .null)
        }
    }

    private static func remainder(
        _ value: TemplateValue, _ divisor: TemplateValue
    ) throws(TemplateError) -> TemplateValue {
        try value.apply(.remainder, divisor)
    }

    private static func isIterable(_ value: TemplateValue) -> Bool {
        switch value {
        case .null, .bool, .int, .double, .method: false
        case .object(let object): object is TemplateLoop
        default: true
        }
    }
}
