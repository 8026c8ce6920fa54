public import PEFTAdapters
public import PEFTTokenizers

/// What `peft combine` is told: which adapters, how they become one, and where it goes.
public struct CombineOptions: Hashable, Sendable {
    /// The adapter folders with their weights.
    public var adapter = WeightedPaths()
    /// What is done with the matrices.
    public var type = CombinationType.svd
    /// The share of elements that pruning keeps.
    public var density: Double?
    /// How the sign of an element is chosen, for types with `ties`.
    public var majoritySignMethod = MajoritySignMethod.total
    /// The rank of the new adapter, for types with `svd`.
    public var svdRank: Int?
    /// For types with `svd`: no element is larger than this quantile of all.
    public var svdClamp: Double?
    /// What `dare` leaves out.
    public var seed = 42
    /// Whether adapters of different bases are combined all the same.
    public var ignoreBaseFingerprint = false
    /// The folder that the adapter goes to.
    public var output = ""
    /// CPU threads; nil leaves the choice to libtorch.
    public var threads: Int?
    /// Whether to print JSON.
    public var json = false

    /// Makes options of defaults; `adapter` and `output` must still be set.
    public init() {}

    /// The combination that they describe.
    public var combination: AdapterCombination {
        AdapterCombination(
            type: type, density: density, majoritySignMethod: majoritySignMethod, svdRank: svdRank,
            svdClamp: svdClamp, seed: UInt64(seed))
    }
}

/// What `peft combine` wrote.
public struct CombineReport: Equatable, Sendable {
    /// The folder.
    public var output: String
    /// What was done with the matrices.
    public var type: CombinationType
    /// The new adapter's rank.
    public var rank: Int
    /// Its layers.
    public var numLayers: Int
    /// Bytes of all its tensors.
    public var sizeBytes: Int

    /// Describes what was written.
    public init(output: String, type: CombinationType, rank: Int, numLayers: Int, sizeBytes: Int) {
        self.output = output
        self.type = type
        self.rank = rank
        self.numLayers = numLayers
        self.sizeBytes = sizeBytes
    }

    /// The report as `peft combine --json` writes it.
    public var json: JSONObject {
        [
            "output": .string(output), "type": .string(type.rawValue), "rank": .int(rank),
            "num_layers": .int(numLayers), "size_bytes": .int(sizeBytes),
        ]
    }
}

extension CombinationType: ConfigChoice {}
extension MajoritySignMethod: ConfigChoice {}

extension CombineOptions: ConfigurableOptions {
    /// Every option of `peft combine`.
    package static let options: [ConfigOption<CombineOptions>] = [
        .init(
            "adapter", \.adapter, section: "Input", placeholder: "FOLDER:WEIGHT",
            help: "an adapter and its weight, which may be negative; once for each"),
        .init(
            "ignore_base_fingerprint", \.ignoreBaseFingerprint, section: "Input",
            help: "combine adapters that were trained on different bases"),
        .init(
            "type", \.type, section: "Combination",
            help: "svd and cat sum the products B A, the others approximate or prune"),
        .init(
            "density", \.density, section: "Combination",
            help: "the share of elements that ties, dare and magnitude_prune keep"),
        .init(
            "majority_sign_method", \.majoritySignMethod, section: "Combination",
            help: "how ties elects a sign: of the sum, or of most adapters"),
        .init(
            "svd_rank", \.svdRank, section: "Combination",
            help: "the rank of the result, for types with svd; by default the largest"),
        .init(
            "svd_clamp", \.svdClamp, section: "Combination",
            help: "a quantile that no element exceeds, for types with svd"),
        .init(
            "seed", \.seed, section: "Combination", help: "decides what dare leaves out"),
        .init(
            "output", \.output, section: "Output", placeholder: "FOLDER",
            help: "where the adapter goes: a new folder"),
        .init(
            "threads", \.threads, section: "Output",
            help: "CPU threads; by default libtorch's choice"),
        .init("json", \.json, section: "Output", form: .flag, help: "print JSON"),
    ]

    /// What is wrong with the values.
    package var problems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require(
            "adapter", adapter.sources.isEmpty ? "" : "given", "the adapters to combine")
        checks.expect("adapter", adapter, "FOLDER:WEIGHT, a finite weight with each folder") {
            $0.sources.allSatisfy { $0.weight?.isFinite == true }
        }
        checks.require("output", output, "where the combined adapter goes")
        checks.expect("seed", seed, "at least 0") { $0 >= 0 }
        if let threads { checks.expect("threads", threads, "at least 1") { $0 >= 1 } }
        do {
            try combinationProblems()
        } catch {
            if case .invalid(let option, let expected, let found) = error {
                checks.problems.append(
                    ConfigProblem(.invalidValue(key: option, expected: expected, found: found)))
            }
        }
        return checks.problems
    }

    /// What the combination itself says of its values.
    private func combinationProblems() throws(CombinationError) {
        guard seed >= 0 else { return }
        try combination.validate()
    }
}
