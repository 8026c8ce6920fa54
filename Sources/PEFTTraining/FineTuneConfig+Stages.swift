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
        lora.rankPattern = rankPattern
        lora.alphaPattern = alphaPattern
        lora.useRslora = useRslora
        lora.baseModelNameOrPath = model
        lora.taskType = "CAUSAL_LM"
        return lora
    }

    /// How rows become tokens.
    var encoding: EncodingOptions {
        EncodingOptions(
            maxLength: maxLength, truncationMode: truncationMode,
            completionOnlyLoss: completionOnlyLoss, assistantOnlyLoss: assistantOnlyLoss)
    }

    /// How rows become steps of so many processes.
    func batches(numRanks: Int) -> BatchSchedule.Options {
        var options = BatchSchedule.Options(
            perDeviceTrainBatchSize: perDeviceTrainBatchSize,
            gradientAccumulationSteps: gradientAccumulationSteps, shuffle: shuffle,
            seed: UInt64(seed), packing: packing, maxLength: maxLength)
        options.numRanks = numRanks
        return options
    }

    /// On whose disk the files are that have no names, and so need no folder of their own.
    private var offloadFolder: String { RunResources.existingFolder(at: outputDir) }

    /// Where the optimizer's moments are kept; nil for memory.
    var momentFolder: String? { offload.hasOptimizer ? offloadFolder : nil }

    /// How the model is divided over processes.
    var shards: ModelShards.Options {
        ModelShards.Options(
            strategy: sharding, reshardsAfterForward: reshardAfterForward,
            offloadFolder: offload.hasBase ? offloadFolder : nil)
    }

    /// What the run computes with, in the terms of the rules.
    var precision: PrecisionRules.Combination { baseModel.precision(lossScaling) }

    /// The constants of the optimizer.
    var optimizer: AdamW.Configuration {
        var optimizer = AdamW.Configuration()
        optimizer.beta1 = adamBeta1
        optimizer.beta2 = adamBeta2
        optimizer.epsilon = adamEpsilon
        optimizer.weightDecay = weightDecay
        return optimizer
    }

    /// The step at which the run ends.
    func totalSteps(stepsPerEpoch: Int) -> Int {
        guard maxSteps <= 0 else { return maxSteps }
        return max(1, Int((numTrainEpochs * Double(stepsPerEpoch)).rounded(.up)))
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
        "model", "data", "eval_data", "output_dir", "overwrite_output_dir", "adapter",
        "ignore_base_fingerprint", "resume", "device", "threads", "logging_steps", "eval_steps",
        "eval_on_start", "save_steps", "save_total_limit", "max_steps", "num_train_epochs",
        "gradient_checkpointing", "gradient_checkpointing_interval", "per_device_eval_batch_size",
        "on_non_finite", "sharding",
        "reshard_after_forward", "reduce_each_micro_batch", "offload", "ddp_timeout", "profile",
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
