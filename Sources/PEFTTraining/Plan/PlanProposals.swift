import PEFTData
import PEFTSharding
public import PEFTTokenizers

/// Another way to make a run, with what it takes.
public struct PlanProposal: Equatable, Sendable {
    /// The options that differ from the run's own, as on the command line.
    public var changes: [String]
    /// What it takes.
    public var plan: RunPlan

    /// Makes a proposal.
    public init(changes: [String], plan: RunPlan) {
        self.changes = changes
        self.plan = plan
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("changes", .array(changes.map { .string($0) })),
            ("plan", .object(plan.json)),
        ])
    }
}

/// Looks for ways to make a run that fit into a memory.
struct PlanSearch {
    let planner: Planner
    let config: FineTuneConfig
    let numRanks: Int
    let limit: Int

    /// The most processes that are proposed.
    private static let maxRanks = 64

    /// For a run that does not fit, what does: by options with the processes that there are, and by more processes alone.
    ///
    /// - Throws: as ``Planner/plan(_:numRanks:)``.
    func smaller() throws -> [PlanProposal] {
        [try byOptions(), try byProcesses()].compactMap(\.self)
    }

    /// For a run that fits, the same computation with what saves time and still fits.
    ///
    /// - Throws: as ``Planner/plan(_:numRanks:)``.
    func faster() throws -> [PlanProposal] {
        var kept: [(Steps) -> Void] = []
        var best: PlanProposal?
        let changes: [(Steps) -> Void] =
            [{ $0.keepActivations() }] + Array(repeating: { $0.doubleMicroBatch() }, count: 10)
        for change in changes {
            let steps = steps(kept)
            let before = steps.options
            change(steps)
            guard steps.options != before, let found = try proposal(steps) else { continue }
            kept.append(change)
            best = found
        }
        return best.map { [$0] } ?? []
    }

    // MARK: - Options

    private func steps(_ changes: [(Steps) -> Void]) -> Steps {
        let steps = Steps(config, numRanks: numRanks)
        for change in changes { change(steps) }
        return steps
    }

    /// The first options of the list that fit together, without those that turn out not to be needed.
    private func byOptions() throws -> PlanProposal? {
        var kept: [(Steps) -> Void] = []
        var found: PlanProposal?
        for change in Self.ladder {
            let steps = steps(kept)
            let before = steps.options
            change(steps)
            guard steps.options != before else { continue }
            kept.append(change)
            found = try proposal(steps)
            if found != nil { break }
        }
        guard var best = found else { return nil }
        // The last change is needed; each of the earlier ones perhaps no more.
        for index in kept.indices.dropLast().reversed() {
            var fewer = kept
            fewer.remove(at: index)
            guard let smaller = try proposal(steps(fewer)) else { continue }
            (kept, best) = (fewer, smaller)
        }
        return best
    }

    private func proposal(_ steps: Steps) throws -> PlanProposal? {
        let planner = Planner(
            configuration: planner.configuration, adapter: planner.adapter,
            rows: steps.config.maxLength < config.maxLength
                ? planner.rows.cut(to: steps.config.maxLength) : planner.rows,
            processBytes: planner.processBytes)
        let plan = try planner.plan(steps.config, numRanks: numRanks)
        guard plan.peakMemoryBytes <= limit else { return nil }
        return PlanProposal(changes: steps.options, plan: plan)
    }

    /// From what costs nothing to what changes what is learned.
    private static let ladder: [@Sendable (Steps) -> Void] =
        [{ $0.divide() }]
        + Array(repeating: { $0.halveMicroBatch() }, count: 10)
        + [{ $0.recompute() }, { $0.offload(.optimizer) }, { $0.offload(.base) }]
        + Array(repeating: { $0.halveLength() }, count: 6)

    /// A run that is changed step by step.
    private final class Steps {
        private(set) var config: FineTuneConfig
        private let original: FineTuneConfig
        private let numRanks: Int

        init(_ config: FineTuneConfig, numRanks: Int) {
            (self.config, original, self.numRanks) = (config, config, numRanks)
        }

        func divide() {
            guard numRanks > 1 else { return }
            (config.sharding, config.reshardAfterForward) = (.full, true)
        }

        func recompute() { config.gradientCheckpointing = true }

        func keepActivations() { config.gradientCheckpointing = false }

        /// Keeps the rows of a step, and with them what is computed.
        func halveMicroBatch() {
            guard config.perDeviceTrainBatchSize.isMultiple(of: 2) else { return }
            config.perDeviceTrainBatchSize /= 2
            config.gradientAccumulationSteps *= 2
        }

        /// The same rows in fewer micro-batches.
        func doubleMicroBatch() {
            guard config.gradientAccumulationSteps.isMultiple(of: 2) else { return }
            config.perDeviceTrainBatchSize *= 2
            config.gradientAccumulationSteps /= 2
        }

        func offload(_ part: OffloadTarget) { config.offload = config.offload.and(part) }

        func halveLength() {
            guard config.maxLength >= 64 else { return }
            config.maxLength /= 2
            if config.truncationMode == .error { config.truncationMode = .keepStart }
        }

        /// The options whose values are no longer the original ones.
        var options: [String] {
            FineTuneConfig.options.compactMap { option in
                let value = option.get(config)
                guard value != option.get(original) else { return nil }
                return switch value.content {
                case .boolean(true): option.flag
                case .boolean(false): "--no-" + option.flag.dropFirst(2)
                default: "\(option.flag) \(YAMLWriter.text(of: value))"
                }
            }
        }
    }

    // MARK: - Processes

    /// The fewest processes, doubling, with which the run fits as it is; their steps have as many rows more.
    private func byProcesses() throws -> PlanProposal? {
        var count = numRanks * 2
        while count <= Self.maxRanks {
            let plan = try planner.plan(config, numRanks: count)
            if plan.peakMemoryBytes <= limit {
                return PlanProposal(changes: ["\(count) processes"], plan: plan)
            }
            count *= 2
        }
        return nil
    }
}
