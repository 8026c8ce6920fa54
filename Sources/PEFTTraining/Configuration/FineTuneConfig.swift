public import PEFTAdapters
public import PEFTData
public import PEFTSharding

/// Everything that one fine-tuning run is told.
///
/// Names are those of TRL's, transformers' and PEFT's options. The defaults here are the only ones: the
/// command's flags, its help and its config files are derived from this struct.
public struct FineTuneConfig: Codable, Hashable, Sendable {
    // MARK: Files

    /// The base model: a Hugging Face folder or a GGUF file.
    public var model = ""
    /// The training rows: a file of JSON lines, of comma-separated values, or in Parquet.
    public var data = ""
    /// Several files of training rows, instead of `data`.
    public var dataset = WeightedPaths()
    /// The held-out rows: a file as `data`.
    public var evalData: String?
    /// Several files of held-out rows by name, instead of `evalData`.
    public var evalDataset: [String: String] = [:]
    /// The folder for the adapter, the metrics and the checkpoints.
    public var outputDir = ""
    /// The adapter folder to start from; nil starts a new adapter.
    public var adapter: String?
    /// Whether an adapter that was trained on another base model is taken all the same.
    public var ignoreBaseFingerprint = false
    /// Whether to continue from the newest checkpoint in `outputDir`.
    public var resume = false
    /// Whether a run that is in `outputDir` already is replaced.
    public var overwriteOutputDir = false

    // MARK: Base model

    /// How the frozen linears are stored.
    public var quantize = BaseQuantization.nf4
    /// Whether the quantization constants are quantized too.
    public var doubleQuant = true
    /// Elements that share one quantization constant: a power of two, 32 to 4096.
    public var quantBlockSize = 64
    /// The dtype of the computation.
    public var dtype = ComputeDType.bfloat16
    /// By what gradients are scaled while they are in the compute dtype; float16 needs it, no other dtype takes it.
    public var lossScaling = LossScaling.none

    // MARK: Adapter

    /// The rank of the update.
    public var loraR = 16
    /// The update is scaled by `loraAlpha / loraR` (`loraAlpha / sqrt(loraR)` with `useRslora`).
    public var loraAlpha = 32.0
    /// The probability with which an input element of the adapter is zeroed in training.
    public var loraDropout = 0.0
    /// The linears that get an adapter.
    public var targetModules = ModuleSelection.allLinear
    /// Parameters that get an adapter though no linear has them, by the ends of their paths: `experts.gate_up_proj`.
    public var targetParameters: [String]?
    /// Linears that get none, even if targeted.
    public var excludeModules: ModuleSelection?
    /// The indices of the blocks that get adapters; nil means all.
    public var layersToTransform: [Int]?
    /// Ranges `[from, to]` of the base's blocks that the model is made of, copies sharing their weights; nil means the base's own.
    public var layerReplication: [[Int]]?
    /// Ranks that differ from `loraR`, by module name or pattern.
    public var rankPattern: [String: Int] = [:]
    /// Alphas that differ from `loraAlpha`, by module name or pattern.
    public var alphaPattern: [String: Double] = [:]
    /// Whether to scale by `loraAlpha / sqrt(loraR)`.
    public var useRslora = false
    /// How the two matrices start.
    public var initLoraWeights = LoRAInitialization.kaimingUniform
    /// How often LoftQ quantizes the weights and decomposes their error.
    public var loftqIter = 1
    /// Rows that decide the start of `eva`, `corda` and `loraGA`.
    public var calibrationRows = 256
    /// How much larger than `loraR` EVA may make a layer's rank.
    public var evaRho = 2.0
    /// The cosine from which on EVA takes a component as found.
    public var evaTau = 0.99
    /// Which components of the weight CorDA trains.
    public var cordaMethod = CorDAConfig.Method.ipm
    /// Which singular vectors of the gradient LoRA-GA takes.
    public var loraGaDirection = LoRAGAConfig.Direction.halves
    /// What LoRA-GA multiplies B with.
    public var loraGaScale = LoRAGAConfig.Scale.stable
    /// Whether a magnitude of each row of the weight is trained beside the direction (DoRA).
    public var useDora = false
    /// Whether the update has singular values, and the base loses its smallest ones (KaSA).
    public var useKasa = false
    /// The weight of KaSA's penalty of large singular values.
    public var kasaBeta = 1e-4
    /// The weight of KaSA's penalty of vectors that are not orthonormal.
    public var kasaGamma = 1e-3
    /// Whether the update has a bias.
    public var loraBias = false
    /// The tokens from whose last occurrence in a row the adapter acts (aLoRA); nil: on all tokens.
    public var aloraInvocationTokens: [Int]?
    /// Which of the base's biases are trained.
    public var bias = TrainedBiases.none
    /// Modules that are trained whole: those whose path ends with one of the names.
    public var modulesToSave: [String]?
    /// Tokens whose rows are trained: of the embedding, or of layers by name.
    public var trainableTokenIndices: TrainedTokenIndices?
    /// Whether a head that is tied to the embedding stays so where the embedding is trained whole.
    public var ensureWeightTying = false

    // MARK: Rows

    /// The most tokens a row may have.
    public var maxLength = 1024
    /// Whether encoded rows are kept in a file in the output folder rather than in memory.
    public var datasetStreaming = false
    /// What happens to longer rows.
    public var truncationMode = TruncationMode.error
    /// Whether short rows are packed together to `maxLength`, without seeing one another.
    public var packing = false
    /// Whether only completions are learned; nil: yes for prompt-completion rows, no for others.
    public var completionOnlyLoss: Bool?
    /// Whether only what the assistant says is learned, in rows of messages.
    public var assistantOnlyLoss = false
    /// Whether rows are taken in a random order, a new one each epoch.
    public var shuffle = true
    /// Whether rows of about the same length share a step.
    public var groupByLength = false
    /// Whether beginnings that rows of a micro-batch have in common are computed once: see `SharedPrefixes`.
    public var sharePrefixes = false

    // MARK: Training

    /// What is minimized.
    public var lossType = LossType.nll
    /// How far preference training may go from the base: less is farther.
    public var beta = 0.1
    /// The weight of good completions in KTO.
    public var desirableWeight = 1.0
    /// The weight of bad completions in KTO.
    public var undesirableWeight = 1.0
    /// How the trainable tensors are updated.
    public var optim = OptimizerChoice.adamwTorch
    /// The learning rate after warm-up.
    public var learningRate = 2e-4
    /// LoRA+: the learning rate of B as a multiple of A's; nil for the same.
    public var loraplusLrRatio: Double?
    /// LoRA+: the learning rate of embeddings' adapters.
    public var loraplusLrEmbedding = 1e-6
    /// How the learning rate goes after warm-up.
    public var lrSchedulerType = LearningRateScheduler.linear
    /// What the schedule depends on besides, by transformers' names.
    public var lrSchedulerKwargs: [String: ScalarOption] = [:]
    /// Steps over which the learning rate rises from 0.
    public var warmupSteps = 0
    /// The same as a share of the run's steps; nil for `warmupSteps`.
    public var warmupRatio: Double?
    /// The weight decay, decoupled but for SGD.
    public var weightDecay = 0.0
    /// The decay of AdamW's first moment, and of Lion's direction.
    public var adamBeta1 = 0.9
    /// The decay of AdamW's second moment, and of Lion's momentum.
    public var adamBeta2 = 0.999
    /// The term that keeps AdamW's denominator from 0.
    public var adamEpsilon = 1e-8
    /// The share of the uniform distribution in each target.
    public var labelSmoothingFactor = 0.0
    /// NEFTune: the strength of noise on the embeddings; nil for none.
    public var neftuneNoiseAlpha: Double?
    /// The gradient norm above which gradients are scaled down; 0 turns clipping off.
    public var maxGradNorm = 1.0
    /// Optimizer steps to take; -1 goes by `numTrainEpochs`.
    public var maxSteps = -1
    /// Passes over the training rows, when `maxSteps` is -1.
    public var numTrainEpochs = 3.0
    /// Rows (packs with `packing`) in a micro-batch.
    public var perDeviceTrainBatchSize = 8
    /// Rows in an evaluation batch.
    public var perDeviceEvalBatchSize = 8
    /// Micro-batches in a step.
    public var gradientAccumulationSteps = 1
    /// Whether each block's activations are computed again in the backward pass instead of kept.
    public var gradientCheckpointing = false
    /// With `gradientCheckpointing`, how many blocks there are for each whose activations are computed again: 1 for all.
    public var gradientCheckpointingInterval = 1
    /// What happens to a step whose loss or gradients are infinite or NaN.
    public var onNonFinite = NonFinitePolicy.stop
    /// Seeds the new adapter, the order of rows and dropout.
    public var seed = 42
    /// The device that the model is on.
    public var device = DeviceChoice.auto
    /// CPU threads; nil leaves the choice to libtorch.
    public var threads: Int?

    // MARK: Processes

    /// What of the model each process holds only a part of.
    public var sharding = ShardingStrategy.full
    /// Whether a block that was gathered for forward makes room, to be gathered again for backward.
    public var reshardAfterForward = true
    /// Whether gradients are summed over the processes after each micro-batch rather than once a step: less memory, more traffic.
    public var reduceEachMicroBatch = false
    /// What is kept out of memory.
    public var offload = OffloadTarget.none
    /// Seconds to wait for the other processes before they are taken for lost.
    public var ddpTimeout = 1800.0

    // MARK: Reports

    /// Steps between two lines of metrics.
    public var loggingSteps = 10
    /// Steps between two evaluations; 0 evaluates at the end only.
    public var evalSteps = 0
    /// Whether to evaluate before the first step too.
    public var evalOnStart = false
    /// Steps between two checkpoints; 0 writes none but the one at the end.
    public var saveSteps = 500
    /// Checkpoints to keep, the newest, and the best besides if it is asked for; nil keeps all.
    public var saveTotalLimit: Int?
    /// Whether the adapter that is written at the end is that of the best evaluation.
    public var loadBestModelAtEnd = false
    /// The metric that says which evaluation is the best; nil for the loss.
    public var metricForBestModel: String?
    /// Whether more of it is better; nil: no for losses and perplexities.
    public var greaterIsBetter: Bool?
    /// Evaluations in a row without improvement that end the run; nil for any number.
    public var earlyStoppingPatience: Int?
    /// What an improvement must exceed for early stopping.
    public var earlyStoppingThreshold = 0.0
    /// In what other forms the metrics are written.
    public var reportTo: [ReportTarget] = []
    /// Where a Chrome trace of two steps is written; nil for none.
    public var profile: String?

    /// Makes a config of defaults; `model`, `data` and `outputDir` must still be set.
    public init() {}

    /// Makes a config of defaults for these files.
    public init(model: String, data: String, outputDir: String) {
        self.model = model
        self.data = data
        self.outputDir = outputDir
    }

    /// Checks every value, alone and together.
    ///
    /// - Throws: `ConfigError` with all the problems.
    public func validate() throws(ConfigError) {
        let problems = problems
        if !problems.isEmpty { throw ConfigError(problems) }
    }
}
