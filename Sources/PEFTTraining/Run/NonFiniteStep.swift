import PEFTData
import PEFTLayers
import PEFTSharding
import Torch

/// Finds out which row, layer and operation made a step infinite or NaN.
///
/// It runs the step's micro-batches again, with the same dropout, and looks at every result: only after a step has failed.
struct NonFiniteStep {
    /// Updates done before the step.
    let step: Int
    /// The micro-batches of the step.
    let microBatches: [TokenBatch]
    /// The model; its gradients are overwritten.
    let sharded: ShardedModel
    /// The gradient of each micro-batch's sum of losses, scale included.
    let weight: Tensor
    /// The loss scale that is in ``weight``; nil without loss scaling.
    let lossScale: Double?
    /// Runs forward on rows of the micro-batch of this number, as the step does.
    let losses: (TokenBatch, Int) throws(TorchError) -> TokenLosses

    private var ranks: RankGroup { sharded.shards?.ranks ?? RankGroup() }
    private var parameters: [Parameter] { sharded.trainableParameters }

    /// Where the loss goes wrong, the same in every process.
    ///
    /// - Parameter sums: the sum of each micro-batch of this process.
    /// - Returns: what was found where.
    /// - Throws: `TorchError` of the model.
    func diagnosis(losses sums: [Double]) throws -> Diagnosis {
        let own = sums.firstIndex { !$0.isFinite }
        let all = try ranks.exchange(own.map(String.init) ?? "", for: "micro-batches").map {
            Int($0)
        }
        guard let rank = all.firstIndex(where: { $0 != nil }), let index = all[rank] else {
            // Each sum is finite, and their sum is not.
            return Diagnosis(
                .lossNotFinite, at: "step \(step + 1)",
                "the sum of the losses overflows, and nothing was updated", remedy: remedy(nil))
        }
        var perTarget: [Float] = []
        let search = try NonFiniteSearch.run {
            perTarget = try withoutGrad { () throws(TorchError) in
                try losses(microBatches[index], index).perTarget.floats()
            }
        }
        let row = row(of: search, in: index) ?? row(ofTargets: perTarget, in: index)
        // Some NaNs would be printed with their bits.
        let text = sums.indices.contains(index) && !sums[index].isNaN ? "\(sums[index])" : "nan"
        return try share(
            Diagnosis(
                .lossNotFinite, at: place(row, search),
                "the loss is \(text), and nothing was updated", remedy: remedy(row)),
            of: rank)
    }

    /// Where the gradients of the step go wrong, the same in every process.
    ///
    /// - Throws: `TorchError` of the model.
    func diagnosis(norm: Double, each: [Double]) throws -> Diagnosis {
        var row: Int?
        var found: NonFiniteSearch?
        for (index, batch) in microBatches.enumerated() where found == nil || ranks.size > 1 {
            let search = try NonFiniteSearch.run {
                try losses(batch, index).sum.backward(gradient: weight)
            }
            guard search.operation != nil, found == nil else { continue }
            found = search
            row = self.row(of: search, in: index)
        }
        // What libtorch differentiates by itself is not seen; the row is found all the same. In several processes not, since
        // each would have another number of rows to run.
        if row == nil, ranks.size == 1 { row = try rowWithBadGradient() }
        let all = try ranks.exchange(found == nil ? "" : "found", for: "gradients")
        return try share(
            Diagnosis(
                .gradientNotFinite, at: place(row, found),
                "the norm of the gradients is \(norm)\(scaleText), and nothing was updated",
                remedy: remedy(row),
                tensors: zip(parameters, each).filter { !$0.1.isFinite }.map(\.0.path)),
            of: all.firstIndex { !$0.isEmpty } ?? 0)
    }

    /// What one process found, for all of them.
    private func share(_ found: Diagnosis, of rank: Int) throws -> Diagnosis {
        guard ranks.size > 1 else { return found }
        let places = try ranks.exchange(found.place, for: "place")
        let remedies = try ranks.exchange(found.remedy, for: "remedy")
        let reasons = try ranks.exchange(found.reason, for: "reason")
        return Diagnosis(
            found.code, at: "\(places[rank]), on rank \(rank)", reasons[rank],
            remedy: remedies[rank], tensors: found.tensors)
    }

    /// The file's row whose gradients alone are not finite.
    private func rowWithBadGradient() throws -> Int? {
        for (index, batch) in microBatches.enumerated() {
            for segment in batch.rows.indices {
                for parameter in parameters { try parameter.value.setGrad(nil) }
                try losses(batch.segment(segment), index).sum.backward(gradient: weight)
                let isBad = try parameters.contains { parameter in
                    try parameter.value.grad.map { try !$0.allFinite() } ?? false
                }
                if isBad { return batch.rows[segment] }
            }
        }
        return nil
    }

    // MARK: - In words

    private func place(_ row: Int?, _ search: NonFiniteSearch?) -> String {
        var parts = ["step \(step + 1)"]
        if let row { parts.append("row \(row + 1)") }
        if let place = search?.place { parts.append(place) }
        return parts.joined(separator: ", ")
    }

    private var scaleText: String { lossScale.map { " at loss scale \($0)" } ?? "" }

    private func remedy(_ row: Int?) -> String {
        "lower --learning-rate, compute in --dtype float32, "
            + (row == nil ? "" : "look at this row, ")
            + "or leave such steps out with --on-non-finite skip"
    }

    // MARK: - Rows

    /// The file's row of the first token whose result is not finite, where the result is by token.
    private func row(of search: NonFiniteSearch, in index: Int) -> Int? {
        let batch = microBatches[index]
        if batch.rows.count == 1 { return batch.rows[0] }
        guard let token = search.firstIndex, search.extent == batch.tokens.count else { return nil }
        return row(ofToken: token, in: batch)
    }

    /// The file's row of the first target whose loss is not finite.
    private func row(ofTargets losses: [Float], in index: Int) -> Int? {
        let batch = microBatches[index]
        let tokens = batch.targets.indices.filter {
            batch.targets[$0] != TokenBatch.ignoredTarget
        }
        guard let target = losses.firstIndex(where: { !$0.isFinite }) else { return nil }
        return row(ofToken: tokens[target], in: batch)
    }

    private func row(ofToken token: Int, in batch: TokenBatch) -> Int? {
        var end = 0
        for (length, row) in zip(batch.segmentLengths, batch.rows) {
            end += length
            if token < end { return row }
        }
        return nil
    }
}
