package import Foundation

/// A type of value that an option of `adapter_config.json` can hold.
protocol ConfigRepresentable: SendableMetatype {
    /// What the option accepts, for messages: "a whole number".
    static var expectedValue: String { get }

    /// Reads the JSON value; nil if it is of another type.
    init?(configValue: ConfigValue)

    /// The JSON value to write.
    var configValue: ConfigValue { get }
}

/// One option of a configuration: its key in `adapter_config.json` and the property that holds it.
package struct ConfigField<Config>: Sendable {
    /// The key in `adapter_config.json`.
    let key: String
    /// What the property accepts.
    let expectedValue: String
    /// Sets the property; false if the value is of the wrong type.
    let read: @Sendable (ConfigValue, inout Config) -> Bool
    /// The property's value.
    let write: @Sendable (Config) -> ConfigValue

    /// Connects a key with a property.
    init<Value: ConfigRepresentable>(
        _ key: String, _ property: any WritableKeyPath<Config, Value> & Sendable
    ) {
        self.key = key
        expectedValue = Value.expectedValue
        read = { value, config in
            guard let read = Value(configValue: value) else { return false }
            config[keyPath: property] = read
            return true
        }
        write = { $0[keyPath: property].configValue }
    }
}

/// How a method's configuration is written to and read from `adapter_config.json`.
///
/// Reading is strict. A key with a property must hold a value of its type. A key that PEFT knows and that is
/// not supported here may be there if it asks for nothing (PEFT's default, null, false, or empty). So may an
/// unknown key, so that files of later PEFT versions stay readable. All other keys are collected into one error.
package struct ConfigCoding<Config>: Sendable {
    /// The value of `peft_type`, in capitals.
    package let peftType: String
    /// The options with a property.
    package let fields: [ConfigField<Config>]
    /// The options that PEFT knows and that are not supported here, with PEFT's defaults.
    package let unsupported: [String: ConfigValue]

    /// Keys that have a meaning only while PEFT runs; PEFT does not write them and ignores them too.
    private var ignoredKeys: Set<String> { ["runtime_config"] }

    /// Every key that a written file has.
    package var keys: [String] {
        (fields.map(\.key) + unsupported.keys + ["peft_type"]).sorted()
    }

    /// Reads a file's content over the defaults.
    ///
    /// - Throws: `AdapterError.invalidConfig` with every problem found.
    package func read(_ value: ConfigValue, over defaults: Config) throws(AdapterError) -> Config {
        guard case .object(var members) = value else {
            throw .invalidConfig([
                .wrongValue(key: nil, expected: "an object", found: value.description)
            ])
        }
        var config = defaults
        var problems: [AdapterConfigProblem] = []
        if let type = members.removeValue(forKey: "peft_type"), type != .string(peftType) {
            problems.append(
                .wrongValue(key: "peft_type", expected: "\"\(peftType)\"", found: type.description))
        }
        for field in fields {
            guard let value = members.removeValue(forKey: field.key) else { continue }
            if !field.read(value, &config) {
                problems.append(
                    .wrongValue(
                        key: field.key, expected: field.expectedValue, found: value.description))
            }
        }
        for (key, value) in members.sorted(by: { $0.key < $1.key })
        where !value.isInert && !ignoredKeys.contains(key) {
            if let supported = unsupported[key] {
                guard value != supported else { continue }
                problems.append(
                    .unsupportedOption(
                        key: key, value: value.description, supported: supported.description))
            } else {
                let nearest = NearestName.of(key, in: keys)
                problems.append(
                    .unknownKey(key, value: value.description, nearest: nearest))
            }
        }
        if problems.isEmpty { return config }
        throw .invalidConfig(problems)
    }

    /// The configuration as the object that PEFT writes: every key, unsupported options at PEFT's defaults.
    package func write(_ config: Config) -> ConfigValue {
        var members = unsupported
        members["peft_type"] = .string(peftType)
        for field in fields { members[field.key] = field.write(config) }
        return .object(members)
    }

    /// The bytes of `adapter_config.json`, as PEFT's `save_pretrained` writes them.
    package func json(_ config: Config) -> Data { Data(write(config).pythonJSON.utf8) }
}

// MARK: - Values

extension Bool: ConfigRepresentable {
    static var expectedValue: String { "true or false" }

    init?(configValue: ConfigValue) {
        guard case .bool(let value) = configValue else { return nil }
        self = value
    }

    var configValue: ConfigValue { .bool(self) }
}

extension Int: ConfigRepresentable {
    static var expectedValue: String { "a whole number" }

    init?(configValue: ConfigValue) {
        guard case .int(let value) = configValue else { return nil }
        self = value
    }

    var configValue: ConfigValue { .int(self) }
}

extension Double: ConfigRepresentable {
    static var expectedValue: String { "a number" }

    init?(configValue: ConfigValue) {
        switch configValue {
        case .int(let value): self = Double(value)
        case .double(let value): self = value
        default: return nil
        }
    }

    var configValue: ConfigValue { .double(self) }
}

extension String: ConfigRepresentable {
    static var expectedValue: String { "text" }

    init?(configValue: ConfigValue) {
        guard case .string(let value) = configValue else { return nil }
        self = value
    }

    var configValue: ConfigValue { .string(self) }
}

extension ConfigValue: ConfigRepresentable {
    static var expectedValue: String { "any value" }

    init?(configValue: ConfigValue) { self = configValue }

    var configValue: ConfigValue { self }
}

extension Optional: ConfigRepresentable where Wrapped: ConfigRepresentable {
    static var expectedValue: String { Wrapped.expectedValue + ", or null" }

    init?(configValue: ConfigValue) {
        if configValue == .null {
            self = .none
        } else {
            guard let value = Wrapped(configValue: configValue) else { return nil }
            self = .some(value)
        }
    }

    var configValue: ConfigValue { self?.configValue ?? .null }
}

extension Array: ConfigRepresentable where Element: ConfigRepresentable {
    static var expectedValue: String { "a list, each entry \(Element.expectedValue)" }

    init?(configValue: ConfigValue) {
        guard case .array(let values) = configValue else { return nil }
        self = values.compactMap(Element.init(configValue:))
        if count != values.count { return nil }
    }

    var configValue: ConfigValue { .array(map(\.configValue)) }
}

extension Dictionary: ConfigRepresentable where Key == String, Value: ConfigRepresentable {
    static var expectedValue: String { "an object, each value \(Value.expectedValue)" }

    init?(configValue: ConfigValue) {
        self = [:]
        if configValue == .null { return }
        guard case .object(let members) = configValue else { return nil }
        self = members.compactMapValues(Value.init(configValue:))
        if count != members.count { return nil }
    }

    var configValue: ConfigValue { .object(mapValues(\.configValue)) }
}

/// Reads members of an object one by one, and knows whether all of them fit.
struct ConfigMembers {
    private var rest: [String: ConfigValue]
    private var fits = true

    init?(_ value: ConfigValue) {
        guard case .object(let members) = value else { return nil }
        rest = members
    }

    mutating func read<Value: ConfigRepresentable>(_ key: String, into property: inout Value) {
        guard let value = rest.removeValue(forKey: key) else { return }
        if let value = Value(configValue: value) { property = value } else { fits = false }
    }

    mutating func read<Value: RawRepresentable>(
        _ key: String, into property: inout Value
    ) where Value.RawValue == String {
        var name = property.rawValue
        read(key, into: &name)
        if let value = Value(rawValue: name) { property = value } else { fits = false }
    }

    /// Leaves out what only says where PEFT keeps its intermediate results.
    mutating func skip(_ keys: String...) { for key in keys { rest[key] = nil } }

    var isRead: Bool { fits && rest.isEmpty }
}
