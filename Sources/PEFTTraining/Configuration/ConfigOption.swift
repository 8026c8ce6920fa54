/// One option: its key, its flag, its help text, and how it is read and shown.
///
/// Files, flags, help texts and dumps are all derived from a table of these, so that they agree.
package struct ConfigOption<Options: Sendable>: Sendable {
    /// Where an option can be given.
    package enum Form: Sendable {
        /// As a key in a file and as a flag.
        case keyAndFlag
        /// As a flag only.
        case flag
        /// As an argument without a flag.
        case argument
    }

    /// The key, in snake_case.
    package let key: String
    /// The heading under which help texts list it.
    package let section: String
    /// What it does, in one line.
    package let help: String
    /// Where it can be given.
    package let form: Form
    /// What a value must be, as error messages say it.
    package let expectation: String
    /// The placeholder for its value in help texts.
    package let placeholder: String
    /// How many arguments its flag takes.
    package let arity: ConfigArity
    /// The file's value that a flag's arguments stand for.
    package let valueOfArguments: @Sendable ([String]) -> OptionValue
    /// Sets the option; false when the value is of the wrong kind.
    package let set: @Sendable (OptionValue, inout Options) -> Bool
    /// The option's value, as a file holds it.
    package let get: @Sendable (Options) -> OptionValue

    /// The flag, in kebab-case.
    package var flag: String { "--" + key.kebabCased }
}

extension ConfigOption {
    /// Describes the option that a property holds.
    ///
    /// - Parameters:
    ///   - key: the property's name in snake_case.
    ///   - path: the property.
    ///   - section: the heading in help texts.
    ///   - placeholder: instead of the type's own, such as "PATH" for "TEXT".
    ///   - form: where it can be given.
    ///   - help: what it does, in one line.
    package init<Value: ConfigParsable>(
        _ key: String, _ path: any WritableKeyPath<Options, Value> & Sendable, section: String,
        placeholder: String? = nil, form: Form = .keyAndFlag, help: String
    ) {
        self.init(
            key: key, section: section, help: help, form: form, expectation: Value.expectation,
            placeholder: placeholder ?? Value.placeholder, arity: Value.arity,
            valueOfArguments: { Value.value(ofArguments: $0) },
            set: { value, options in
                guard let parsed = Value(value) else { return false }
                options[keyPath: path] = parsed
                return true
            },
            get: { $0[keyPath: path].optionValue })
    }

    /// The same option of a struct that holds these options.
    package func lifted<Outer: Sendable>(
        to path: any WritableKeyPath<Outer, Options> & Sendable
    ) -> ConfigOption<Outer> {
        let (set, get) = (set, get)
        return ConfigOption<Outer>(
            key: key, section: section, help: help,
            form: form == .keyAndFlag ? .keyAndFlag : form == .flag ? .flag : .argument,
            expectation: expectation, placeholder: placeholder, arity: arity,
            valueOfArguments: valueOfArguments,
            set: { value, outer in set(value, &outer[keyPath: path]) },
            get: { get($0[keyPath: path]) })
    }
}

/// A set of options with its table.
package protocol ConfigurableOptions: Sendable {
    /// All defaults.
    init()
    /// The table, in the order in which help texts and dumps show it.
    static var options: [ConfigOption<Self>] { get }
    /// What is wrong with the values, each alone and together.
    var problems: [ConfigProblem] { get }
    /// The config file, of a command that takes it as an argument; nil otherwise.
    var configFile: String? { get }
}

extension ConfigurableOptions {
    /// None: most commands take it as `--config` only.
    package var configFile: String? { nil }
}
