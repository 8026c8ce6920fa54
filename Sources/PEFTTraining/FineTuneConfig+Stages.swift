import PEFTAdapters
import PEFTData
import PEFTLayers
import PEFTQuantization
import PEFTSharding
import Torch

/// What each stage takes from the configuration.
extension FineTuneConfig {
    /// How the base is read in host memory.
    var baseModel: BaseModelOptions { baseModel(on: .cpu) }

    /// How the base is read for a device.
    func baseModel(on device: Device) -> BaseModelOptions {
        BaseModelOptions(
            quantization: quantize.config(blockSize: quantBlockSize, isDouble: doubleQuant),
            computeDType: dtype.torch, device: device)
    }

    /// The adapter that a new run attaches.
    var lora: LoRAConfig {
        var lora = LoRAConfig()
        lora.r = loraR
        lora.loraAlpha = loraAlpha
        lora.loraDropout = loraDropout
        lora.targetModules = targetModules.peft
        lora.targetParameters = targetParameters
        lora.excludeModules = excludeModules?.peft
        lora.layersToTransform = layersToTransform.map { .more($0) }
        lora.layerReplication = layerReplication
        lora.rankPattern = rankPattern
        lora.alphaPattern = alphaPattern
        lora.useRslora = useRslora
        lora.initLoraWeights = initLoraWeights
        if initLoraWeights == .loftq { lora.loftqConfig = LoftQConfig(loftqIter: loftqIter) }
        lora.setCalibration(of: self)
        lora.useDora = useDora
        lora.loraBias = loraBias
        if useKasa { lora.kasaConfig = KaSAConfig(beta: kasaBeta, gamma: kasaGamma) }
        lora.aloraInvocationTokens = aloraInvocationTokens
        lora.bias = bias
        lora.modulesToSave = modulesToSave
        lora.trainableTokenIndices = trainableTokenIndices
        lora.ensureWeightTying = ensureWeightTying
        lora.baseModelNameOrPath = model
        lora.taskType = "CAUSAL_LM"
        return lora
    }

    /// How rows become tokens.
    var encoding: EncodingOptions {
        var encoding = EncodingOptions(
            maxLength: maxLength, truncationMode: truncationMode,
            completionOnlyLoss: completionOnlyLoss, assistantOnlyLoss: assistantOnlyLoss)
        encoding.streamingFolder = datasetStreaming ? offloadFolder : nil
        encoding.use = lossType.rowUse
        return encoding
    }

    /// How rows become steps of so many processes.
    func batches(numRanks: Int) -> BatchSchedule.Options {
        var options = BatchSchedule.Options(
            perDeviceTrainBatchSize: perDeviceTrainBatchSize,
            gradientAccumulationSteps: gradientAccumulationSteps, shuffle: shuffle,
            seed: UInt64(seed), packing: packing, maxLength: maxLength)
        options.numRanks = numRanks
        options.groupsByLength = groupByLength
        return options
    }

    /// On whose disk the files are that have no names, and so need no folder of their own.
    private var offloadFolder: String { RunResources.existingFolder(at: outputDir) }

    /// Where the optimizer's state is kept; nil for memory.
    var optimizerFolder: String? { offload.hasOptimizer ? offloadFolder : nil }

    /// How the model is divided over processes.
    var shards: ModelShards.Options {
        ModelShards.Options(
            strategy: sharding, reshardsAfterForward: reshardAfterForward,
            offloadFolder: offload.hasBase ? offloadFolder : nil)
    }

    /// What the run computes with, in the terms of the rules.
    var precision: PrecisionRules.Combination { baseModel.precision(lossScaling) }

    /// AdamW with the configuration's constants.
    var adamW: AdamW {
        var adamW = AdamW()
        adamW.beta1 = adamBeta1
        adamW.beta2 = adamBeta2
        adamW.epsilon = adamEpsilon
        return adamW
    }

    /// Lion with the betas that AdamW would have, as transformers gives it.
    var lion: Lion {
        var lion = Lion()
        lion.beta1 = adamBeta1
        lion.beta2 = adamBeta2
        return lion
    }

    /// Learning rates and decay by tensor.
    package var optimizerGroups: Optimizer.Groups {
        Optimizer.Groups(
            weightDecay: weightDecay,
            loRAPlus: loraplusLrRatio.map {
                LoRAPlus(ratio: $0, embeddingRatio: loraplusLrEmbedding / learningRate)
            })
    }

    /// What a training pass does besides.
    var regularization: Regularization {
        Regularization(labelSmoothing: labelSmoothingFactor, embeddingNoise: neftuneNoiseAlpha)
    }

    /// What a step minimizes.
    package var objective: any Objective {
        guard lossType != .nll else { return NextTokenLoss() }
        var loss = PreferenceLoss(lossType)
        loss.beta = beta
        loss.desirableWeight = desirableWeight
        loss.undesirableWeight = undesirableWeight
        return PreferenceObjective(loss: loss)
    }

    /// Whether held-out rows are scored.
    var evaluates: Bool { evalData != nil || !evalDataset.isEmpty }

    /// The step at which the run ends.
    func totalSteps(stepsPerEpoch: Int) -> Int {
        guard maxSteps <= 0 else { return maxSteps }
        return max(1, Int((numTrainEpochs * Double(stepsPerEpoch)).rounded(.up)))
    }

    /// The learning rate of every step.
    package func schedule(totalSteps: Int) -> LearningRateSchedule {
        LearningRateSchedule(
            peak: learningRate, kind: lrSchedulerType,
            warmupSteps: warmupRatio.map { Int((Double(totalSteps) * $0).rounded(.up)) }
                ?? warmupSteps,
            totalSteps: totalSteps, options: ScheduleOptions(lrSchedulerKwargs))
    }

    /// The event of the run's beginning.
    func description(startStep: Int, batches: BatchSchedule) -> RunDescription {
        RunDescription(
            model: model, outputDir: outputDir,
            quantization: baseModel.quantization?.description ?? "none", dtype: dtype.rawValue,
            startStep: startStep, totalSteps: totalSteps(stepsPerEpoch: batches.stepsPerEpoch),
            numThreads: TorchRuntime.numThreads)
    }

    /// A block is computed again in backward for each of so many; nil if none is.
    var recomputationInterval: Int? {
        gradientCheckpointing ? gradientCheckpointingInterval : nil
    }

    /// Settings that a resumed run may change: where files are, how often something is reported or saved, how far it goes.
    private static let changeableKeys: Set<String> = [
        "model", "data", "dataset", "eval_data", "eval_dataset", "dataset_streaming", "output_dir",
        "overwrite_output_dir", "adapter",
        "ignore_base_fingerprint", "resume", "device", "threads", "logging_steps", "eval_steps",
        "eval_on_start", "save_steps", "save_total_limit", "max_steps", "num_train_epochs",
        "gradient_checkpointing", "gradient_checkpointing_interval", "per_device_eval_batch_size",
        "on_non_finite", "sharding", "load_best_model_at_end", "metric_for_best_model",
        "greater_is_better", "early_stopping_patience", "early_stopping_threshold",
        "reshard_after_forward", "reduce_each_micro_batch", "offload", "ddp_timeout", "profile",
        "report_to",
    ]

    /// Settings whose product with the number of processes counts, so that a run can go on with another number.
    private static let batchKeys: Set<String> = [
        "per_device_train_batch_size", "gradient_accumulation_steps",
    ]

    /// Every setting that changes the losses of a run, as text by key; what only says where something is or how it is divided, is
    /// not among them.
    func mathematicalSettings(numRanks: Int) -> [String: String] {
        var settings: [String: String] = [:]
        for option in Self.options
        where !Self.changeableKeys.contains(option.key) && !Self.batchKeys.contains(option.key) {
            settings[option.key] = YAMLWriter.text(of: option.get(self))
        }
        if let weights = dataset.weights {
            settings["dataset weights"] = "\(weights)"
        }
        settings[
            "rows of a step (\(Self.batchKeys.sorted().joined(separator: " x ")) x processes)"] =
            String(perDeviceTrainBatchSize * gradientAccumulationSteps * numRanks)
        return settings
    }
}

extension BaseQuantization {
    /// The storage in the quantizer's terms; nil for none.
    func config(blockSize: Int, isDouble: Bool) -> QuantizationConfig? {
        let type: QuantType
        switch self {
        case .nf4: type = .nf4
        case .fp4: type = .fp4
        case .none: return nil
        }
        return QuantizationConfig(
            quantType: type, blockSize: blockSize, usesDoubleQuantization: isDouble)
    }
}

extension ComputeDType {
    /// The dtype in libtorch's terms.
    var torch: DType {
        switch self {
        case .bfloat16: .bfloat16
        case .float32: .float32
        case .float16: .float16
        }
    }
}

extension ModuleSelection {
    /// The selection in PEFT's terms.
    var peft: TargetModules {
        switch self {
        case .names(let names): .names(names)
        case .pattern(let pattern): .regex(pattern)
        case .allLinear: .allLinear
        }
    }
}

extension LoRAConfig {
    /// Takes over the options of a start that rows decide.
    fileprivate mutating func setCalibration(of config: FineTuneConfig) {
        switch initLoraWeights {
        case .eva:
            var eva = EVAConfig()
            (eva.rho, eva.tau) = (config.evaRho, config.evaTau)
            evaConfig = eva
        case .corda:
            var corda = CorDAConfig()
            corda.method = config.cordaMethod
            cordaConfig = corda
        case .loraGA:
            var loraGA = LoRAGAConfig()
            (loraGA.direction, loraGA.scale) = (config.loraGaDirection, config.loraGaScale)
            loraGAConfig = loraGA
        default: break
        }
    }
}
