public import PEFTTokenizers

/// What a training run reports as it goes; libraries never print.
public enum TrainingEvent: Equatable, Sendable {
    /// Everything is ready: the steps follow.
    case started(RunDescription)
    /// The base is read and quantized, the adapter attached.
    case loaded(ModelDescription)
    /// A file of rows is encoded.
    case datasetAudit(DatasetSummary)
    /// All that was checked before the first step; training can begin.
    case preflight(PreflightReport)
    /// A step is done. Sent for every step; `isLogged` steps are those in `metrics.jsonl`.
    case step(StepMetrics, isLogged: Bool)
    /// The held-out rows were scored.
    case evaluation(EvaluationMetrics)
    /// A checkpoint folder is complete.
    case checkpointSaved(path: String, step: Int)
    /// The run stops after this step because it was asked to.
    case interrupted(signal: String, step: Int)
    /// The run is complete: the last event.
    case finished(RunSummary)
    /// Something is wrong with the training, though it goes on.
    case warning(Diagnosis)
    /// Something that a person should know and that is no error.
    case notice(String)

    /// The event as a JSON object: its name under "event", then its values.
    public var json: JSONObject {
        switch self {
        case .started(let run): Self.object("started", run.json)
        case .loaded(let model): Self.object("loaded", model.json)
        case .datasetAudit(let rows): Self.object("dataset_audit", rows.json)
        case .preflight(let result): Self.object("preflight", result.json)
        case .step(let metrics, let isLogged):
            Self.object("step", metrics.json, ["is_logged": .bool(isLogged)])
        case .evaluation(let metrics): Self.object("evaluation", metrics.json)
        case .checkpointSaved(let path, let step):
            Self.object("checkpoint_saved", ["path": .string(path), "step": .int(step)])
        case .interrupted(let signal, let step):
            Self.object("interrupted", ["signal": .string(signal), "step": .int(step)])
        case .finished(let summary): Self.object("finished", summary.json)
        case .warning(let diagnosis): Self.object("warning", diagnosis.json)
        case .notice(let text): Self.object("notice", ["text": .string(text)])
        }
    }

    private static func object(_ name: String, _ values: JSONObject...) -> JSONObject {
        JSONObject([("event", .string(name))] + values.flatMap { $0.map { ($0.key, $0.value) } })
    }
}

extension JSONObject {
    /// The object in one line, without a newline at its end.
    package var line: String { JSONValue.object(self).serialized() }
}

/// What a run is about to do.
public struct RunDescription: Equatable, Sendable {
    /// The base model's path.
    public var model: String
    /// The output folder.
    public var outputDir: String
    /// How the base is stored: "nf4, block 64, double quantized".
    public var quantization: String
    /// The dtype of the computation.
    public var dtype: String
    /// Steps already done by the run that is resumed; 0 for a new run.
    public var startStep: Int
    /// The step at which the run ends.
    public var totalSteps: Int
    /// CPU threads.
    public var numThreads: Int

    /// Makes a description.
    public init(
        model: String, outputDir: String, quantization: String, dtype: String, startStep: Int,
        totalSteps: Int, numThreads: Int
    ) {
        self.model = model
        self.outputDir = outputDir
        self.quantization = quantization
        self.dtype = dtype
        self.startStep = startStep
        self.totalSteps = totalSteps
        self.numThreads = numThreads
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("model", .string(model)),
            ("output_dir", .string(outputDir)),
            ("quantization", .string(quantization)),
            ("dtype", .string(dtype)),
            ("start_step", .int(startStep)),
            ("total_steps", .int(totalSteps)),
            ("num_threads", .int(numThreads)),
        ])
    }
}

/// The model that is in memory.
public struct ModelDescription: Equatable, Sendable {
    /// The architecture, as Hugging Face names it: "llama".
    public var architecture: String
    /// Elements of the base.
    public var numParameters: Int
    /// Elements that are trained.
    public var numTrainableParameters: Int
    /// Linears that carry an adapter.
    public var numAdaptedLinears: Int
    /// Bytes of the base in memory.
    public var weightSizeBytes: Int
    /// Elements that all processes have read of the base's files together; each once, but for vectors that all of them keep.
    public var numElementsRead: Int
    /// Seconds that reading and quantizing took.
    public var loadSeconds: Double

    /// Makes a description.
    public init(
        architecture: String, numParameters: Int, numTrainableParameters: Int,
        numAdaptedLinears: Int, weightSizeBytes: Int, numElementsRead: Int, loadSeconds: Double
    ) {
        self.architecture = architecture
        self.numParameters = numParameters
        self.numTrainableParameters = numTrainableParameters
        self.numAdaptedLinears = numAdaptedLinears
        self.weightSizeBytes = weightSizeBytes
        self.numElementsRead = numElementsRead
        self.loadSeconds = loadSeconds
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("architecture", .string(architecture)),
            ("num_parameters", .int(numParameters)),
            ("num_trainable_parameters", .int(numTrainableParameters)),
            ("num_adapted_linears", .int(numAdaptedLinears)),
            ("weight_size_bytes", .int(weightSizeBytes)),
            ("num_elements_read", .int(numElementsRead)),
            ("load_seconds", .double(loadSeconds)),
        ])
    }
}

/// What a file of rows holds once it is encoded.
public struct DatasetSummary: Equatable, Sendable {
    /// The file.
    public var path: String
    /// Rows in the file.
    public var numRows: Int
    /// Tokens of all rows.
    public var numTokens: Int
    /// Tokens whose loss counts.
    public var numTargetTokens: Int
    /// Tokens of the longest row.
    public var maxRowTokens: Int
    /// Rows that were cut to `max_length`.
    public var numTruncatedRows: Int
    /// What looks wrong: "no target holds the end-of-text token".
    public var warnings: [String]

    /// Makes an audit.
    public init(
        path: String, numRows: Int, numTokens: Int, numTargetTokens: Int, maxRowTokens: Int,
        numTruncatedRows: Int = 0, warnings: [String] = []
    ) {
        self.path = path
        self.numRows = numRows
        self.numTokens = numTokens
        self.numTargetTokens = numTargetTokens
        self.maxRowTokens = maxRowTokens
        self.numTruncatedRows = numTruncatedRows
        self.warnings = warnings
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("path", .string(path)),
            ("num_rows", .int(numRows)),
            ("num_tokens", .int(numTokens)),
            ("num_target_tokens", .int(numTargetTokens)),
            ("max_row_tokens", .int(maxRowTokens)),
            ("num_truncated_rows", .int(numTruncatedRows)),
            ("warnings", .array(warnings.map { .string($0) })),
        ])
    }
}

/// One step: its `json.line` is a line of `metrics.jsonl`.
public struct StepMetrics: Codable, Equatable, Sendable {
    /// The step that was done, from 1.
    public var step: Int
    /// The mean loss of the step's target tokens, before its update.
    public var loss: Double
    /// The norm of the gradients, before clipping.
    public var gradNorm: Double
    /// The factor of the loss's gradient, which the norm does not have; nil without loss scaling.
    public var lossScale: Double?
    /// The learning rate of the update.
    public var learningRate: Double
    /// Target tokens of the step.
    public var numTargetTokens: Int
    /// Tokens read a second, since the last logged step.
    public var tokensPerSecond: Double
    /// The most memory that the process has held.
    public var peakMemoryBytes: Int
    /// What the model prefers; nil unless it learns preferences.
    public var rewards: RewardMetrics?

    /// Makes the metrics of a step.
    public init(
        step: Int, loss: Double, gradNorm: Double, lossScale: Double? = nil, learningRate: Double,
        numTargetTokens: Int, tokensPerSecond: Double, peakMemoryBytes: Int,
        rewards: RewardMetrics? = nil
    ) {
        self.rewards = rewards
        self.step = step
        self.loss = loss
        self.gradNorm = gradNorm
        self.lossScale = lossScale
        self.learningRate = learningRate
        self.numTargetTokens = numTargetTokens
        self.tokensPerSecond = tokensPerSecond
        self.peakMemoryBytes = peakMemoryBytes
    }

    private enum CodingKeys: String, CodingKey {
        case step
        case loss
        case gradNorm = "grad_norm"
        case lossScale = "loss_scale"
        case learningRate = "learning_rate"
        case numTargetTokens = "num_target_tokens"
        case tokensPerSecond = "tokens_per_second"
        case peakMemoryBytes = "peak_memory_bytes"
        case rewards
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject(
            [
                ("step", .int(step)),
                ("loss", .double(loss)),
                ("grad_norm", .double(gradNorm)),
            ] + (lossScale.map { [("loss_scale", .double($0))] } ?? []) + [
                ("learning_rate", .double(learningRate)),
                ("num_target_tokens", .int(numTargetTokens)),
                ("tokens_per_second", .double(tokensPerSecond)),
                ("peak_memory_bytes", .int(peakMemoryBytes)),
            ] + (rewards?.entries(prefix: "") ?? []))
    }
}

/// The score of the held-out rows.
public struct EvaluationMetrics: Codable, Equatable, Sendable {
    /// Steps done before it.
    public var step: Int
    /// The mean loss of the target tokens.
    public var evalLoss: Double
    /// `exp(evalLoss)`.
    public var evalPerplexity: Double
    /// Target tokens of the held-out rows.
    public var evalNumTargetTokens: Int
    /// What tells these held-out rows from others; nil where there is one file.
    public var name: String?
    /// What the model prefers; nil unless it learns preferences.
    public var rewards: RewardMetrics?

    /// Makes the metrics of an evaluation.
    public init(
        step: Int, evalLoss: Double, evalPerplexity: Double, evalNumTargetTokens: Int,
        name: String? = nil, rewards: RewardMetrics? = nil
    ) {
        self.name = name
        self.rewards = rewards
        self.step = step
        self.evalLoss = evalLoss
        self.evalPerplexity = evalPerplexity
        self.evalNumTargetTokens = evalNumTargetTokens
    }

    private enum CodingKeys: String, CodingKey {
        case step
        case evalLoss = "eval_loss"
        case evalPerplexity = "eval_perplexity"
        case evalNumTargetTokens = "eval_num_target_tokens"
        case name
        case rewards
    }

    private var prefix: String { name.map { "eval_\($0)_" } ?? "eval_" }

    /// The numbers by their names: `eval_loss`, or `eval_<name>_loss`.
    package var values: [(String, Double)] {
        [(prefix + "loss", evalLoss)]
            + (rewards == nil ? [(prefix + "perplexity", evalPerplexity)] : [])
            + (rewards?.values(prefix: prefix) ?? [])
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject(
            [("step", .int(step))] + values.map { ($0.0, .double($0.1)) } + [
                (prefix + "num_target_tokens", .int(evalNumTargetTokens))
            ])
    }
}

/// What a run has done.
public struct RunSummary: Equatable, Sendable {
    /// The last step done.
    public var step: Int
    /// Seconds from the first step to the last.
    public var trainSeconds: Double
    /// Tokens read a second, over all steps.
    public var tokensPerSecond: Double
    /// The most memory that the process has held.
    public var peakMemoryBytes: Int
    /// The most memory that it was expected to hold; see ``RunPlan``.
    public var plannedMemoryBytes: Int
    /// Bytes that the process has sent to others in a step.
    public var sentBytesPerStep: Int
    /// Bytes that it was expected to send.
    public var plannedSentBytesPerStep: Int
    /// The loss of the last step.
    public var trainLoss: Double
    /// The held-out loss before training, if it was measured.
    public var firstEvalLoss: Double?
    /// The held-out loss at the end, if it was measured.
    public var lastEvalLoss: Double?
    /// The folder that holds the adapter.
    public var outputDir: String

    /// Makes a summary.
    public init(
        step: Int, trainSeconds: Double, tokensPerSecond: Double, peakMemoryBytes: Int,
        plannedMemoryBytes: Int, sentBytesPerStep: Int = 0, plannedSentBytesPerStep: Int = 0,
        trainLoss: Double, firstEvalLoss: Double?, lastEvalLoss: Double?, outputDir: String
    ) {
        self.step = step
        self.trainSeconds = trainSeconds
        self.tokensPerSecond = tokensPerSecond
        self.peakMemoryBytes = peakMemoryBytes
        self.plannedMemoryBytes = plannedMemoryBytes
        self.sentBytesPerStep = sentBytesPerStep
        self.plannedSentBytesPerStep = plannedSentBytesPerStep
        self.trainLoss = trainLoss
        self.firstEvalLoss = firstEvalLoss
        self.lastEvalLoss = lastEvalLoss
        self.outputDir = outputDir
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("step", .int(step)),
            ("train_seconds", .double(trainSeconds)),
            ("tokens_per_second", .double(tokensPerSecond)),
            ("peak_memory_bytes", .int(peakMemoryBytes)),
            ("planned_memory_bytes", .int(plannedMemoryBytes)),
            ("sent_bytes_per_step", .int(sentBytesPerStep)),
            ("planned_sent_bytes_per_step", .int(plannedSentBytesPerStep)),
            ("train_loss", .double(trainLoss)),
            ("first_eval_loss", firstEvalLoss.map { .double($0) } ?? .null),
            ("last_eval_loss", lastEvalLoss.map { .double($0) } ?? .null),
            ("output_dir", .string(outputDir)),
        ])
    }
}
