/// Which evaluation was the best, and when there have been enough worse ones.
///
/// An evaluation is better if its metric is strictly so. One that is better than the best before it by no more than the threshold
/// counts as worse for early stopping, but is the best from then on.
///
/// - Source: transformers 5.23 `trainer.py:_determine_best_metric`, `trainer_callback.py:EarlyStoppingCallback`.
struct ModelSelection {
    /// What of it a checkpoint keeps.
    struct State: Codable, Equatable {
        /// The metric's best value.
        var value: Double
        /// The step of that evaluation.
        var step: Int
        /// Evaluations since the last that was better by more than the threshold.
        var numWorse: Int

        private enum CodingKeys: String, CodingKey {
            case value
            case step
            case numWorse = "num_worse"
        }
    }

    /// The metric's key in `metrics.jsonl`.
    let metric: String
    /// Whether more is better.
    let greaterIsBetter: Bool
    /// Evaluations in a row without improvement that end the run; nil for any number.
    let patience: Int?
    /// What an improvement must exceed.
    let threshold: Double

    /// Takes in an evaluation.
    ///
    /// - Parameters:
    ///   - metrics: by their keys.
    ///   - step: steps done before it.
    ///   - state: of the evaluations before; nil for the first.
    /// - Returns: the state after it.
    /// - Throws: ``TrainingError/noSuchMetric(name:known:)``.
    func adding(
        _ metrics: [String: Double], step: Int, to state: State?
    ) throws(TrainingError) -> State {
        guard let value = metrics[metric] else {
            throw .noSuchMetric(name: metric, known: metrics.keys.sorted())
        }
        guard var state else { return State(value: value, step: step, numWorse: 0) }
        let isBetter = greaterIsBetter ? value > state.value : value < state.value
        let isEnough = isBetter && (value - state.value).magnitude > threshold
        state.numWorse = isEnough ? 0 : state.numWorse + 1
        if isBetter { (state.value, state.step) = (value, step) }
        return state
    }

    /// Whether a run has had enough.
    func isOver(_ state: State?) -> Bool {
        guard let patience, let state else { return false }
        return state.numWorse >= patience
    }
}

extension FineTuneConfig {
    /// How the best model is found; nil where nobody asks.
    var modelSelection: ModelSelection? {
        guard loadBestModelAtEnd || earlyStoppingPatience != nil else { return nil }
        let name = metricForBestModel ?? "loss"
        let metric = name.hasPrefix("eval_") ? name : "eval_" + name
        let isLoss = metric.hasSuffix("loss") || metric.hasSuffix("perplexity")
        return ModelSelection(
            metric: metric, greaterIsBetter: greaterIsBetter ?? !isLoss,
            patience: earlyStoppingPatience, threshold: earlyStoppingThreshold)
    }
}
