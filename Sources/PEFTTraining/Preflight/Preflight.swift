import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTData
import PEFTLayers
import PEFTModels
import PEFTQuantization
import PEFTSharding
import PEFTTokenizers
import Torch

/// Everything that a run needs before its first step, all of it checked.
struct PreparedRun {
    let base: BaseModel
    let data: TokenDataset
    let heldOut: [HeldOutRows]
    let batches: BatchSchedule
    let ready: ReadyModel
    let plan: RunPlan
}

/// Goes through the stages up to step 0 and notes what is found: for `train`, which ends at the first failure, and for `doctor`,
/// which goes on as far as it can.
final class Preflight {
    /// What was found so far.
    private(set) var result = PreflightReport()

    /// Bytes that were free on the device before anything of the run was there; nil for the CPU.
    private var freeOnDevice: Int?
    /// What a check found wrong besides what it threw.
    private var furtherFailures: [String] = []

    private let config: FineTuneConfig
    private let checkpoint: RunCheckpoint?
    private let start: URL?
    private let ranks: RankGroup
    private let device: Device
    private let onFailure: (any Error) throws -> Void
    private let report: (TrainingEvent) -> Void

    /// Prepares the checks of a run.
    ///
    /// - Parameters:
    ///   - config: what the run is told; valid.
    ///   - checkpoint: where it continues, if it does.
    ///   - start: the adapter as rows of data let it start; nil for one that starts without, or is only to be checked.
    ///   - ranks: the processes of the run, which all make the same checks.
    ///   - device: where the model is.
    ///   - onFailure: throws to end at a failure, returns to go on.
    ///   - report: called with the events of loading.
    init(
        _ config: FineTuneConfig, checkpoint: RunCheckpoint?, start: URL? = nil, ranks: RankGroup,
        device: Device,
        onFailure: @escaping (any Error) throws -> Void, report: @escaping (TrainingEvent) -> Void
    ) {
        self.config = config
        self.checkpoint = checkpoint
        self.start = start
        self.ranks = ranks
        self.device = device
        self.onFailure = onFailure
        self.report = report
    }

    /// Makes every check.
    ///
    /// - Returns: what the run needs; nil if a check failed and `onFailure` went on.
    /// - Throws: what `onFailure` throws.
    func run() throws -> PreparedRun? {
        let clock = ContinuousClock()
        let start = clock.now
        note("processor", .passed, [processor])
        if !device.isHost { freeOnDevice = try check("device", findDevice) }
        let heldAtStart = MemoryStatistics.current().residentBytes
        let base = try check("base model", loadBase)
        let heldWithBase = MemoryStatistics.current().residentBytes
        let files = RowFilesOfRun(config)
        let parts = try files.training.compactMap { path in
            try check("rows", after: base) { try read(path, files, $0) }
        }
        let data = parts.count == files.training.count ? files.join(parts) : nil
        let heldOut = try files.heldOut.compactMap { file in
            try check("held-out rows", after: base) { try read(file.path, files, $0) }
                .map { HeldOutRows(name: file.name, rows: $0) }
        }
        let heldByRows = max(0, MemoryStatistics.current().residentBytes - heldWithBase)
        let batches = try check("batches", after: data) { data in
            let batches = try BatchSchedule(
                dataset: data, options: config.batches(numRanks: ranks.size))
            try checkpoint?.requireMatch(
                settings: config.mathematicalSettings(numRanks: ranks.size), dataDigest: data.digest
            )
            return Found(batches, ["\(batches.stepsPerEpoch) steps an epoch"])
        }
        let adapted = try check("adapter", after: base, attach)
        if let adapted {
            let numRead = try ranks.sum(
                [Double(adapted.base.files.source.numElementsRead)], for: "elements read")
            report(
                .loaded(
                    adapted.description(
                        numElementsRead: Int(numRead[0]),
                        loadSeconds: (clock.now - start).seconds)))
        }
        let sharded = try check("trainable set", after: adapted, divide)
        let both = sharded.flatMap { sharded in data.map { (sharded, $0) } }
        _ = try check("dtypes", after: both) { try requireDTypes($0, $1) }
        let planned = sharded.flatMap { sharded in
            data.flatMap { data in batches.map { (sharded, data, $0) } }
        }
        let resources = try check("resources", after: planned) { sharded, data, batches in
            try requireResources(
                sharded, batches, .known(data, heldOut: heldOut.map(\.rows)),
                processBytes: ProcessMemory.predicted(residentBytes: heldAtStart + heldByRows))
        }
        let ready = try check("gradients", after: both) { try prove($0, $1) }
        guard let base, let data, let batches, let resources, let ready else { return nil }
        if heldOut.count < files.heldOut.count { return nil }
        return PreparedRun(
            base: base, data: data, heldOut: heldOut, batches: batches, ready: ready,
            plan: resources.plan)
    }

    // MARK: - Checks

    /// Which kernels compute, and whose choice that was.
    private var processor: String {
        let (used, fastest) = (InstructionSet.best, InstructionSet.fastest)
        guard used != fastest else { return "kernels for \(used.name)" }
        return "kernels for \(used.name), by \(InstructionSet.variable); the fastest here are for "
            + fastest.name
    }

    /// Where the model will be, and what is free there before it is.
    private func findDevice() throws -> Found<Int> {
        let memory = try device.memory()
        return Found(
            memory.freeBytes,
            ["\(device), \(memory.freeBytes.megabytes) of \(memory.totalBytes.megabytes) free"])
    }

    private func requireDeviceMemory(_ plan: RunPlan) throws -> String {
        let free = try device.memory().freeBytes
        let held = max(0, (freeOnDevice ?? free) - free)
        try RunResources.require(memory: free, held: held, for: plan.onDevice, at: "\(device)")
        return "memory of \(device): \(plan.onDevice.peakMemoryBytes.megabytes) at the peak, "
            + "\(held.megabytes) held now, \(free.megabytes) more available"
    }

    private func loadBase() throws -> Found<BaseModel> {
        let isWhole = ranks.size == 1 && !config.offload.hasBase
        var options = config.baseModel(on: device)
        if let startFolder {
            try options.fit(loading: startFolder)
        } else {
            options.fit(newAdapter, seed: UInt64(config.seed))
        }
        let base = try BaseModel(
            at: URL(filePath: config.model), options: options,
            shards: isWhole ? nil : ModelShards(ranks, options: config.shards, on: device))
        let storage = base.options.storage == "none" ? "dense" : base.options.storage
        return Found(
            base, ["\(base.architecture), \(base.registry.numElements) parameters, \(storage)"])
    }

    private func read(
        _ path: String, _ files: RowFilesOfRun, _ base: BaseModel
    ) throws -> Found<TokenDataset> {
        let tokenizer = try base.files.makeTokenizer()
        let rows = try files.load(path, tokenizer: tokenizer)
        try rows.requireTokens(below: base.model.vocabularySize)
        let summary = rows.summary(path: path)
        report(.datasetAudit(summary))
        if result.sample == nil, let first = rows.sequences.first {
            result.sample = try MaskedSample(first, tokenizer: tokenizer)
        }
        return Found(rows, ["\(path): \(rows.audit)"], warnings: summary.warnings)
    }

    /// The folder of the adapter to go on with or to start from; nil for a new one.
    private var startFolder: URL? {
        checkpoint?.folder ?? config.adapter.map { URL(filePath: $0) } ?? start
    }

    /// The adapter where none is loaded.
    ///
    /// A start that rows decide takes passes over the data: a check takes the usual one instead.
    private var newAdapter: LoRAConfig {
        config.initLoraWeights.readsRows ? config.lora.startingPlainly : config.lora
    }

    /// Attaches the checkpoint's adapter, the one to start from, or a new one.
    private func attach(_ base: BaseModel) throws -> Found<AdaptedModel> {
        let seed = UInt64(config.seed)
        let folder = startFolder
        let adapted =
            if let folder {
                try AdaptedModel(
                    base, loading: folder, seed: seed,
                    ignoresBaseFingerprint: config.ignoreBaseFingerprint)
            } else {
                try AdaptedModel(base, adapter: newAdapter, seed: seed)
            }
        let isPlain = folder == nil && config.initLoraWeights.readsRows
        let origin =
            folder.map { "from \($0.path)" }
            ?? (isPlain ? "new, not started from rows as in a run" : "new")
        let matches = adapted.adapter.matches.map {
            "\($0.option) \($0.pattern): \($0.numMatches) layers"
        }
        return Found(
            adapted, ["\(origin), on \(adapted.adapter.numAdaptedLinears) layers"] + matches)
    }

    private func divide(_ adapted: AdaptedModel) throws -> Found<ShardedModel> {
        let head = adapted.base.model.head
        if config.lossType != .nll, !head.trainableParameters.isEmpty {
            throw TrainingError.headIsTrained(
                path: head.path, lossType: config.lossType.rawValue)
        }
        if config.lossType.hasReference, adapted.adapter.subtracted != nil,
            let start = adapted.base.options.start
        {
            throw TrainingError.baseIsDivided(
                start: start.config.startOption, lossType: config.lossType.rawValue)
        }
        if config.optim.freezesA { try LoRAFA.freeze(adapted.adapter.adapters) }
        let rule = try config.optim.rule(config, adapters: adapted.adapter.adapters)
        let sharded = try ShardedModel(
            adapted, recomputingEvery: config.recomputationInterval,
            granule: rule.granule(of: adapted.trainableParameters))
        let count = sharded.trainableParameters.count
        return Found(sharded, ["\(count) tensors, each in one place"])
    }

    /// The combination was checked with the configuration; here it is that the model holds it.
    private func requireDTypes(
        _ sharded: ShardedModel, _ data: TokenDataset
    ) throws -> Found<PrecisionRules.Combination> {
        let precision = config.precision
        try PrecisionRules.validate(precision)
        try PrecisionRules.check(
            sharded.adapted, sample: data.sample(maxTokens: ReadyModel.maxSampleTokens),
            execution: sharded.execution)
        return Found(precision, [precision.description])
    }

    private func requireResources(
        _ sharded: ShardedModel, _ batches: BatchSchedule, _ rows: PlannedRows, processBytes: Int
    ) throws -> Found<RunResources> {
        let adapted = sharded.adapted
        let planner = Planner(
            configuration: adapted.base.files.configuration, adapter: adapted.adapter.config,
            rows: rows, processBytes: processBytes)
        let steps = config.totalSteps(stepsPerEpoch: batches.stepsPerEpoch)
        let saved = config.saveSteps > 0 ? (steps + config.saveSteps - 1) / config.saveSteps : 1
        let needed = RunResources(
            plan: try planner.plan(config, numRanks: ranks.size),
            adapterBytes: adapted.adapter.parameters.reduce(0) { $0 + $1.value.sizeBytes }
                + (adapted.adapter.subtracted?.tensors.values.reduce(0) { $0 + $1.sizeBytes } ?? 0),
            stateBytes: try stateBytes(of: sharded),
            numCheckpoints: min(max(1, saved), config.saveTotalLimit ?? .max))
        var findings: [String] = []
        if let free = RunResources.freeDiskBytes(at: config.outputDir) {
            try needed.require(disk: free, of: config.outputDir)
            findings.append(
                "disk: \(needed.diskBytes.megabytes) for \(needed.numCheckpoints) checkpoints and "
                    + "the adapter, \(free.megabytes) free")
        }
        if !device.isHost {
            findings.append(try requireDeviceMemory(needed.plan))
        } else if let free = RunResources.availableMemoryBytes() {
            let held = MemoryStatistics.current().residentBytes
            try needed.require(memory: free, held: held)
            findings.append(
                "memory: \(needed.plan.peakMemoryBytes.megabytes) at the peak, "
                    + "\(held.megabytes) held now, \(free.megabytes) more available")
        }
        return Found(needed, findings)
    }

    /// Bytes of the optimizer's state of all processes.
    private func stateBytes(of sharded: ShardedModel) throws -> Int {
        let rule = try config.optim.rule(config, adapters: sharded.adapted.adapter.adapters)
        return sharded.trainableParameters.reduce(0) { sum, parameter in
            let whole = UpdatedPiece(OwnParameter(whole: parameter))
            return sum + rule.state(of: whole).reduce(0) { $0 + $1.sizeBytes }
        }
    }

    private func prove(
        _ sharded: ShardedModel, _ data: TokenDataset
    ) throws -> Found<ReadyModel> {
        let invocation = sharded.adapted.adapter.invocation
        if let invocation {
            if config.sharePrefixes { throw TrainingError.prefixesAreActivated }
            try data.requireActivation(by: invocation)
        }
        let sample = data.sample(
            maxTokens: ReadyModel.maxSampleTokens, invocation: invocation)
        let gradients = try ReadyModel.report(on: sharded, sample: sample)
        result.gradients = GradientTable(gradients)
        result.loss = gradients.loss
        furtherFailures = gradients.problems.dropFirst().map(\.description)
        let ready = try ReadyModel(sharded, proof: gradients, sample: sample)
        return Found(
            ready,
            [
                "\(gradients.entries.count) of \(gradients.entries.count) trainable tensors are "
                    + "connected to the loss, all gradients finite, no frozen tensor has one"
            ])
    }
}

// MARK: - Noting

extension Preflight {
    /// What a check gave.
    private struct Found<Value> {
        let value: Value
        let findings: [String]
        let warnings: [String]

        init(_ value: Value, _ findings: [String], warnings: [String] = []) {
            self.value = value
            self.findings = findings
            self.warnings = warnings
        }
    }

    private func check<Value>(
        _ topic: String, _ body: () throws -> Found<Value>
    ) throws -> Value? {
        do {
            let found = try body()
            note(
                topic, found.warnings.isEmpty ? .passed : .warning,
                found.findings + found.warnings)
            return found.value
        } catch {
            note(topic, .failed, [DiagnosisCode.message(of: error)] + furtherFailures)
            try onFailure(error)
            return nil
        }
    }

    private func check<Input, Value>(
        _ topic: String, after input: Input?, _ body: (Input) throws -> Found<Value>
    ) throws -> Value? {
        guard let input else {
            note(topic, .skipped, [])
            return nil
        }
        return try check(topic) { try body(input) }
    }

    private func note(
        _ topic: String, _ outcome: PreflightReport.Outcome, _ findings: [String]
    ) {
        result.checks.append(
            PreflightReport.Check(topic: topic, outcome: outcome, findings: findings))
    }
}
