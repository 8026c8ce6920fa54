public import PEFTTokenizers
import Torch

/// What a run is expected to take, before any weight is read.
public struct RunPlan: Equatable, Sendable {
    /// Memory that is taken for one purpose.
    public struct Part: Equatable, Sendable {
        /// What it is for: "base", "activations".
        public var name: String
        /// Bytes of one process at its peak.
        public var sizeBytes: Int

        /// Makes a part.
        public init(name: String, sizeBytes: Int) {
            self.name = name
            self.sizeBytes = sizeBytes
        }
    }

    /// The processes of the run.
    public var numRanks: Int
    /// Tokens of the largest micro-batch.
    public var numTokens: Int
    /// What one process holds at the moment when it holds most.
    public var parts: [Part]
    /// Bytes that one process sends to others in a step.
    public var sentBytesPerStep: Int

    /// Makes a plan of its parts.
    public init(numRanks: Int, numTokens: Int, parts: [Part], sentBytesPerStep: Int) {
        self.numRanks = numRanks
        self.numTokens = numTokens
        self.parts = parts
        self.sentBytesPerStep = sentBytesPerStep
    }

    /// The most memory that one process holds.
    public var peakMemoryBytes: Int { parts.reduce(0) { $0 + $1.sizeBytes } }

    /// What of it a device holds: all but the process itself, whose code and rows are in host memory.
    var onDevice: RunPlan {
        var plan = self
        plan.parts.removeAll { $0.name == Self.processPart }
        return plan
    }

    private static let processPart = "process"

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("num_ranks", .int(numRanks)),
            ("num_tokens", .int(numTokens)),
            ("peak_memory_bytes", .int(peakMemoryBytes)),
            (
                "memory_bytes",
                .object(JSONObject(parts.map { ($0.name, .int($0.sizeBytes)) }))
            ),
            ("sent_bytes_per_step", .int(sentBytesPerStep)),
        ])
    }
}

extension RunPlan {
    /// A plan out of a dry run.
    init(
        _ result: StepDryRun.Result, numRanks: Int, numTokens: Int, processBytes: Int
    ) {
        let parts = DryRun.Part.allCases.sorted { $0.order < $1.order }.map {
            Part(name: $0.name, sizeBytes: result.parts[$0] ?? 0)
        }
        self.init(
            numRanks: numRanks, numTokens: numTokens,
            parts: parts + [Part(name: Self.processPart, sizeBytes: processBytes)],
            sentBytesPerStep: result.sentBytes)
    }
}

extension DryRun.Part {
    /// The part's name in reports.
    fileprivate var name: String {
        switch self {
        case .base: "base"
        case .gathered: "gathered_units"
        case .adapter: "adapter"
        case .optimizer: "optimizer"
        case .activations: "activations_and_gradients"
        case .loss: "loss"
        }
    }

    /// The part's place in reports.
    fileprivate var order: Int {
        switch self {
        case .base: 0
        case .gathered: 1
        case .adapter: 2
        case .optimizer: 3
        case .activations: 4
        case .loss: 5
        }
    }
}
