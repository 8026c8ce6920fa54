import PEFTAdapters

/// Reads a command's arguments into options: flags win over the values that are there.
package struct CommandArguments<Options: ConfigurableOptions> {
    /// The options after reading.
    package var options: Options
    /// The flag that gave each key.
    package private(set) var places: [String: ConfigProblem.Place] = [:]
    /// What is wrong with the arguments.
    package private(set) var problems: [ConfigProblem] = []

    private let table = Options.options
    /// The arguments so far of flags that may be given again.
    private var repeated: [String: [String]] = [:]
    private var rest: ArraySlice<String> = []
    private var positionals: ArraySlice<ConfigOption<Options>>

    /// Starts from these options.
    package init(_ options: Options) {
        self.options = options
        positionals = Options.options.filter { $0.form == .argument }[...]
    }

    /// Reads all arguments; what is wrong is collected in `problems`.
    ///
    /// A flag is `--key-in-kebab-case VALUE` or `--key=VALUE`; a boolean one stands alone, and
    /// `--no-key` turns it off. A list takes every argument up to the next flag. After `--` come
    /// arguments without flags.
    package mutating func read(_ arguments: [String]) {
        rest = arguments[...]
        var takesFlags = true
        while let argument = rest.popFirst() {
            if takesFlags, argument == "--" {
                takesFlags = false
            } else if takesFlags, argument.hasPrefix("-"), argument != "-" {
                readFlag(argument)
            } else {
                readPositional(argument)
            }
        }
    }

    // MARK: - Flags

    private mutating func readFlag(_ argument: String) {
        let parts = argument.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let flag = parts[0] == "-h" ? "--help" : String(parts[0])
        let inline = parts.count == 2 ? String(parts[1]) : nil
        guard let (option, isOn) = find(flag) else {
            let flags = table.filter { $0.form != .argument }.flatMap { spellings($0) }
            problems.append(
                ConfigProblem(.unknownFlag(flag, nearest: NearestName.of(flag, in: flags))))
            skipValues()
            return
        }
        if places.updateValue(.flag(flag), forKey: option.key) != nil, option.arity != .repeated {
            problems.append(ConfigProblem(.repeatedFlag(flag)))
        }
        var arguments: [String]
        switch option.arity {
        case .boolean: arguments = [inline ?? "true"]
        case .one, .many: arguments = inline.map { [$0] } ?? takeValues(option.arity)
        case .repeated:
            arguments = inline.map { [$0] } ?? takeValues(option.arity)
            if !arguments.isEmpty {
                repeated[option.key, default: []] += arguments
                arguments = repeated[option.key] ?? []
            }
        }
        guard !arguments.isEmpty else {
            problems.append(
                ConfigProblem(.missingValue(flag: flag, expected: option.expectation)))
            return
        }
        apply(option, arguments, isOn: isOn, flag: flag)
    }

    private mutating func apply(
        _ option: ConfigOption<Options>, _ arguments: [String], isOn: Bool, flag: String
    ) {
        var value = option.valueOfArguments(arguments)
        if !isOn, case .boolean(let flag) = value.content { value = OptionValue(.boolean(!flag)) }
        if value.content == .null || !option.set(value, &options) {
            let found = "'" + arguments.joined(separator: " ") + "'"
            problems.append(
                ConfigProblem(
                    .invalidValue(key: option.key, expected: option.expectation, found: found),
                    at: .flag(flag)))
        }
    }

    /// The option of a flag, and whether it turns it on.
    ///
    /// Underscores may stand for hyphens, as in TRL.
    private func find(_ flag: String) -> (ConfigOption<Options>, Bool)? {
        guard flag.hasPrefix("--") else { return nil }
        let key = String(flag.dropFirst(2)).snakeCased
        if let option = table.first(where: { $0.key == key && $0.form != .argument }) {
            return (option, true)
        }
        guard key.hasPrefix("no_") else { return nil }
        let positive = key.dropFirst(3)
        let option = table.first { $0.key == positive && $0.arity == .boolean }
        return option.map { ($0, false) }
    }

    private func spellings(_ option: ConfigOption<Options>) -> [String] {
        option.arity == .boolean
            ? [option.flag, "--no-" + option.key.kebabCased] : [option.flag]
    }

    private mutating func takeValues(_ arity: ConfigArity) -> [String] {
        var values: [String] = []
        while let next = rest.first, !next.hasPrefix("--") {
            values.append(next)
            rest.removeFirst()
            if arity == .one { break }
        }
        return values
    }

    /// After an unknown flag, its values are not reported as well.
    private mutating func skipValues() {
        while let next = rest.first, !next.hasPrefix("-") { rest.removeFirst() }
    }

    // MARK: - Arguments without flags

    private mutating func readPositional(_ argument: String) {
        guard let option = positionals.popFirst() else {
            problems.append(ConfigProblem(.unexpectedArgument(argument)))
            return
        }
        places[option.key] = .flag(option.placeholder)
        apply(option, [argument], isOn: true, flag: option.placeholder)
    }
}
