import Foundation
import PEFT
import PEFTTokenizers
import PEFTTraining
import Testing

@Suite struct FineTuneConfigTests {
    static let good = FineTuneConfig(model: "m", data: "d", outputDir: "o")

    @Test func defaultsAreValid() throws {
        try Self.good.validate()
    }

    @Test func whatIsMissingIsReportedAtOnce() {
        let error = #expect(throws: ConfigError.self) { try FineTuneConfig().validate() }
        #expect(error?.problems.compactMap(\.key) == ["model", "data", "output_dir"])
    }

    @Test func problemOfDTypesHasACode() {
        var config = Self.good
        config.dtype = .float16
        let error = #expect(throws: ConfigError.self) { try config.validate() }
        #expect(error.flatMap(DiagnosisCode.of) == .float16WithoutScaling)
    }

    /// Everything that a setting can be comes with `PEFT`.
    @Test(arguments: [ShardingStrategy.gradOp, .hybrid(ranksPerGroup: 4)])
    func divisionsSurviveJSON(strategy: ShardingStrategy) throws {
        var config = Self.good
        config.sharding = strategy
        let data = try JSONEncoder().encode(config)
        #expect(try JSONDecoder().decode(FineTuneConfig.self, from: data) == config)
    }

    static let bad: [(change: @Sendable (inout FineTuneConfig) -> Void, message: String)] = [
        ({ $0.loraR = 0 }, "lora_r: expected at least 1, found 0"),
        ({ $0.loraAlpha = 0 }, "lora_alpha: expected a number above 0, found 0"),
        ({ $0.loraAlpha = .infinity }, "lora_alpha: expected a number above 0, found .inf"),
        ({ $0.loraDropout = 1 }, "lora_dropout: expected at least 0 and below 1, found 1"),
        ({ $0.loraDropout = -0.1 }, "lora_dropout: expected at least 0 and below 1, found -0.1"),
        (
            { $0.quantBlockSize = 48 },
            "quant_block_size: expected a power of two from 32 to 4096, found 48"
        ),
        (
            { $0.quantBlockSize = 8192 },
            "quant_block_size: expected a power of two from 32 to 4096, found 8192"
        ),
        ({ $0.targetModules = .names([]) }, "target_modules: is empty: name at least one module"),
        ({ $0.targetModules = .names([""]) }, "target_modules: holds an empty name"),
        (
            { $0.targetModules = .names(["q_proj", ".*v_proj"]) },
            "target_modules: '.*v_proj' in a list is no module name; a regular expression stands alone"
        ),
        (
            { $0.excludeModules = .allLinear },
            "exclude_modules: expected names or a regular expression, found all-linear: "
                + "nothing would be left"
        ),
        (
            { $0.layersToTransform = [] },
            "layers_to_transform: is empty: no block would get an adapter; leave it out for all blocks"
        ),
        (
            { $0.layersToTransform = [0, -1] },
            "layers_to_transform: expected indices from 0, found -1"
        ),
        (
            { $0.rankPattern = ["q_proj": 0] },
            "rank_pattern: expected at least 1 for 'q_proj', found 0"
        ),
        (
            { $0.alphaPattern = ["q_proj": -1] },
            "alpha_pattern: expected a number above 0 for 'q_proj', found -1"
        ),
        (
            {
                $0.resume = true
                $0.overwriteOutputDir = true
            },
            "overwrite_output_dir: contradicts resume, which continues the run that is there: "
                + "give one of them"
        ),
        (
            { $0.dtype = .float16 },
            "PEFT-D001: dtype float16: gradients below 6e-8 become zero in it; "
                + "give --loss-scaling dynamic, or --dtype bfloat16"
        ),
        (
            { $0.lossScaling = .dynamic },
            "PEFT-D002: loss scaling with dtype bfloat16: its exponents reach as far "
                + "as float32's, so scaling has no effect but rounding; give --loss-scaling none, "
                + "or --dtype float16"
        ),
        ({ $0.maxLength = 1 }, "max_length: expected at least 2, found 1"),
        ({ $0.learningRate = 0 }, "learning_rate: expected a number above 0, found 0"),
        ({ $0.learningRate = .nan }, "learning_rate: expected a number above 0, found .nan"),
        ({ $0.warmupSteps = -1 }, "warmup_steps: expected at least 0, found -1"),
        ({ $0.weightDecay = -1 }, "weight_decay: expected at least 0, found -1"),
        ({ $0.adamBeta1 = 1 }, "adam_beta1: expected at least 0 and below 1, found 1"),
        ({ $0.adamBeta2 = 1 }, "adam_beta2: expected at least 0 and below 1, found 1"),
        ({ $0.adamEpsilon = 0 }, "adam_epsilon: expected a number above 0, found 0"),
        ({ $0.maxGradNorm = -1 }, "max_grad_norm: expected at least 0 (0: off), found -1"),
        ({ $0.maxSteps = 0 }, "max_steps: expected at least 1, or -1 to go by epochs, found 0"),
        ({ $0.numTrainEpochs = 0 }, "num_train_epochs: expected a number above 0, found 0"),
        (
            { $0.perDeviceTrainBatchSize = 0 },
            "per_device_train_batch_size: expected at least 1, found 0"
        ),
        (
            { $0.perDeviceEvalBatchSize = 0 },
            "per_device_eval_batch_size: expected at least 1, found 0"
        ),
        (
            { $0.gradientAccumulationSteps = 0 },
            "gradient_accumulation_steps: expected at least 1, found 0"
        ),
        ({ $0.seed = -1 }, "seed: expected at least 0, found -1"),
        ({ $0.threads = 0 }, "threads: expected at least 1, found 0"),
        ({ $0.loggingSteps = 0 }, "logging_steps: expected at least 1, found 0"),
        ({ $0.evalSteps = 5 }, "eval_steps: needs held-out rows: give eval_data too"),
        ({ $0.evalOnStart = true }, "eval_on_start: needs held-out rows: give eval_data too"),
        (
            {
                $0.evalData = "e"
                $0.evalSteps = -1
            }, "eval_steps: expected at least 0 (0: at the end only), found -1"
        ),
        ({ $0.saveSteps = -1 }, "save_steps: expected at least 0 (0: at the end only), found -1"),
        ({ $0.saveTotalLimit = 0 }, "save_total_limit: expected at least 1, found 0"),
        (
            { $0.dataset = WeightedPaths([.init(path: "a")]) },
            "dataset: says the same as data: give one of them"
        ),
        (
            {
                $0.data = ""
                $0.dataset = WeightedPaths([.init(path: "a", weight: 0.5), .init(path: "b")])
            },
            "dataset: has a weight for some files only: give all of them one, or none"
        ),
        (
            {
                $0.data = ""
                $0.dataset = WeightedPaths([.init(path: "a", weight: 0)])
            }, "dataset: expected weights above 0, found 0"
        ),
        (
            {
                $0.evalData = "e"
                $0.evalDataset = ["a": "x"]
            }, "eval_dataset: says the same as eval_data: give one of them"
        ),
        (
            { $0.evalDataset = ["a b": "x"] },
            "eval_dataset: expected names of letters, digits, - and _, found \"a b\""
        ),
        (
            {
                $0.groupByLength = true
                $0.packing = true
            }, "group_by_length: has no meaning with packing, which fills rows to one length"
        ),
        (
            {
                $0.groupByLength = true
                $0.shuffle = false
            }, "group_by_length: contradicts no shuffle: rows are grouped within a random order"
        ),
        ({ $0.beta = 0 }, "beta: expected a number above 0, found 0"),
        ({ $0.desirableWeight = -1 }, "desirable_weight: expected at least 0, found -1"),
        ({ $0.undesirableWeight = -1 }, "undesirable_weight: expected at least 0, found -1"),
        (
            {
                $0.lossType = .ipo
                $0.packing = true
            }, "packing: loss_type ipo compares whole rows: turn packing off"
        ),
        (
            {
                $0.lossType = .sigmoid
                $0.completionOnlyLoss = false
            }, "completion_only_loss: loss_type sigmoid learns completions: leave it out"
        ),
        (
            {
                $0.lossType = .orpo
                $0.labelSmoothingFactor = 0.1
            }, "label_smoothing_factor: loss_type orpo has none: it is for nll"
        ),
        (
            {
                $0.lossType = .hinge
                $0.adapter = "a"
            },
            "adapter: loss_type hinge compares with the base without adapter, which is not where "
                + "this adapter began: merge it into the base first"
        ),
        (
            {
                $0.lossType = .kto
                $0.perDeviceTrainBatchSize = 1
            },
            "per_device_train_batch_size: kto compares with completions of other rows: give at least 2"
        ),
        ({ $0.loraplusLrRatio = 0 }, "loraplus_lr_ratio: expected a number above 0, found 0"),
        (
            {
                $0.loraplusLrRatio = 16
                $0.optim = .lorafa
            },
            "loraplus_lr_ratio: has no meaning with optim lorafa, which trains no A: set "
                + "learning_rate alone"
        ),
        ({ $0.loraplusLrEmbedding = -1 }, "loraplus_lr_embedding: expected at least 0, found -1"),
        ({ $0.warmupRatio = 1.5 }, "warmup_ratio: expected at least 0 and at most 1, found 1.5"),
        (
            {
                $0.warmupRatio = 0.1
                $0.warmupSteps = 3
            }, "warmup_ratio: says the same as warmup_steps: give one of them"
        ),
        (
            { $0.lrSchedulerKwargs = ["num_cycles": .number(2)] },
            "lr_scheduler_kwargs: linear has no num_cycles; it takes none"
        ),
        (
            {
                $0.lrSchedulerType = .polynomial
                $0.lrSchedulerKwargs = ["num_cycles": .number(2)]
            }, "lr_scheduler_kwargs: polynomial has no num_cycles; it takes lr_end, power"
        ),
        (
            {
                $0.lrSchedulerType = .polynomial
                $0.lrSchedulerKwargs = ["lr_end": .number(1)]
            }, "lr_scheduler_kwargs: polynomial's lr_end, 1.0, must be below learning_rate"
        ),
        (
            { $0.lrSchedulerType = .cosineWithMinLr },
            "lr_scheduler_kwargs: cosine_with_min_lr needs one of min_lr and min_lr_rate"
        ),
        (
            { $0.lrSchedulerType = .warmupStableDecay },
            "lr_scheduler_kwargs: warmup_stable_decay needs num_decay_steps"
        ),
        (
            {
                $0.lrSchedulerType = .warmupStableDecay
                $0.lrSchedulerKwargs = ["num_decay_steps": .number(1.5)]
            },
            "lr_scheduler_kwargs: expected a whole number, at least 0 for num_decay_steps, found 1.5"
        ),
        (
            {
                $0.lrSchedulerType = .warmupStableDecay
                $0.lrSchedulerKwargs = [
                    "num_decay_steps": .number(2), "decay_type": .text("fast"),
                ]
            },
            "lr_scheduler_kwargs: expected one of linear, cosine, 1-sqrt for decay_type, found fast"
        ),
        (
            { $0.labelSmoothingFactor = 1 },
            "label_smoothing_factor: expected at least 0 and below 1, found 1"
        ),
        ({ $0.neftuneNoiseAlpha = 0 }, "neftune_noise_alpha: expected a number above 0, found 0"),
        (
            { $0.loadBestModelAtEnd = true },
            "load_best_model_at_end: needs evaluations in between: give eval_steps too"
        ),
        (
            { $0.earlyStoppingPatience = 1 },
            "early_stopping_patience: needs evaluations in between: give eval_steps too"
        ),
        (
            {
                $0.evalData = "e"
                $0.evalSteps = 1
                $0.earlyStoppingPatience = 0
            }, "early_stopping_patience: expected at least 1, found 0"
        ),
        (
            { $0.earlyStoppingThreshold = -1 },
            "early_stopping_threshold: expected at least 0, found -1"
        ),
    ]

    @Test(arguments: bad.indices)
    func badValuesAreNamed(index: Int) {
        var config = Self.good
        Self.bad[index].change(&config)
        let error = #expect(throws: ConfigError.self) { try config.validate() }
        #expect(error?.description == Self.bad[index].message)
    }

    @Test func badValuesAreReportedTogether() {
        var config = Self.good
        for (change, _) in Self.bad where true { change(&config) }
        #expect(config.problems.count > 25)
    }

    @Test func theConfigSurvivesCoding() throws {
        var config = Self.good
        config.targetModules = .pattern(".*q_proj")
        config.excludeModules = .names(["k_proj"])
        config.rankPattern = ["gate_proj": 4]
        config.completionOnlyLoss = false
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        let data = try encoder.encode(config)
        #expect(String(decoding: data, as: UTF8.self).contains(#""adam_beta1":0.9"#))
        #expect(try decoder.decode(FineTuneConfig.self, from: data) == config)
    }

    @Test(
        arguments: [
            ("q_proj", .names(["q_proj"])), ("self_attn.q_proj", .names(["self_attn.q_proj"])),
            ("all-linear", .allLinear), (".*_proj", .pattern(".*_proj")),
            ("q_proj|v_proj", .pattern("q_proj|v_proj")), (#"layers\.0"#, .pattern(#"layers\.0"#)),
        ] as [(String, ModuleSelection)])
    func stringsSelectModules(text: String, selection: ModuleSelection) {
        #expect(ModuleSelection(text) == selection)
    }

    @Test func metricsLinesHaveTheirKeysInOrder() {
        let metrics = StepMetrics(
            step: 3, loss: 2.5, gradNorm: 0.25, learningRate: 0.0002, numTargetTokens: 800,
            tokensPerSecond: 345.5, peakMemoryBytes: 1_900_000_000)
        #expect(
            metrics.json.line
                == #"{"step": 3, "loss": 2.5, "grad_norm": 0.25, "learning_rate": 0.0002, "#
                + #""num_target_tokens": 800, "tokens_per_second": 345.5, "#
                + #""peak_memory_bytes": 1900000000}"#)
    }

    @Test func metricsLinesDecode() throws {
        let metrics = StepMetrics(
            step: 3, loss: 2.5, gradNorm: 0.25, learningRate: 0.0002, numTargetTokens: 800,
            tokensPerSecond: 345.5, peakMemoryBytes: 1_900_000_000)
        let data = Data(metrics.json.line.utf8)
        #expect(try JSONDecoder().decode(StepMetrics.self, from: data) == metrics)
        let evaluation = EvaluationMetrics(
            step: 3, evalLoss: 2, evalPerplexity: 7.5, evalNumTargetTokens: 10)
        let line = Data(evaluation.json.line.utf8)
        #expect(try JSONDecoder().decode(EvaluationMetrics.self, from: line) == evaluation)
    }

    @Test func theFirstSignalAsksToStop() {
        let stop = StopRequest()
        #expect(stop.signal == nil)
        stop.request(signal: 15)
        stop.request(signal: 2)
        #expect(stop.signal == 15)
    }

    @Test func scoresAreMeansOverTargets() {
        let report = ScoreReport(rows: [
            .init(numTargetTokens: 3, negativeLogLikelihood: 6),
            .init(numTargetTokens: 1, negativeLogLikelihood: 1),
        ])
        #expect(report.loss == 1.75)
        #expect(report.perplexity == exp(1.75))
        #expect(
            report.json.line
                == #"{"loss": 1.75, "perplexity": 5.754602676005731, "num_target_tokens": 4, "rows": "#
                + #"[{"num_target_tokens": 3, "nll": 6.0}, {"num_target_tokens": 1, "nll": 1.0}]}"#)
    }
}
