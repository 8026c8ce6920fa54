import PEFTData
import PEFTLayers
import PEFTModels
import PEFTSharding
import Torch

/// Looks for adapters that do not learn while training goes on: tensors that stand still, blocks without gradient, a loss
/// that is the base's.
///
/// It changes no numbers. Each finding is reported once.
///
/// - Complexity: for a step, the norms that clipping computes anyway; for a checkpoint, one look at the trainable tensors and two
///   forward passes of the preflight's few tokens.
package struct TrainingMonitor {
    /// The share of the other blocks' median gradient norm below which a block's gradient vanishes.
    static let vanishingShare: Float = 1e-6
    /// Updates between two looks, at least, before a tensor is said to stand still.
    ///
    /// In the first update of a new adapter `lora_A` rightly stays: its gradient is zero while B is zero.
    static let numUpdatesToMove = 2

    private let ready: ReadyModel
    private var hashes: [UInt64]
    private var numUpdates = 0
    private var reported: Set<String> = []

    /// Begins to watch a model as it is now.
    ///
    /// - Throws: `TorchError` if its tensors cannot be read.
    package init(_ ready: ReadyModel) throws {
        self.ready = ready
        hashes = try Self.hashes(of: ready.trainableParameters)
    }

    // MARK: - After a step

    /// Takes in a step.
    ///
    /// - Returns: blocks whose gradient vanishes.
    package mutating func add(_ result: TrainStep.Result) -> [Diagnosis] {
        if result.learningRate > 0 { numUpdates += 1 }
        var squares: [String: Float] = [:]
        for (norm, block) in zip(result.gradNorms, ready.blocks) {
            guard let block else { continue }
            squares[block, default: 0] += norm * norm
        }
        guard squares.count > 1 else { return [] }
        let sorted = squares.values.sorted()
        return squares.sorted { $0.key < $1.key }.compactMap { block, square in
            let median = Self.median(of: sorted, without: square)
            let limit = median * Self.vanishingShare * Self.vanishingShare
            guard median > 0, square <= limit, reported.insert(block).inserted else { return nil }
            let norm = square.squareRoot()
            return Diagnosis(
                .gradientVanishes, at: block,
                "the norm of its gradient is \(norm), that of the other blocks \(median.squareRoot())",
                remedy:
                    "look at what this block computes: saturated, scaled to nothing, or cut off; "
                    + "or leave it out with --layers-to-transform")
        }
    }

    private static func median(of sorted: [Float], without square: Float) -> Float {
        var others = sorted
        if let index = others.firstIndex(of: square) { others.remove(at: index) }
        return others[others.count / 2]
    }

    // MARK: - At a checkpoint

    /// Compares the tensors with those of the last look, and the loss with that of the base.
    ///
    /// - Returns: what stands still.
    /// - Throws: `TorchError` of the model.
    package mutating func look() throws -> [Diagnosis] {
        guard numUpdates >= Self.numUpdatesToMove else { return [] }
        let now = try Self.hashes(of: ready.trainableParameters)
        let still = try unchanged(hashes, now)
        var found: [Diagnosis] = []
        if !still.isEmpty, reported.insert("still").inserted {
            found.append(
                Diagnosis(
                    .tensorStandsStill, at: still[0],
                    "\(numUpdates) updates have not changed it by a bit",
                    remedy:
                        "check that its gradient is not zero, and that --learning-rate is not too "
                        + "small for float32", tensors: still))
        }
        if try isLossOfBase(), reported.insert("base").inserted {
            found.append(
                Diagnosis(
                    .lossOfTheBase, at: "the preflight's rows",
                    "after \(numUpdates) updates the loss with the adapter is, bit for bit, that "
                        + "without",
                    remedy: "check that the adapter's layers are called and that "
                        + "--learning-rate and --lora-alpha are not too small for the compute dtype"
                ))
        }
        hashes = now
        numUpdates = 0
        return found
    }

    /// The tensors of which no process has changed a piece.
    private func unchanged(_ before: [UInt64], _ now: [UInt64]) throws -> [String] {
        var numChanged = Array(repeating: 0.0, count: ready.gradients.entries.count)
        for (whole, (before, now)) in zip(ready.wholes, zip(before, now)) where before != now {
            numChanged[whole] += 1
        }
        return zip(ready.gradients.entries, try ready.ranks.sum(numChanged, for: "changed tensors"))
            .filter { $0.1 == 0 }.map(\.0.path)
    }

    private func isLossOfBase() throws(TorchError) -> Bool {
        try loss(usesAdapters: true).isEqual(to: loss(usesAdapters: false))
    }

    private func loss(usesAdapters: Bool) throws(TorchError) -> Tensor {
        let context = ForwardContext(
            layout: SequenceLayout(segmentLengths: ready.sample.segmentLengths),
            usesAdapters: usesAdapters)
        return try withoutGrad { () throws(TorchError) in
            try ready.adapted.base.model.losses(
                tokens: ready.sample.tokens, targets: ready.sample.targets, context: context,
                execution: ready.execution
            ).perTarget
        }
    }

    /// A hash of each tensor's bytes.
    private static func hashes(of parameters: [Parameter]) throws(TorchError) -> [UInt64] {
        try parameters.map { parameter throws(TorchError) in
            try parameter.value.detach().to(.cpu).withUnsafeBytes { StableHash.of($0) }
        }
    }
}
