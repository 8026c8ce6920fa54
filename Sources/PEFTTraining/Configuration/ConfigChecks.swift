/// Collects what is wrong with a set of options.
struct ConfigChecks {
    /// What was found so far.
    var problems: [ConfigProblem] = []

    /// Reports a text that is empty.
    mutating func require(_ key: String, _ text: String, _ meaning: String) {
        if text.isEmpty { problems.append(ConfigProblem(.missing(key: key, meaning: meaning))) }
    }

    /// Reports a value that does not hold what it must.
    mutating func expect<Value: ConfigParsable>(
        _ key: String, _ value: Value, _ expected: String, _ isGood: (Value) -> Bool
    ) {
        if !isGood(value) {
            let found = YAMLWriter.text(of: value.optionValue)
            problems.append(
                ConfigProblem(.invalidValue(key: key, expected: expected, found: found)))
        }
    }

    /// Reports a value that does not go with another.
    mutating func forbid(_ key: String, if isWrong: Bool, _ explanation: String) {
        if isWrong { problems.append(ConfigProblem(.conflict(key: key, explanation: explanation))) }
    }
}

/// The checks that every command that reads a base model shares.
enum BaseModelChecks {
    /// What is wrong with these values.
    static func problems(quantBlockSize: Int, threads: Int?) -> [ConfigProblem] {
        var checks = ConfigChecks()
        checks.expect("quant_block_size", quantBlockSize, "a power of two from 32 to 4096") {
            (32...4096).contains($0) && $0.nonzeroBitCount == 1
        }
        if let threads { checks.expect("threads", threads, "at least 1") { $0 >= 1 } }
        return checks.problems
    }
}
