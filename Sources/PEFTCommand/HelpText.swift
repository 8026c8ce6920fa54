package import PEFT

/// Writes help texts from option tables.
package enum HelpText {
    /// Columns of a help text.
    private static let width = 96
    /// The column where explanations begin.
    private static let indent = 32

    /// The help of one command.
    package static func text<Options: ConfigurableOptions>(
        for command: CommandName, _ type: Options.Type
    ) -> String {
        let table = Invocation<Options>.options
        let defaults = Invocation<Options>()
        let missing = defaults.problems.compactMap { problem -> String? in
            if case .missing(let key, _, _) = problem.reason { key } else { nil }
        }
        var lines = [usage(command, table, missing), ""]
        lines += wrapped(command.explanation, width: width)
        var section = ""
        for option in table {
            if option.section != section {
                section = option.section
                lines += ["", section + ":"]
            }
            lines += entry(option, defaults, isRequired: missing.contains(option.key))
        }
        lines += ["", "Examples:"] + command.examples.map { "  " + $0 }
        return lines.joined(separator: "\n") + "\n"
    }

    /// The help of the whole program.
    package static func overview() -> String {
        var lines = [
            "usage: peft <command> [options]", "",
            "Fine-tune language models: a frozen base in 4 bits, small trainable adapters.", "",
            "Commands:",
        ]
        for command in CommandName.allCases {
            lines.append(column("  " + command.rawValue, 14) + command.summary)
        }
        lines += [
            "", "'peft help <command>' or 'peft <command> --help' shows a command's options.",
            "'peft --version' shows the versions of swift-peft and libtorch.", "",
            "Every command takes its options from a YAML or JSON file too: --config FILE.",
            "",
            "Environment: PEFT_INSTRUCTION_SET=portable, avx2, avx512 or avx512bf16 has the kernels use no more of the",
            "processor than that (docs/processors.md).",
            "",
            "Exit status: 0 done; 1 error; 2 wrong use; 130, 138 or 143 stopped by SIGINT, SIGUSR1 or SIGTERM.",
        ]
        return lines.joined(separator: "\n") + "\n"
    }

    // MARK: - Parts

    private static func usage<Options>(
        _ command: CommandName, _ table: [ConfigOption<Options>], _ missing: [String]
    ) -> String {
        let required = table.filter { missing.contains($0.key) }.map { option in
            option.form == .argument ? option.placeholder : "\(option.flag) \(option.placeholder)"
        }
        return (["usage: peft \(command.rawValue)"] + required + ["[options]"])
            .joined(separator: " ")
    }

    private static func entry<Options>(
        _ option: ConfigOption<Options>, _ defaults: Options, isRequired: Bool
    ) -> [String] {
        let value = option.get(defaults)
        let hasNegative = value.content != .boolean(false)
        let left: String
        switch (option.form, option.arity) {
        case (.argument, _): left = "  " + option.placeholder
        case (_, .boolean):
            left = "  " + (hasNegative ? "--[no-]\(option.key.kebabCased)" : option.flag)
        default: left = "  \(option.flag) \(option.placeholder)"
        }
        let note = isRequired ? " (required)" : defaultNote(value)
        let right = wrapped(option.help + note, width: width - indent)
        if left.count + 2 > indent {
            return wrappedChoices(left) + right.map { String(repeating: " ", count: indent) + $0 }
        }
        return right.enumerated().map { column($0.offset == 0 ? left : "", indent) + $0.element }
    }

    private static func defaultNote(_ value: OptionValue) -> String {
        switch value.content {
        case .null, .boolean(false), .string(""): ""
        case .boolean(true): " (default: on)"
        case .map(let entries) where entries.isEmpty: ""
        case .list(let items) where items.isEmpty: ""
        default: " (default: \(YAMLWriter.text(of: value)))"
        }
    }

    private static func column(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    /// An option whose choices may be too many for a line, broken behind a bar.
    private static func wrappedChoices(_ left: String) -> [String] {
        guard left.count > width else { return [left] }
        let choices = left.split(separator: "|").map(String.init)
        var lines = [choices[0]]
        for choice in choices.dropFirst() {
            if lines[lines.count - 1].count + choice.count + 2 > width {
                lines[lines.count - 1] += "|"
                lines.append("      " + choice)
            } else {
                lines[lines.count - 1] += "|" + choice
            }
        }
        return lines
    }

    /// The text in lines of at most `width` columns, broken at spaces.
    private static func wrapped(_ text: String, width: Int) -> [String] {
        var lines: [String] = []
        for paragraph in text.split(separator: "\n", omittingEmptySubsequences: false) {
            var line = ""
            for word in paragraph.split(separator: " ") {
                if !line.isEmpty, line.count + 1 + word.count > width {
                    lines.append(line)
                    line = ""
                }
                line += (line.isEmpty ? "" : " ") + word
            }
            lines.append(line)
        }
        return lines
    }
}
