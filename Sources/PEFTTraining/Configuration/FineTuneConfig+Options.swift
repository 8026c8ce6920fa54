extension FineTuneConfig: ConfigurableOptions {
    /// Every option of `peft train`: the one place that maps keys and flags to properties.
    package static let options: [ConfigOption<FineTuneConfig>] =
        files + baseModel + adapter + rows + training + processes + reports

    private static let files: [ConfigOption<FineTuneConfig>] = [
        .init(
            "model", \.model, section: "Files", placeholder: "PATH",
            help: "the base model: a Hugging Face folder or a GGUF file"),
        .init(
            "data", \.data, section: "Files", placeholder: "FILE",
            help: "the training rows: JSON lines, .csv or .parquet"),
        .init(
            "dataset", \.dataset, section: "Files",
            help: "instead: several files, rows drawn by weight; may be given again"),
        .init(
            "eval_data", \.evalData, section: "Files", placeholder: "FILE",
            help: "the held-out rows: JSON lines, .csv or .parquet"),
        .init(
            "eval_dataset", \.evalDataset, section: "Files", placeholder: "NAME=FILE,...",
            help: "instead: several files, each scored as eval_NAME_loss"),
        .init(
            "output_dir", \.outputDir, section: "Files", placeholder: "FOLDER",
            help: "where the adapter, the metrics and the checkpoints go"),
        .init(
            "adapter", \.adapter, section: "Files", placeholder: "FOLDER",
            help: "start from this adapter instead of a new one"),
        .init(
            "ignore_base_fingerprint", \.ignoreBaseFingerprint, section: "Files",
            help: "take an adapter that was trained on another base"),
        .init(
            "resume", \.resume, section: "Files",
            help: "continue from the newest checkpoint in the output folder"),
        .init(
            "overwrite_output_dir", \.overwriteOutputDir, section: "Files",
            help: "replace the run that is in the output folder already"),
    ]

    private static let baseModel: [ConfigOption<FineTuneConfig>] = [
        .init(
            "quantize", \.quantize, section: "Base model",
            help: "how the frozen linears are stored"),
        .init(
            "double_quant", \.doubleQuant, section: "Base model",
            help: "quantize the quantization constants too"),
        .init(
            "quant_block_size", \.quantBlockSize, section: "Base model",
            help: "elements that share a constant: 32, 64, ... 4096"),
        .init(
            "dtype", \.dtype, section: "Base model",
            help: "the dtype of the computation"),
        .init(
            "loss_scaling", \.lossScaling, section: "Base model",
            help: "scale gradients in float16, which needs it"),
    ]

    private static let adapter: [ConfigOption<FineTuneConfig>] = [
        .init(
            "lora_r", \.loraR, section: "Adapter",
            help: "the rank"),
        .init(
            "lora_alpha", \.loraAlpha, section: "Adapter",
            help: "the update is scaled by alpha / r"),
        .init(
            "lora_dropout", \.loraDropout, section: "Adapter", placeholder: "P",
            help: "the dropout probability on the adapter's input"),
        .init(
            "target_modules", \.targetModules, section: "Adapter",
            help: "the linears that get an adapter"),
        .init(
            "target_parameters", \.targetParameters, section: "Adapter", placeholder: "NAME,...",
            help: "parameters that get one too, such as experts.down_proj"),
        .init(
            "exclude_modules", \.excludeModules, section: "Adapter",
            placeholder: "NAME,...|REGEX",
            help: "linears that get none"),
        .init(
            "layers_to_transform", \.layersToTransform, section: "Adapter",
            help: "the blocks that get adapters, by index"),
        .init(
            "layer_replication", \.layerReplication, section: "Adapter",
            placeholder: "[[FROM,TO],...]",
            help: "ranges of the base's blocks to make a deeper model of"),
        .init(
            "rank_pattern", \.rankPattern, section: "Adapter",
            help: "ranks by module name or pattern"),
        .init(
            "alpha_pattern", \.alphaPattern, section: "Adapter",
            help: "alphas by module name or pattern"),
        .init(
            "use_rslora", \.useRslora, section: "Adapter",
            help: "scale by alpha / sqrt(r)"),
        .init(
            "init_lora_weights", \.initLoraWeights, section: "Adapter",
            help: "how the two matrices start; true: as the base, by Kaiming"),
        .init(
            "loftq_iter", \.loftqIter, section: "Adapter",
            help: "with init_lora_weights loftq: how often it alternates"),
        .init(
            "calibration_rows", \.calibrationRows, section: "Adapter",
            help: "with eva, corda and lora_ga: rows that decide the start"),
        .init(
            "eva_rho", \.evaRho, section: "Adapter",
            help: "with eva: how many times lora_r a layer's rank may become"),
        .init(
            "eva_tau", \.evaTau, section: "Adapter",
            help: "with eva: the cosine from which on a component is found"),
        .init(
            "corda_method", \.cordaMethod, section: "Adapter",
            help: "with corda: train what does most on the rows (ipm) or least (kpm)"),
        .init(
            "lora_ga_direction", \.loraGaDirection, section: "Adapter",
            help: "with lora_ga: the gradient's vectors that become A and B"),
        .init(
            "lora_ga_scale", \.loraGaScale, section: "Adapter",
            help: "with lora_ga: what B is multiplied with"),
        .init(
            "use_dora", \.useDora, section: "Adapter",
            help: "train a magnitude of each row of the weight too (DoRA)"),
        .init(
            "use_kasa", \.useKasa, section: "Adapter",
            help: "give the update singular values, take the base's smallest ones out (KaSA)"),
        .init(
            "kasa_beta", \.kasaBeta, section: "Adapter",
            help: "with use_kasa: the penalty of large singular values"),
        .init(
            "kasa_gamma", \.kasaGamma, section: "Adapter",
            help: "with use_kasa: the penalty of vectors that are not orthonormal"),
        .init(
            "lora_bias", \.loraBias, section: "Adapter",
            help: "give the update a bias"),
        .init(
            "alora_invocation_tokens", \.aloraInvocationTokens, section: "Adapter",
            help: "tokens from whose last occurrence in a row the adapter acts (aLoRA)"),
        .init(
            "bias", \.bias, section: "Adapter",
            help: "which of the base's biases are trained"),
        .init(
            "modules_to_save", \.modulesToSave, section: "Adapter", placeholder: "NAME,...",
            help: "modules that are trained whole: their path ends with a name"),
        .init(
            "trainable_token_indices", \.trainableTokenIndices, section: "Adapter",
            help: "tokens whose rows of the embedding, or of layers by name, are trained"),
        .init(
            "ensure_weight_tying", \.ensureWeightTying, section: "Adapter",
            help: "with modules_to_save: a tied head stays so"),
    ]

    private static let rows: [ConfigOption<FineTuneConfig>] = [
        .init(
            "max_length", \.maxLength, section: "Rows",
            help: "the most tokens a row may have"),
        .init(
            "dataset_streaming", \.datasetStreaming, section: "Rows",
            help: "keep encoded rows in a file, not in memory"),
        .init(
            "truncation_mode", \.truncationMode, section: "Rows",
            help: "what happens to longer rows"),
        .init(
            "packing", \.packing, section: "Rows",
            help: "pack short rows together; they do not see one another"),
        .init(
            "completion_only_loss", \.completionOnlyLoss, section: "Rows",
            help: "learn completions only; by default so in prompt-completion rows"),
        .init(
            "assistant_only_loss", \.assistantOnlyLoss, section: "Rows",
            help: "learn only what the assistant says in rows of messages"),
        .init(
            "shuffle", \.shuffle, section: "Rows",
            help: "take the rows in a random order"),
        .init(
            "group_by_length", \.groupByLength, section: "Rows",
            help: "take rows of about the same length together"),
        .init(
            "share_prefixes", \.sharePrefixes, section: "Rows",
            help: "compute once how rows of a micro-batch begin alike"),
    ]

    private static let training: [ConfigOption<FineTuneConfig>] = [
        .init(
            "loss_type", \.lossType, section: "Training",
            help: "what is minimized: nll of rows; DPO, IPO, ORPO of pairs; KTO of feedback"),
        .init(
            "beta", \.beta, section: "Training",
            help: "how far preference training may go from the base: less is farther"),
        .init(
            "desirable_weight", \.desirableWeight, section: "Training",
            help: "the weight of good completions in KTO"),
        .init(
            "undesirable_weight", \.undesirableWeight, section: "Training",
            help: "the weight of bad completions in KTO"),
        .init(
            "optim", \.optim, section: "Training",
            help: "how tensors are updated by their gradients"),
        .init(
            "learning_rate", \.learningRate, section: "Training",
            help: "the learning rate after warm-up"),
        .init(
            "loraplus_lr_ratio", \.loraplusLrRatio, section: "Training",
            help: "LoRA+: the learning rate of B as a multiple of A's"),
        .init(
            "loraplus_lr_embedding", \.loraplusLrEmbedding, section: "Training",
            help: "LoRA+: the learning rate of embeddings' adapters"),
        .init(
            "lr_scheduler_type", \.lrSchedulerType, section: "Training",
            help: "how the learning rate goes after warm-up"),
        .init(
            "lr_scheduler_kwargs", \.lrSchedulerKwargs, section: "Training",
            help: "what the schedule depends on besides, such as num_cycles=2"),
        .init(
            "warmup_steps", \.warmupSteps, section: "Training",
            help: "steps over which the learning rate rises from 0"),
        .init(
            "warmup_ratio", \.warmupRatio, section: "Training",
            help: "the same as a share of the run's steps"),
        .init(
            "weight_decay", \.weightDecay, section: "Training",
            help: "the weight decay, decoupled but for sgd"),
        .init(
            "adam_beta1", \.adamBeta1, section: "Training",
            help: "the decay of AdamW's first moment, of Lion's direction"),
        .init(
            "adam_beta2", \.adamBeta2, section: "Training",
            help: "the decay of AdamW's second moment, of Lion's momentum"),
        .init(
            "adam_epsilon", \.adamEpsilon, section: "Training",
            help: "AdamW's epsilon"),
        .init(
            "label_smoothing_factor", \.labelSmoothingFactor, section: "Training",
            placeholder: "P", help: "mix each target with all tokens alike, to this share"),
        .init(
            "neftune_noise_alpha", \.neftuneNoiseAlpha, section: "Training",
            help: "NEFTune: noise on the embeddings, of this strength"),
        .init(
            "max_grad_norm", \.maxGradNorm, section: "Training",
            help: "clip gradients to this norm; 0: off"),
        .init(
            "max_steps", \.maxSteps, section: "Training",
            help: "steps to take; -1: by epochs"),
        .init(
            "num_train_epochs", \.numTrainEpochs, section: "Training",
            help: "passes over the rows, unless max_steps is given"),
        .init(
            "per_device_train_batch_size", \.perDeviceTrainBatchSize, section: "Training",
            help: "rows in a micro-batch"),
        .init(
            "per_device_eval_batch_size", \.perDeviceEvalBatchSize, section: "Training",
            help: "rows in an evaluation batch"),
        .init(
            "gradient_accumulation_steps", \.gradientAccumulationSteps, section: "Training",
            help: "micro-batches in a step"),
        .init(
            "gradient_checkpointing", \.gradientCheckpointing, section: "Training",
            help: "recompute activations in the backward pass: less memory, slower"),
        .init(
            "gradient_checkpointing_interval", \.gradientCheckpointingInterval,
            section: "Training",
            help: "with it, recompute one of so many blocks, the others keep their activations"),
        .init(
            "on_non_finite", \.onNonFinite, section: "Training",
            help: "what happens to a step with infinities or NaNs"),
        .init(
            "seed", \.seed, section: "Training",
            help: "seeds the adapter, the order of rows and dropout"),
        .init(
            "device", \.device, section: "Training",
            help: "where to compute; auto: on a GPU if there is one"),
        .init(
            "threads", \.threads, section: "Training",
            help: "CPU threads; by default libtorch's choice"),
    ]

    private static let processes: [ConfigOption<FineTuneConfig>] = [
        .init(
            "sharding", \.sharding, section: "Processes",
            help: "what is divided over the processes"),
        .init(
            "reshard_after_forward", \.reshardAfterForward, section: "Processes",
            help: "free each block after forward, gather it again for backward"),
        .init(
            "reduce_each_micro_batch", \.reduceEachMicroBatch, section: "Processes",
            help: "sum gradients after each micro-batch: less memory, more traffic"),
        .init(
            "offload", \.offload, section: "Processes",
            help:
                "keep the base, the optimizer's state or both in files in the output folder; on a GPU in the host's memory"
        ),
        .init(
            "ddp_timeout", \.ddpTimeout, section: "Processes", placeholder: "SECONDS",
            help: "how long to wait for the other processes"),
    ]

    private static let reports: [ConfigOption<FineTuneConfig>] = [
        .init(
            "logging_steps", \.loggingSteps, section: "Reports",
            help: "steps between two lines of metrics"),
        .init(
            "eval_steps", \.evalSteps, section: "Reports",
            help: "steps between two evaluations; 0: at the end only"),
        .init(
            "eval_on_start", \.evalOnStart, section: "Reports",
            help: "evaluate before the first step too"),
        .init(
            "save_steps", \.saveSteps, section: "Reports",
            help: "steps between two checkpoints; 0: at the end only"),
        .init(
            "save_total_limit", \.saveTotalLimit, section: "Reports",
            help: "checkpoints to keep, the newest (and the best); by default all"),
        .init(
            "load_best_model_at_end", \.loadBestModelAtEnd, section: "Reports",
            help: "write the adapter of the best evaluation at the end"),
        .init(
            "metric_for_best_model", \.metricForBestModel, section: "Reports",
            placeholder: "NAME", help: "the metric that says which is the best; by default loss"),
        .init(
            "greater_is_better", \.greaterIsBetter, section: "Reports",
            help: "more of it is better; by default not of losses"),
        .init(
            "early_stopping_patience", \.earlyStoppingPatience, section: "Reports",
            help: "end after so many evaluations without improvement"),
        .init(
            "early_stopping_threshold", \.earlyStoppingThreshold, section: "Reports",
            help: "what an improvement must exceed"),
        .init(
            "report_to", \.reportTo, section: "Reports",
            help: "write the metrics for TensorBoard, or as a page, too"),
        .init(
            "profile", \.profile, section: "Reports", placeholder: "OUT.json",
            help: "record two steps as a Chrome trace, operation by operation"),
    ]
}
