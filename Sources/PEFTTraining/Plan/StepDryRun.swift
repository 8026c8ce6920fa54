import Foundation
import PEFTAdapters
import PEFTData
import PEFTLayers
import PEFTModels
import PEFTSharding
import Torch

/// A run's loading and two of its steps on tensors without elements: what memory they take and what they send.
///
/// The model, its adapter, the division over processes, backward and the optimizer are the very code of a run, so a plan knows
/// nothing of families, strategies or options by itself. Two steps, because what the first one gathers stays for the second.
struct StepDryRun {
    /// What was found.
    struct Result {
        /// Bytes of tensors by part, at the moment when most were alive.
        let parts: [DryRun.Part: Int]
        /// Bytes that the process sends in a step.
        let sentBytes: Int
    }

    /// The model's `config.json`.
    let configuration: Data
    /// What the run is told.
    let config: FineTuneConfig
    /// What is attached.
    let adapter: any AdapterConfig
    /// The number of processes.
    let numRanks: Int
    /// The largest micro-batch of any process.
    let microBatch: TokenBatch
    /// The largest batch of held-out rows; nil without evaluation.
    let evaluationBatch: TokenBatch?

    /// Micro-batches of a step that differ from each other: the first makes gradients, the others add to them.
    private static let maxMicroBatches = 2

    /// Runs it.
    ///
    /// - Throws: `ModelError`, `AdapterError` or ``TrainingError`` for what does not fit together; `TorchError`.
    /// - Complexity: as many operations as two steps have, each in microseconds.
    func callAsFunction() throws -> Result {
        var options = config.baseModel
        options.fit(adapter, seed: 0)
        options = try options.adjusted(toConfiguration: configuration)
        let plan = try ModelPlan(configuration, options: options)
        let ranks =
            numRanks == 1
            ? RankGroup() : try RankGroup(dryRunOf: config, numRanks: numRanks)
        let traffic = ranks.world?.traffic
        var sentBytes = 0
        let parts = try DryRun.peak {
            let shards =
                numRanks == 1 && !config.offload.hasBase
                ? nil : ModelShards(ranks, options: config.shards)
            let registry = ModuleRegistry()
            registry.blockOrder = options.blocks
            let model = try DryRun.part(.base) {
                try build(plan, options, shards: shards, in: registry)
            }
            let (own, rule, invocation) = try DryRun.part(.adapter) {
                registry.starts =
                    try options.start?.starts(
                        in: plan.registry, source: EmptySource(dtype: .float32),
                        options: options, ranks: ranks) ?? [:]
                let attached = try adapter.attach(to: registry, seed: 0)
                if config.optim.freezesA { try LoRAFA.freeze(attached.adapters) }
                let rule = try config.optim.rule(config, adapters: attached.adapters)
                try shards?.divideTrainable(
                    units: model.units, all: registry.trainableParameters,
                    granule: rule.granule(of: registry.trainableParameters))
                let own =
                    shards?.ownParameters
                    ?? registry.trainableParameters.map { OwnParameter(whole: $0) }
                return (own, rule, attached.invocation)
            }
            let optimizer = try DryRun.part(.optimizer) {
                try Optimizer(
                    own, rule: rule, groups: config.optimizerGroups,
                    wholes: registry.trainableParameters, ranks: ranks,
                    offloadFolder: config.optimizerFolder)
            }
            let step = Step(
                config, model, shards, registry.trainableParameters, optimizer, ranks,
                invocation: invocation)
            for _ in 0..<2 {
                let before = traffic?.sentBytes ?? 0
                try step(
                    microBatch,
                    count: min(Self.maxMicroBatches, config.gradientAccumulationSteps))
                sentBytes = (traffic?.sentBytes ?? 0) - before
            }
            if let evaluationBatch {
                try withoutGrad { _ = try step.losses(of: evaluationBatch) }
            }
        }
        return Result(parts: parts, sentBytes: sentBytes)
    }

    private func build(
        _ plan: ModelPlan, _ options: BaseModelOptions, shards: ModelShards?,
        in registry: ModuleRegistry
    ) throws -> any CausalLanguageModel {
        try shards?.layOut(
            shards?.dividesBase == true ? plan.layout : nil, blocks: plan.blocks,
            embedding: plan.embedding, isHeadTied: plan.isHeadTied)
        let source = EmptySource(dtype: options.computeDType)
        let model = try ModelRegistry.makeModel(
            config: configuration,
            Scope(
                registry: registry,
                source: options.source(source, dense: source, shards: shards)))
        try shards?.finishLoading()
        registry.keepWithin(shards)
        return model
    }
}

/// A step as ``TrainStep`` takes it, but for what reads numbers.
private struct Step {
    private let config: FineTuneConfig
    private let model: any CausalLanguageModel
    private let shards: ModelShards?
    private let trainable: [Parameter]
    private let optimizer: Optimizer
    private let execution: any BlockExecution
    private let ranks: RankGroup
    private let invocation: InvocationTokens?

    init(
        _ config: FineTuneConfig, _ model: any CausalLanguageModel, _ shards: ModelShards?,
        _ trainable: [Parameter], _ optimizer: Optimizer, _ ranks: RankGroup,
        invocation: InvocationTokens?
    ) {
        self.invocation = invocation
        self.trainable = trainable
        self.ranks = ranks
        self.config = config
        self.model = model
        self.shards = shards
        self.optimizer = optimizer
        let gathered: any BlockExecution =
            shards.map { GatheredExecution($0) } ?? ResidentExecution()
        execution = LossCounting(
            config.recomputationInterval.map { RecomputedExecution(gathered, every: $0) }
                ?? gathered)
    }

    func callAsFunction(_ microBatch: TokenBatch, count: Int) throws {
        let share = BatchSchedule.Share(
            microBatches: [microBatch], firstIndex: 0,
            numTargetTokens: microBatch.numTargetTokens, numTokens: microBatch.tokens.count,
            rowLengths: microBatch.segmentLengths)
        let sums = GradientSums()
        let forward = ForwardPass(
            losses: { batch, usesAdapters throws(TorchError) in
                try losses(of: batch, usesAdapters: usesAdapters, sums)
            }, ranks: ranks)
        for index in 0..<count {
            let value = try config.objective(microBatch, of: share, forward)
            let reduces = index == count - 1 || config.reduceEachMicroBatch
            shards?.beginBackward(reducing: reduces ? sums : nil)
            try value.output.backward(gradient: value.gradient ?? Tensor.full([], 1))
            try shards?.endBackward()
        }
        try shards?.handOverGradients()
        if shards == nil { try sums.handOver(to: trainable) }
        try DryRun.part(.optimizer) {
            try optimizer.update(learningRate: config.learningRate)
        }
        shards?.parametersChanged()
        try optimizer.clearGradients()
    }

    func losses(
        of batch: TokenBatch, usesAdapters: Bool = true, _ sums: GradientSums? = nil
    ) throws(TorchError) -> TokenLosses {
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: batch.segmentLengths),
            dropout: DropoutKey(seed: 0, step: 0, microBatch: 0), usesAdapters: usesAdapters,
            regularization: config.regularization, gradientSums: sums)
        return try model.losses(
            tokens: activating(batch), targets: batch.targets, context: context,
            execution: execution)
    }

    /// Tokens that activate the adapter from each row's second one on: no row needs more memory.
    private func activating(_ batch: TokenBatch) -> [Int32] {
        guard let invocation else { return batch.tokens }
        var tokens = batch.tokens
        var start = 0
        for length in batch.segmentLengths {
            let places = (start + 1)..<(start + length)
            for (place, token) in zip(places, invocation.tokens) { tokens[place] = Int32(token) }
            start += length
        }
        return tokens
    }
}

/// Counts what the head takes for the loss.
private final class LossCounting: BlockExecution {
    private let inner: any BlockExecution

    init(_ inner: any BlockExecution) { self.inner = inner }

    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        try inner.run(unit, hiddenStates, body)
    }

    func atEnd<Result>(
        _ end: ModelEnd, _ body: () throws(TorchError) -> Result
    ) throws(TorchError) -> Result {
        try DryRun.part(end == .output ? .loss : .activations) { () throws(TorchError) in
            try inner.atEnd(end, body)
        }
    }
}

/// Tensors without numbers, for every path.
private final class EmptySource: ParameterSource {
    private let dtype: DType

    init(dtype: DType) { self.dtype = dtype }

    func tensor(at path: String, shape: [Int]) throws -> Tensor {
        try Tensor.empty(shape, dtype: dtype)
    }

    func elements(_ range: Range<Int>, at path: String, shape: [Int]) throws -> Tensor {
        try Tensor.empty([range.count], dtype: dtype)
    }
}
