import PEFTData
import PEFTLayers
import PEFTSharding
import Torch

/// Preference training: the model's log probabilities of completions against those of its base, the adapter switched off.
///
/// - Complexity: one forward pass without adapter beside that of the model; two of each for KTO; no further one for ORPO.
struct PreferenceObjective: Objective {
    /// The loss.
    let loss: PreferenceLoss

    /// Each micro-batch divides by what it knows of the step.
    func divisor(of share: BatchSchedule.Share) -> Double { 1 }

    func callAsFunction(
        _ batch: TokenBatch, of share: BatchSchedule.Share, _ forward: ForwardPass
    ) throws -> ObjectiveValue {
        let completions = Completions(batch)
        let reference =
            loss.kind.hasReference
            ? try sums(of: batch, completions, usesAdapters: false, forward) : nil
        let divergence = loss.kind == .kto ? try self.divergence(of: batch, forward) : 0
        // The chosen rows of ORPO are learned from their first token on.
        let learned = loss.kind == .orpo ? Self.withPromptsLearned(batch) : batch
        let policy = try forward.losses(learned, true)
        guard !DryRun.isOn else {
            return ObjectiveValue(
                output: policy.each, gradient: try Tensor.zeros(policy.each.shape), loss: 0,
                rewards: nil)
        }
        let values = try policy.perTarget.floats()
        let targets = Targets(learned, completions: batch)
        var logProbabilities = Array(repeating: 0.0, count: completions.count)
        for (value, target) in zip(values, targets.all) where target.isCompletion {
            logProbabilities[target.segment] -= Double(value)
        }
        let scores = logProbabilities.indices.map { segment in
            PreferenceLoss.Score(
                policy: logProbabilities[segment], reference: reference?[segment] ?? 0,
                numTokens: max(1, completions.numTargets[segment]))
        }
        var result = Slopes(numSegments: scores.count)
        if loss.kind == .kto {
            add(scores, batch, divergence, numRows: share.rowLengths.count, to: &result)
        } else {
            add(scores, numPairs: share.rowLengths.count / 2, to: &result)
        }
        return try value(policy, values, targets, share, result)
    }

    // MARK: - Passes

    /// The log probability of each completion.
    private func sums(
        of batch: TokenBatch, _ completions: Completions, usesAdapters: Bool,
        _ forward: ForwardPass
    ) throws -> [Double] {
        let losses = try withoutGrad { () throws(TorchError) in
            try forward.losses(batch, usesAdapters)
        }
        guard !DryRun.isOn else { return Array(repeating: 0, count: completions.count) }
        var values = try losses.perTarget.floats()[...]
        return completions.numTargets.map { count in
            defer { values = values.dropFirst(count) }
            return values.prefix(count).reduce(0) { $0 - Double($1) }
        }
    }

    /// How far the model is from its base on prompts with completions of other prompts, over all processes, at least 0.
    private func divergence(of batch: TokenBatch, _ forward: ForwardPass) throws -> Double {
        let mismatched = Self.mismatched(batch)
        let completions = Completions(mismatched)
        let policy = try sums(of: mismatched, completions, usesAdapters: true, forward)
        let reference = try sums(of: mismatched, completions, usesAdapters: false, forward)
        guard !DryRun.isOn else { return 0 }
        let difference = zip(policy, reference).reduce(0.0) { $0 + $1.0 - $1.1 }
        let total = try forward.ranks.sum(
            [difference, Double(batch.rows.count)], for: "divergence from the reference")
        return max(0, total[0] / max(1, total[1]))
    }

    /// Each prompt with the completion of the row before it, the first with that of the last.
    static func mismatched(_ batch: TokenBatch) -> TokenBatch {
        let rows = Completions(batch).rows
        guard rows.count > 1 else { return batch }
        return TokenBatch(
            rows.indices.map { index in
                let (prompt, completion) = (
                    rows[index].prompt, rows[(index + rows.count - 1) % rows.count].completion
                )
                return TokenSequence(
                    tokens: prompt + completion,
                    isTarget: prompt.map { _ in false } + completion.map { _ in true },
                    row: batch.rows[index])
            })
    }

    /// The same batch with every token of the chosen rows a target.
    private static func withPromptsLearned(_ batch: TokenBatch) -> TokenBatch {
        var targets = batch.targets
        var start = 0
        for (segment, length) in batch.segmentLengths.enumerated() {
            if segment.isMultiple(of: 2), segment < batch.rows.count {
                for position in start..<(start + length - 1) {
                    targets[position] = batch.tokens[position + 1]
                }
            }
            start += length
        }
        return batch.with(targets: targets)
    }

    // MARK: - Losses

    /// The loss so far, its derivative by each completion's log probability, and rewards.
    private struct Slopes {
        var loss = 0.0
        var slopes: [Double]
        var rewards = RewardSums()

        init(numSegments: Int) { slopes = Array(repeating: 0, count: numSegments) }
    }

    private func add(
        _ scores: [PreferenceLoss.Score], numPairs: Int, to result: inout Slopes
    ) {
        for pair in stride(from: 0, to: scores.count - 1, by: 2) {
            let (chosen, rejected) = (scores[pair], scores[pair + 1])
            let part = loss.pair(chosen: chosen, rejected: rejected)
            result.loss += part.loss / Double(numPairs)
            result.slopes[pair] = part.byChosen / Double(numPairs)
            result.slopes[pair + 1] = part.byRejected / Double(numPairs)
            let rewards = (loss.reward(of: chosen), loss.reward(of: rejected))
            result.rewards.chosen += rewards.0
            result.rewards.rejected += rewards.1
            result.rewards.numRight += rewards.0 > rewards.1 ? 1 : 0
            result.rewards.numChosen += 1
            result.rewards.numRejected += 1
            result.rewards.numPairs += 1
        }
    }

    private func add(
        _ scores: [PreferenceLoss.Score], _ batch: TokenBatch, _ divergence: Double, numRows: Int,
        to result: inout Slopes
    ) {
        for (index, score) in scores.enumerated() {
            let isDesirable = batch.isDesirable[index] ?? false
            let part = loss.single(score, isDesirable: isDesirable, divergence: divergence)
            result.loss += part.loss / Double(numRows)
            result.slopes[index] = part.slope / Double(numRows)
            if isDesirable {
                result.rewards.chosen += loss.reward(of: score)
                result.rewards.numChosen += 1
            } else {
                result.rewards.rejected += loss.reward(of: score)
                result.rewards.numRejected += 1
            }
        }
    }

    /// The gradient by each target's loss, which is its log probability's negative.
    private func value(
        _ policy: TokenLosses, _ values: [Float], _ targets: Targets,
        _ share: BatchSchedule.Share, _ result: Slopes
    ) throws -> ObjectiveValue {
        var loss = result.loss
        let numLearned = stride(from: 0, to: share.rowLengths.count, by: 2).reduce(0) {
            $0 + share.rowLengths[$1] - 1
        }
        var gradient: [Float] = []
        for (value, target) in zip(values, targets.all) {
            var slope = target.isCompletion ? -result.slopes[target.segment] : 0
            if self.loss.kind == .orpo, target.segment.isMultiple(of: 2) {
                slope += 1 / Double(max(1, numLearned))
                loss += Double(value) / Double(max(1, numLearned))
            }
            gradient.append(Float(slope))
        }
        return ObjectiveValue(
            output: policy.each,
            gradient: try Tensor(gradient, shape: [gradient.count]).to(policy.each.device),
            loss: loss, rewards: result.rewards)
    }
}

/// The completions of a batch: what of each row is a target.
private struct Completions {
    /// The targets of each row; none of a placeholder.
    let numTargets: [Int]
    /// Each row in two.
    let rows: [(prompt: [Int32], completion: [Int32])]

    var count: Int { numTargets.count }

    init(_ batch: TokenBatch) {
        var numTargets: [Int] = []
        var rows: [(prompt: [Int32], completion: [Int32])] = []
        var start = 0
        for length in batch.segmentLengths.prefix(batch.rows.count) {
            let targets = batch.targets[start..<(start + length)]
            numTargets.append(targets.count { $0 != TokenBatch.ignoredTarget })
            // The target at a position is the token after it.
            let first = targets.firstIndex { $0 != TokenBatch.ignoredTarget } ?? start + length - 1
            rows.append(
                (
                    Array(batch.tokens[start...first]),
                    Array(batch.tokens[(first + 1)..<(start + length)])
                ))
            start += length
        }
        self.numTargets = numTargets
        self.rows = rows
    }
}

/// The targets of a batch in the order of its losses.
private struct Targets {
    /// The row of each, and whether it belongs to its completion.
    let all: [(segment: Int, isCompletion: Bool)]

    init(_ learned: TokenBatch, completions: TokenBatch) {
        var all: [(segment: Int, isCompletion: Bool)] = []
        var position = 0
        for (segment, length) in learned.segmentLengths.enumerated() {
            for _ in 0..<length {
                if learned.targets[position] != TokenBatch.ignoredTarget {
                    let isCompletion =
                        completions.targets[position] != TokenBatch.ignoredTarget
                    all.append((segment, isCompletion))
                }
                position += 1
            }
        }
        self.all = all
    }
}
