public import PEFTTokenizers

/// What `peft plan` finds.
public struct PlanReport: Equatable, Sendable {
    /// The run as it was asked for.
    public var plan: RunPlan
    /// What the plan supposes, where it could not look.
    public var assumptions: [String]
    /// Bytes that a process may take; nil if no limit was given.
    public var memoryLimit: Int?
    /// Other ways to make the run: smaller ones where it does not fit, faster ones where it does.
    public var proposals: [PlanProposal]
    /// Seconds that a step's traffic takes at least; nil if no bandwidth was given.
    public var trafficSeconds: Double?

    /// Makes a report.
    public init(
        plan: RunPlan, assumptions: [String] = [], memoryLimit: Int? = nil,
        proposals: [PlanProposal] = [], trafficSeconds: Double? = nil
    ) {
        self.plan = plan
        self.assumptions = assumptions
        self.memoryLimit = memoryLimit
        self.proposals = proposals
        self.trafficSeconds = trafficSeconds
    }

    /// Whether the run fits into the limit; nil if none was given.
    public var fits: Bool? { memoryLimit.map { plan.peakMemoryBytes <= $0 } }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("plan", .object(plan.json)),
            ("assumptions", .array(assumptions.map { .string($0) })),
            ("memory_limit_bytes", memoryLimit.map { .int($0) } ?? .null),
            ("fits", fits.map { .bool($0) } ?? .null),
            ("proposals", .array(proposals.map { .object($0.json) })),
            ("traffic_seconds_per_step", trafficSeconds.map { .double($0) } ?? .null),
        ])
    }
}
