public import Foundation
public import PEFTAdapters
import PEFTCheckpoints
public import PEFTData
import PEFTLayers
import PEFTModels
import Torch

/// How a LoRA starts where rows of data decide it: EVA, CorDA, LoRA-GA.
///
/// The rows go through the unquantized base, and what enters its layers, or the gradient of their weights, gives A and B. They are written as
/// an adapter folder, with what is taken out of the base's weights as `initial_adapter` in it; from there a run goes on as from any adapter, so
/// storage, sharding and checkpoints know nothing of rows. The base itself need not be dense then.
public struct CalibratedStart: Sendable {
    private let config: LoRAConfig
    private let seed: UInt64

    /// The folder, within that of a run, of the adapter as it starts.
    static let folderName = "start"

    /// Passes over the rows after which EVA's components count as never to be found.
    private static let maxPasses = 100

    /// The start of a new adapter; nil if it does not depend on rows.
    ///
    /// - Parameters:
    ///   - config: the adapter.
    ///   - seed: of what is random in the start.
    public init?(_ config: any AdapterConfig, seed: UInt64) {
        guard let config = config as? LoRAConfig, config.initLoraWeights.readsRows else {
            return nil
        }
        (self.config, self.seed) = (config, seed)
    }

    /// Computes the start and writes it as an adapter folder.
    ///
    /// `BaseModelOptions.fit(loading:)` and `AdaptedModel(_:loading:)` take it from there.
    ///
    /// - Parameters:
    ///   - base: the base model in the numbers of its files: read without quantization and without a start; no adapter may be attached. It
    ///     has one afterwards and is of no further use.
    ///   - batches: rows of the training data. CorDA and LoRA-GA take each once, CorDA every row by itself; EVA takes them again and
    ///     again, until components no longer turn.
    ///   - interval: for each of so many blocks one is computed again in backward, for LoRA-GA; nil for none.
    ///   - folder: where the adapter is written.
    ///   - stop: asks to end; looked at before each batch and each layer.
    /// - Returns: whether it was written; false if it was asked to end before.
    /// - Throws: `AdapterError` for layers that cannot start so; ``TrainingError/notCalibrated(initialization:reason:)`` for rows that do
    ///   not decide it; `CheckpointError.cannotWrite`.
    /// - Memory: the base, and in float32 a matrix for each layer, all at once: `[inFeatures, inFeatures]` for each distinct input (CorDA),
    ///   `[outFeatures, inFeatures]` (LoRA-GA), the components (EVA).
    @discardableResult
    public func write(
        _ base: BaseModel, batches: [TokenBatch], recomputingEvery interval: Int? = nil,
        to folder: URL, stop: StopRequest = StopRequest()
    ) throws -> Bool {
        let layers = try targets(of: base)
        let config: LoRAConfig
        let starts: [String: LowRankStart]
        do {
            (config, starts) =
                switch self.config.initLoraWeights {
                case .eva: try eva(base, layers, batches, stop)
                case .corda: (self.config, try corda(base, layers, batches, stop))
                default: (self.config, try gradients(base, layers, batches, interval, stop))
                }
        } catch is Stopped {
            return false
        }
        let adapted = try AdaptedModel(base, adapter: config, starts: starts, seed: seed)
        try AdapterWriter(adapted: adapted).write(to: folder)
        return true
    }

    /// Somebody asked to end.
    private struct Stopped: Error {}

    private func goOn(unless stop: StopRequest) throws(Stopped) {
        if stop.signal != nil { throw Stopped() }
    }

    private typealias Layer = (target: LoRATarget, linear: Linear)

    /// The layers, if they can start so.
    private func targets(of base: BaseModel) throws -> [Layer] {
        let layers = try config.weightTargets(in: base.registry)
        for (target, _) in layers {
            if target.path == base.model.head.path {
                throw AdapterError.unsuitable(
                    config.startOption, target.path,
                    "is the output head, whose input is not looked at",
                    "leave it out of target_modules")
            }
            if config.initLoraWeights.readsWeight,
                base.options.quantization != nil || base.options.stored != nil
            {
                throw AdapterError.quantizedAlready(target, config)
            }
        }
        return layers
    }

    private func failed(_ reason: String) -> TrainingError {
        .notCalibrated(initialization: config.initLoraWeights.name, reason: reason)
    }

    // MARK: - Passes

    /// Runs the base on a batch.
    private func run(_ base: BaseModel, _ batch: TokenBatch) throws {
        let tokens = try Tensor(batch.tokens, shape: [batch.tokens.count]).to(.int64)
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: batch.segmentLengths))
        try withoutGrad { () throws(TorchError) in
            _ = try base.model.hiddenStates(
                tokens, context: context, execution: ResidentExecution())
        }
    }

    /// Runs something while adapters that only look on are on some layers.
    private func observing<Result>(
        _ layers: [(linear: Linear, observer: any LinearAdapter)], _ body: () throws -> Result
    ) rethrows -> Result {
        for (linear, observer) in layers { linear.attach(observer) }
        defer { for (linear, _) in layers { linear.detachAdapter() } }
        return try body()
    }

    /// For each layer the index of the first one that has the same input, by its numbers on a batch.
    private func firstOfInput(
        _ base: BaseModel, _ layers: [Layer], _ batch: TokenBatch
    ) throws -> [Int] {
        var hashes = Array(repeating: 0, count: layers.count)
        let observers = layers.enumerated().map { index, layer in
            (
                layer.linear,
                InputObserver { input throws(TorchError) in
                    var hasher = Hasher()
                    let values = try input.to(.cpu).contiguous()
                    hasher.combine(values.shape)
                    values.withUnsafeBytes { hasher.combine(bytes: $0) }
                    hashes[index] = hasher.finalize()
                } as any LinearAdapter
            )
        }
        try observing(observers) { try run(base, batch) }
        return hashes.map { hash in hashes.firstIndex(of: hash) ?? 0 }
    }

    // MARK: - EVA

    private func eva(
        _ base: BaseModel, _ layers: [Layer], _ batches: [TokenBatch], _ stop: StopRequest
    ) throws -> (LoRAConfig, [String: LowRankStart]) {
        guard let first = batches.first else { throw failed("there are no rows") }
        let options = config.evaConfig ?? EVAConfig()
        var eva = EVA(
            layers.map(\.target), firstOfInput: try firstOfInput(base, layers, first),
            options: options)
        for (index, layer) in layers.enumerated()
        where eva.maxRank(of: index) > layer.linear.weight.inFeatures {
            throw failed(
                "\(layer.target.path) has \(layer.linear.weight.inFeatures) inputs, and may get rank "
                    + "\(eva.maxRank(of: index)): give a smaller r or eva_rho")
        }
        for count in 0..<Self.maxPasses * batches.count {
            try goOn(unless: stop)
            let open = eva.open
            if open.isEmpty { return try eva.result(config, layers.map(\.linear)) }
            let batch = batches[count % batches.count]
            let positions = try positions(of: batch, options)
            let observers = open.map { index in
                (
                    layers[index].linear,
                    InputObserver { input throws(TorchError) in
                        try eva.add(input.to(.cpu).indexSelected(0, positions), to: index)
                    } as any LinearAdapter
                )
            }
            try observing(observers) { try run(base, batch) }
            if count + 1 == batches.count, let index = eva.untouched.first {
                throw failed(
                    "no batch has the \(eva.maxRank(of: index)) tokens that the components of "
                        + "\(layers[index].target.path) take: give a larger "
                        + "per_device_train_batch_size, or a smaller r or eva_rho")
            }
            eva.divideRanks()
        }
        throw failed(
            "components still turn after \(Self.maxPasses) passes over the rows: give a smaller "
                + "eva_tau, or more calibration_rows")
    }

    /// The tokens that are looked at: those that are targets, but for the first of a row, which nothing predicts.
    private func positions(of batch: TokenBatch, _ options: EVAConfig) throws -> Tensor {
        var positions: [Int64] = []
        var start = 0
        for length in batch.segmentLengths {
            for position in start..<start + length
            where !options.useLabelMask
                || (position > start
                    && batch.targets[position - 1] != TokenBatch.ignoredTarget)
            {
                positions.append(Int64(position))
            }
            start += length
        }
        return try Tensor(positions, shape: [positions.count])
    }

    // MARK: - CorDA

    private func corda(
        _ base: BaseModel, _ layers: [Layer], _ batches: [TokenBatch], _ stop: StopRequest
    ) throws -> [String: LowRankStart] {
        guard let first = batches.first else { throw failed("there are no rows") }
        let firstOfInput = try firstOfInput(base, layers, first)
        var covariances: [Int: InputCovariance] = [:]
        for batch in batches {
            try goOn(unless: stop)
            let observers = Set(firstOfInput).sorted().map { index in
                (
                    layers[index].linear,
                    InputObserver { input throws(TorchError) in
                        var start = 0
                        for length in batch.segmentLengths {
                            try covariances[index, default: InputCovariance()]
                                .add(input.narrow(0, start, length))
                            start += length
                        }
                    } as any LinearAdapter
                )
            }
            try observing(observers) { try run(base, batch) }
        }
        return try starts(base, layers) { index, weight in
            try goOn(unless: stop)
            let input = firstOfInput[index]
            guard let covariance = try covariances[input]?.mean() else {
                throw failed(
                    "what enters \(layers[index].target.path) has an infinity or a NaN, or is never "
                        + "above 0 in a row")
            }
            return try config.cordaStart(
                of: layers[index].target, weight: weight, covariance: covariance.to(.cpu))
        }
    }

    // MARK: - LoRA-GA

    private func gradients(
        _ base: BaseModel, _ layers: [Layer], _ batches: [TokenBatch], _ interval: Int?,
        _ stop: StopRequest
    ) throws -> [String: LowRankStart] {
        let batches = batches.filter { $0.numTargetTokens > 0 }
        let observers = layers.map { ($0.linear, WeightGradientObserver()) }
        let execution: any BlockExecution =
            interval.map { RecomputedExecution(every: $0) } ?? ResidentExecution()
        // Nothing of the base is trained: without this, backward would end before it begins.
        base.model.enableInputRequireGrads()
        try observing(observers.map { ($0, $1 as any LinearAdapter) }) {
            for batch in batches {
                try goOn(unless: stop)
                let context = ForwardContext(
                    layout: SequenceLayout(segmentLengths: batch.segmentLengths))
                let losses = try base.model.losses(
                    tokens: batch.tokens, targets: batch.targets, context: context,
                    execution: execution)
                try (losses.sum * (1 / Double(batch.numTargetTokens))).backward()
            }
        }
        return try starts(base, layers) { index, weight in
            try goOn(unless: stop)
            let observer = observers[index].1
            guard let sum = observer.sum, try sum.allFinite() else {
                throw failed(
                    "the gradient of \(layers[index].target.path) is not there or not finite: are "
                        + "there targets in the rows?")
            }
            return try config.gradientStart(
                of: layers[index].target, weight: weight,
                gradient: (sum * (1 / Double(observer.numPasses))).to(.cpu), seed: seed)
        }
    }

    /// A start for each layer, from the weight in the numbers of the file.
    private func starts(
        _ base: BaseModel, _ layers: [Layer],
        _ start: (Int, Tensor) throws -> LowRankStart
    ) throws -> [String: LowRankStart] {
        var starts: [String: LowRankStart] = [:]
        try withoutGrad {
            for (index, layer) in layers.enumerated() {
                let weight = layer.linear.weight
                starts[layer.target.path] = try start(
                    index,
                    base.files.source.tensor(
                        at: layer.target.path + ".weight",
                        shape: [weight.outFeatures, weight.inFeatures]))
            }
        }
        return starts
    }
}
