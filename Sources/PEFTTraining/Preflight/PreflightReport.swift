public import PEFTTokenizers

/// What was looked at before the first step, and the verdict.
public struct PreflightReport: Sendable, Equatable {
    /// How a check ended.
    public enum Outcome: String, Sendable, Equatable {
        /// All is well.
        case passed
        /// A person should look at it; training can begin.
        case warning
        /// Training would not do what is meant.
        case failed
        /// What it looks at is not there, because an earlier check failed.
        case skipped
    }

    /// One check.
    public struct Check: Sendable, Equatable {
        /// What it is about, in a word or two: "rows".
        public let topic: String
        /// How it ended.
        public let outcome: Outcome
        /// What was found, a line each; failures begin with their code.
        public let findings: [String]

        /// Makes a check.
        public init(topic: String, outcome: Outcome, findings: [String]) {
            self.topic = topic
            self.outcome = outcome
            self.findings = findings
        }
    }

    /// The checks in the order in which they were made.
    public var checks: [Check]
    /// What the loss reaches; nil if it did not come to that.
    public var gradients: GradientTable?
    /// The first row, with what is learned of it.
    public var sample: MaskedSample?
    /// The loss of the tokens that were used; nil if it did not come to that.
    public var loss: Double?

    /// Makes a report of its parts.
    public init(
        checks: [Check] = [], gradients: GradientTable? = nil, sample: MaskedSample? = nil,
        loss: Double? = nil
    ) {
        self.checks = checks
        self.gradients = gradients
        self.sample = sample
        self.loss = loss
    }

    /// The verdict: whether training can begin.
    public var isReady: Bool {
        checks.allSatisfy { $0.outcome == .passed || $0.outcome == .warning }
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("is_ready", .bool(isReady)),
            (
                "checks",
                .array(
                    checks.map { check in
                        .object(
                            JSONObject([
                                ("topic", .string(check.topic)),
                                ("outcome", .string(check.outcome.rawValue)),
                                ("findings", .array(check.findings.map { .string($0) })),
                            ]))
                    })
            ),
            ("gradients", gradients.map { .object($0.json) } ?? .null),
            ("loss", loss.map { .double($0) } ?? .null),
            ("sample", sample.map { .object($0.json) } ?? .null),
        ])
    }
}
