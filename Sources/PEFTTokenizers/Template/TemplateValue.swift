/// A value in a running template: the Python object that Jinja2 would hold.
///
/// The sandbox forbids changing lists and dictionaries, so these are Swift values; objects whose
/// state changes (namespaces, loops, iterators) are references.
enum TemplateValue {
    /// Something that does not exist; most uses of it are errors.
    case undefined(TemplateUndefined)
    /// `None`.
    case null
    /// `True` or `False`.
    case bool(Bool)
    /// An integer of at most 64 bits.
    case int(Int)
    /// A floating-point number.
    case double(Double)
    /// A string.
    case string(String)
    /// A string that is marked as safe HTML; strings that are added to it are escaped.
    case markup(String)
    /// A list.
    case list([TemplateValue])
    /// A tuple.
    case tuple(TemplateTuple)
    /// A dictionary.
    case dictionary(TemplateDictionary)
    /// What `range(...)` returns.
    case range(TemplateRange)
    /// What the methods `keys`, `values` and `items` of a dictionary return.
    case view(TemplateDictionaryView)
    /// A generator: it can be iterated once.
    case iterator(TemplateIterator)
    /// A method of a built-in type, bound to its object.
    case method(TemplateBoundMethod)
    /// Anything else: a namespace, a loop, a macro, a function, ...
    case object(any TemplateObject)
}

/// Why a value is undefined.
struct TemplateUndefined {
    /// The message of the error that any use raises.
    let message: String
    /// The kind of that error.
    var kind = TemplateError.Kind.undefined

    /// The error that a use raises.
    var error: TemplateError { TemplateError(kind, message) }
}

/// A tuple; the groups of `groupby` also have names for their elements.
struct TemplateTuple {
    /// The elements.
    let items: [TemplateValue]
    /// The names of the elements, if they have any.
    var names: [String] = []
}

/// What `range(start, stop, step)` returns.
struct TemplateRange {
    /// The first number.
    let start: Int
    /// The bound that is not reached.
    let stop: Int
    /// The distance between two numbers, not 0.
    let step: Int

    /// How many numbers the range holds.
    var count: Int {
        if step > 0 { return start < stop ? (stop - start - 1) / step + 1 : 0 }
        return start > stop ? (start - stop - 1) / -step + 1 : 0
    }

    /// The number at `index`.
    subscript(index: Int) -> TemplateValue { .int(start + index * step) }

    /// All numbers.
    var items: [TemplateValue] { (0..<count).map { self[$0] } }
}

/// The keys, values or items of a dictionary.
struct TemplateDictionaryView {
    /// What the view shows.
    enum Kind: String {
        /// The keys.
        case keys = "dict_keys"
        /// The values.
        case values = "dict_values"
        /// Pairs of key and value.
        case items = "dict_items"
    }

    /// What the view shows.
    let kind: Kind
    /// The dictionary.
    let dictionary: TemplateDictionary

    /// The elements in order.
    var items: [TemplateValue] {
        switch kind {
        case .keys: dictionary.keys
        case .values: dictionary.values
        case .items: dictionary.pairs
        }
    }
}

/// A method of a built-in type, bound to its object.
final class TemplateBoundMethod {
    /// The object.
    let receiver: TemplateValue
    /// The method's name.
    let name: String

    /// Binds the method `name` to `receiver`.
    init(receiver: TemplateValue, name: String) {
        self.receiver = receiver
        self.name = name
    }
}

/// An object with attributes, or one that can be called.
protocol TemplateObject: AnyObject {
    /// The name of the type in messages.
    var typeName: String { get }
    /// What printing shows; nil if Python would show an address.
    var representation: String? { get throws(TemplateError) }
    /// Whether the object can be called.
    var isCallable: Bool { get }
    /// The attribute `name`, or nil if there is none.
    func attribute(_ name: String) throws(TemplateError) -> TemplateValue?
    /// Calls the object.
    func call(
        _ arguments: TemplateArguments, _ interpreter: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue
}

extension TemplateObject {
    /// By default there are no attributes.
    func attribute(_ name: String) throws(TemplateError) -> TemplateValue? { nil }

    /// By default objects cannot be called.
    var isCallable: Bool { false }

    /// By default objects cannot be called.
    func call(
        _ arguments: TemplateArguments, _ interpreter: TemplateInterpreter
    ) throws(TemplateError) -> TemplateValue {
        throw TemplateError(.type, "'\(typeName)' object is not callable")
    }
}

// MARK: Construction

extension TemplateValue {
    /// Makes the value that Python's `json` would make.
    init(_ json: JSONValue) {
        switch json {
        case .null: self = .null
        case .bool(let value): self = .bool(value)
        case .int(let value): self = .int(value)
        case .double(let value): self = .double(value)
        case .string(let value): self = .string(value)
        case .array(let elements): self = .list(elements.map { TemplateValue($0) })
        case .object(let object): self = .dictionary(TemplateDictionary(object))
        }
    }

    /// Makes the value of a constant.
    init(_ literal: TemplateLiteral) {
        switch literal {
        case .null: self = .null
        case .bool(let value): self = .bool(value)
        case .int(let value): self = .int(value)
        case .double(let value): self = .double(value)
        case .string(let value): self = .string(value)
        }
    }

    /// An undefined value whose uses fail with `message`.
    static func undefined(_ message: String) -> TemplateValue {
        .undefined(TemplateUndefined(message: message))
    }

    /// A tuple without names.
    static func tuple(_ items: [TemplateValue]) -> TemplateValue {
        .tuple(TemplateTuple(items: items))
    }

    /// A list of strings.
    static func strings(_ items: [String]) -> TemplateValue { .list(items.map { .string($0) }) }
}

// MARK: Kinds

extension TemplateValue {
    /// The name of the Python type.
    var typeName: String {
        switch self {
        case .undefined: "Undefined"
        case .null: "NoneType"
        case .bool: "bool"
        case .int: "int"
        case .double: "float"
        case .string: "str"
        case .markup: "Markup"
        case .list: "list"
        case .tuple: "tuple"
        case .dictionary: "dict"
        case .range: "range"
        case .view(let view): view.kind.rawValue
        case .iterator: "generator"
        case .method: "builtin_function_or_method"
        case .object(let object): object.typeName
        }
    }

    /// Whether this is undefined.
    var isUndefined: Bool { if case .undefined = self { true } else { false } }

    /// Whether this is `None`.
    var isNone: Bool { if case .null = self { true } else { false } }

    /// The text of a string, marked as safe or not.
    var text: String? {
        switch self {
        case .string(let text), .markup(let text): text
        default: nil
        }
    }

    /// The number, if this is an integer or a Boolean.
    var integer: Int? {
        switch self {
        case .int(let value): value
        case .bool(let value): value ? 1 : 0
        default: nil
        }
    }

    /// Python's truth value.
    var isTrue: Bool {
        switch self {
        case .undefined, .null: false
        case .bool(let value): value
        case .int(let value): value != 0
        case .double(let value): value != 0
        case .string(let text), .markup(let text): !text.isEmpty
        case .list(let items): !items.isEmpty
        case .tuple(let tuple): !tuple.items.isEmpty
        case .dictionary(let dictionary): dictionary.count > 0
        case .range(let range): range.count > 0
        case .view(let view): view.dictionary.count > 0
        case .iterator, .method, .object: true
        }
    }

    /// Whether the value can be called.
    var isCallable: Bool {
        switch self {
        case .undefined, .method: true
        case .object(let object): object.isCallable
        default: false
        }
    }
}
