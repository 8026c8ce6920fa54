/// A command's options as given: from a config file, from flags, and what every command has besides.
package struct Invocation<Options: ConfigurableOptions>: ConfigurableOptions {
    /// The command's own options.
    package var options = Options()
    /// The YAML or JSON file that is read before the flags.
    package var config: String?
    /// Whether to print the options that would be used, and do nothing.
    package var printConfig = false
    /// Whether to print help, and do nothing.
    package var help = false

    /// Makes an invocation without arguments.
    package init() {}

    /// The command's own table and the common flags.
    package static var options: [ConfigOption<Invocation>] {
        let own = Options.options.map { $0.lifted(to: \Invocation.options) }
        let hasKeys = own.contains { $0.form == .keyAndFlag }
        return own + (hasKeys ? fileOptions : []) + [
            .init("help", \.help, section: "Command", form: .flag, help: "print this and stop")
        ]
    }

    private static var fileOptions: [ConfigOption<Invocation>] {
        [
            .init(
                "config", \.config, section: "Command", placeholder: "FILE", form: .flag,
                help: "read options from a YAML or JSON file; flags win"),
            .init(
                "print_config", \.printConfig, section: "Command", form: .flag,
                help: "print the options as YAML and stop"),
        ]
    }

    /// What is wrong with the command's own options.
    package var problems: [ConfigProblem] { options.problems }

    /// Reads a command's arguments, and the config file that they name.
    ///
    /// With `--help` nothing is checked, and with `--print-config` nothing is required: both show
    /// where to begin.
    ///
    /// - Throws: `ConfigError` with everything that is wrong, wherever it comes from.
    package static func read(_ arguments: [String]) throws(ConfigError) -> Invocation {
        var first = CommandArguments(Invocation())
        first.read(arguments)
        if first.options.help { return first.options }
        var file = ConfigFile(Options())
        var problems = first.problems
        if let path = first.options.config ?? first.options.options.configFile {
            do throws(ConfigError) {
                try file.read(path)
            } catch {
                throw ConfigError(problems + error.problems)
            }
            problems += file.problems
        }
        var invocation = Invocation()
        invocation.options = file.options
        var second = CommandArguments(invocation)
        second.read(arguments)

        var values = second.options.problems
        if second.options.printConfig {
            values.removeAll { if case .missing = $0.reason { true } else { false } }
        }
        problems = problems.joined(
            by: values, at: file.places.merging(second.places) { $1 })
        guard problems.isEmpty else { throw ConfigError(problems) }
        return second.options
    }
}

extension ConfigurableOptions {
    /// The options as a YAML file that gives these options again, with every default written out.
    package var yaml: String {
        var lines: [String] = []
        var section = ""
        for option in Self.options where option.form == .keyAndFlag {
            if option.section != section {
                if !lines.isEmpty { lines.append("") }
                section = option.section
                lines.append("# \(section)")
            }
            lines.append("\(option.key): \(YAMLWriter.text(of: option.get(self)))")
        }
        return lines.joined(separator: "\n") + "\n"
    }
}
