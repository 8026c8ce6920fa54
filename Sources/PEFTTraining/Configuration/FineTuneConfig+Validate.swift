import PEFTAdapters

extension FineTuneConfig {
    /// What is wrong with the values, each alone and together; empty when nothing is.
    package var problems: [ConfigProblem] {
        fileProblems + BaseModelChecks.problems(quantBlockSize: quantBlockSize, threads: threads)
            + precisionProblems + adapterProblems + trainingProblems + reportProblems
    }

    private var fileProblems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("model", model, "the base model")
        if dataset.sources.isEmpty { checks.require("data", data, "the training rows") }
        checkDatasets(&checks)
        checks.require("output_dir", outputDir, "where the adapter goes")
        checks.forbid(
            "overwrite_output_dir", if: overwriteOutputDir && resume,
            "contradicts resume, which continues the run that is there: give one of them")
        if evalData == nil, evalDataset.isEmpty {
            let explanation = "needs held-out rows: give eval_data too"
            checks.forbid("eval_steps", if: evalSteps > 0, explanation)
            checks.forbid("eval_on_start", if: evalOnStart, explanation)
        }
        return checks.problems
    }

    private func checkDatasets(_ checks: inout ConfigChecks) {
        checks.forbid(
            "dataset", if: !dataset.sources.isEmpty && !data.isEmpty,
            "says the same as data: give one of them")
        let weights = dataset.sources.compactMap(\.weight)
        checks.forbid(
            "dataset", if: !weights.isEmpty && weights.count < dataset.sources.count,
            "has a weight for some files only: give all of them one, or none")
        for weight in weights {
            checks.expect("dataset", weight, "weights above 0") { $0 > 0 && $0.isFinite }
        }
        checks.forbid(
            "eval_dataset", if: !evalDataset.isEmpty && evalData != nil,
            "says the same as eval_data: give one of them")
        for name in evalDataset.keys.sorted() {
            let isGood =
                !name.isEmpty
                && name.allSatisfy {
                    $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_" || $0 == "-")
                }
            checks.expect(
                "eval_dataset", name, "names of letters, digits, - and _"
            ) { _ in isGood }
        }
    }

    private var precisionProblems: [ConfigProblem] {
        do throws(Diagnosis) {
            try PrecisionRules.validate(precision)
            return []
        } catch {
            let key = lossScaling == .none ? "dtype" : "loss_scaling"
            return [ConfigProblem(.rule(key: key, error))]
        }
    }

    private var adapterProblems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.expect("lora_r", loraR, "at least 1") { $0 >= 1 }
        checks.expect("lora_alpha", loraAlpha, "a number above 0") { $0 > 0 && $0.isFinite }
        checks.expect("lora_dropout", loraDropout, "at least 0 and below 1") {
            (0..<1).contains($0)
        }
        if targetModules != .names([]) || targetParameters?.isEmpty != false {
            checkModules("target_modules", targetModules, &checks)
        }
        checks.forbid(
            "target_parameters", if: targetParameters?.contains("") == true,
            "holds an empty name")
        if let excludeModules {
            checkModules("exclude_modules", excludeModules, &checks)
            checks.forbid(
                "exclude_modules", if: excludeModules == .allLinear,
                "expected names or a regular expression, found all-linear: nothing would be left")
        }
        if let layersToTransform {
            checks.forbid(
                "layers_to_transform", if: layersToTransform.isEmpty,
                "is empty: no block would get an adapter; leave it out for all blocks")
            for layer in layersToTransform {
                checks.expect("layers_to_transform", layer, "indices from 0") { $0 >= 0 }
            }
        }
        checks.forbid(
            "lora_bias", if: loraBias && useDora,
            "contradicts use_dora: give one of them")
        let startsAtRandom = initLoraWeights == .kaimingUniform || initLoraWeights == .random
        checks.forbid(
            "lora_bias", if: loraBias && !startsAtRandom,
            "needs init_lora_weights true, or false")
        if let tokens = aloraInvocationTokens {
            let key = "alora_invocation_tokens"
            checks.forbid(
                key, if: tokens.isEmpty,
                "is empty: name the tokens from which the adapter acts, or leave it out")
            for token in tokens {
                checks.expect(key, token, "tokens from 0") { (0...Int(Int32.max)).contains($0) }
            }
            checks.forbid(key, if: useDora, "contradicts use_dora: give one of them")
            checks.forbid(key, if: loraBias, "contradicts lora_bias: give one of them")
            checks.forbid(
                key, if: initLoraWeights.readsWeight,
                "needs an init_lora_weights that takes nothing out of the base")
            checks.forbid(
                key, if: targetParameters?.isEmpty == false,
                "contradicts target_parameters: give one of them")
            checks.forbid(
                key, if: sharePrefixes,
                "contradicts share_prefixes: where a row is activated depends on its end")
        }
        checkKaSA(&checks)
        if let layerReplication {
            let key = "layer_replication"
            checks.forbid(
                key, if: layerReplication.isEmpty,
                "is empty: the model would have no blocks; leave it out for the base's own")
            for range in layerReplication {
                checks.expect(key, range, "ranges [from, to] of blocks, from below to") {
                    $0.count == 2 && $0[0] >= 0 && $0[0] < $0[1]
                }
            }
            checks.forbid(
                key, if: initLoraWeights.readsWeight || initLoraWeights.readsRows || useKasa,
                "needs an init_lora_weights that depends on neither weights nor rows, without use_kasa"
            )
        }
        checks.forbid(
            "init_lora_weights",
            if: initLoraWeights == .orthogonal
                && !([loraR] + rankPattern.values).allSatisfy { $0.isMultiple(of: 2) },
            "orthogonal needs even ranks: lora_r and rank_pattern")
        checks.expect("loftq_iter", loftqIter, "at least 1") { $0 >= 1 }
        checks.forbid(
            "loftq_iter", if: loftqIter > 1 && initLoraWeights != .loftq,
            "is without effect: it is for init_lora_weights loftq")
        checks.forbid(
            "init_lora_weights", if: initLoraWeights == .loftq && quantize == .none,
            "loftq starts from the error of quantization: give quantize nf4 or fp4")
        checks.expect("calibration_rows", calibrationRows, "at least 1") { $0 >= 1 }
        checks.expect("eva_rho", evaRho, "at least 1") { $0 >= 1 && $0.isFinite }
        checks.expect("eva_tau", evaTau, "a number from 0 to 1") { (0...1).contains($0) }
        let defaults = FineTuneConfig()
        for (key, isSet, start) in [
            ("eva_rho", evaRho != defaults.evaRho, LoRAInitialization.eva),
            ("eva_tau", evaTau != defaults.evaTau, .eva),
            ("corda_method", cordaMethod != defaults.cordaMethod, .corda),
            ("lora_ga_direction", loraGaDirection != defaults.loraGaDirection, .loraGA),
            ("lora_ga_scale", loraGaScale != defaults.loraGaScale, .loraGA),
        ] {
            checks.forbid(
                key, if: isSet && initLoraWeights != start,
                "is without effect: it is for init_lora_weights \(start.name)")
        }
        checks.forbid(
            "calibration_rows",
            if: calibrationRows != defaults.calibrationRows && !initLoraWeights.readsRows,
            "is without effect: it is for init_lora_weights eva, corda and lora_ga")
        checks.forbid(
            "init_lora_weights", if: initLoraWeights == .loraGA && lossType != .nll,
            "lora_ga starts from the gradient of loss_type nll: give another start")
        checks.forbid(
            "modules_to_save", if: modulesToSave.map { $0.isEmpty || $0.contains("") } ?? false,
            "holds no name, or an empty one: name modules, or leave it out")
        for tokens in trainableTokenIndices?.lists ?? [] {
            checks.forbid(
                "trainable_token_indices", if: tokens.isEmpty || Set(tokens).count < tokens.count,
                "is empty or names a token twice")
            for token in tokens {
                checks.expect("trainable_token_indices", token, "tokens from 0") { $0 >= 0 }
            }
        }
        for (name, rank) in rankPattern.sorted(by: { $0.key < $1.key }) {
            checks.expect("rank_pattern", rank, "at least 1 for '\(name)'") { $0 >= 1 }
        }
        for (name, alpha) in alphaPattern.sorted(by: { $0.key < $1.key }) {
            checks.expect("alpha_pattern", alpha, "a number above 0 for '\(name)'") {
                $0 > 0 && $0.isFinite
            }
        }
        return checks.problems
    }

    private func checkKaSA(_ checks: inout ConfigChecks) {
        let defaults = FineTuneConfig()
        for (key, value, isSet) in [
            ("kasa_beta", kasaBeta, kasaBeta != defaults.kasaBeta),
            ("kasa_gamma", kasaGamma, kasaGamma != defaults.kasaGamma),
        ] {
            checks.expect(key, value, "at least 0") { $0 >= 0 && $0.isFinite }
            checks.forbid(key, if: isSet && !useKasa, "is without effect: it is for use_kasa")
        }
        for (other, isSet) in [
            ("use_dora", useDora), ("lora_bias", loraBias),
            ("alora_invocation_tokens", aloraInvocationTokens != nil),
            ("target_parameters", targetParameters?.isEmpty == false),
        ] {
            checks.forbid(
                "use_kasa", if: useKasa && isSet, "contradicts \(other): give one of them")
        }
        checks.forbid(
            "use_kasa", if: useKasa && (initLoraWeights.readsWeight || initLoraWeights.readsRows),
            "needs an init_lora_weights that depends on neither weights nor rows")
    }

    private func checkModules(
        _ key: String, _ selection: ModuleSelection, _ checks: inout ConfigChecks
    ) {
        guard case .names(let names) = selection else { return }
        checks.forbid(key, if: names.isEmpty, "is empty: name at least one module")
        for name in names {
            checks.forbid(key, if: name.isEmpty, "holds an empty name")
            if case .names = ModuleSelection(name) { continue }
            checks.forbid(
                key, if: true,
                "'\(name)' in a list is no module name; a regular expression stands alone")
        }
    }

    private var trainingProblems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.expect("max_length", maxLength, "at least 2") { $0 >= 2 }
        checkObjective(&checks)
        checks.expect("learning_rate", learningRate, "a number above 0") { $0 > 0 && $0.isFinite }
        if let loraplusLrRatio {
            checks.expect("loraplus_lr_ratio", loraplusLrRatio, "a number above 0") {
                $0 > 0 && $0.isFinite
            }
            checks.forbid(
                "loraplus_lr_ratio", if: optim.freezesA,
                "has no meaning with optim lorafa, which trains no A: set learning_rate alone")
        }
        checks.expect("loraplus_lr_embedding", loraplusLrEmbedding, "at least 0") {
            $0 >= 0 && $0.isFinite
        }
        checks.expect("warmup_steps", warmupSteps, "at least 0") { $0 >= 0 }
        if let warmupRatio {
            checks.expect("warmup_ratio", warmupRatio, "at least 0 and at most 1") {
                (0...1).contains($0)
            }
            checks.forbid(
                "warmup_ratio", if: warmupSteps > 0,
                "says the same as warmup_steps: give one of them")
        }
        checkSchedule(&checks)
        checks.expect("weight_decay", weightDecay, "at least 0") { $0 >= 0 && $0.isFinite }
        checks.expect("adam_beta1", adamBeta1, "at least 0 and below 1") { (0..<1).contains($0) }
        checks.expect("adam_beta2", adamBeta2, "at least 0 and below 1") { (0..<1).contains($0) }
        checks.expect("adam_epsilon", adamEpsilon, "a number above 0") { $0 > 0 && $0.isFinite }
        checks.expect(
            "label_smoothing_factor", labelSmoothingFactor, "at least 0 and below 1"
        ) { (0..<1).contains($0) }
        if let neftuneNoiseAlpha {
            checks.expect("neftune_noise_alpha", neftuneNoiseAlpha, "a number above 0") {
                $0 > 0 && $0.isFinite
            }
        }
        checks.forbid(
            "share_prefixes", if: sharePrefixes && neftuneNoiseAlpha != nil,
            "does not go with neftune_noise_alpha: each row has noise of its own")
        checks.forbid(
            "group_by_length", if: groupByLength && packing,
            "has no meaning with packing, which fills rows to one length")
        checks.forbid(
            "group_by_length", if: groupByLength && !shuffle,
            "contradicts no shuffle: rows are grouped within a random order")
        checks.expect("max_grad_norm", maxGradNorm, "at least 0 (0: off)") {
            $0 >= 0 && $0.isFinite
        }
        checks.expect("max_steps", maxSteps, "at least 1, or -1 to go by epochs") {
            $0 >= 1 || $0 == -1
        }
        checks.expect("num_train_epochs", numTrainEpochs, "a number above 0") {
            $0 > 0 && $0.isFinite
        }
        checks.expect("per_device_train_batch_size", perDeviceTrainBatchSize, "at least 1") {
            $0 >= 1
        }
        checks.expect("per_device_eval_batch_size", perDeviceEvalBatchSize, "at least 1") {
            $0 >= 1
        }
        checks.expect(
            "gradient_checkpointing_interval", gradientCheckpointingInterval, "at least 1"
        ) { $0 >= 1 }
        checks.expect("gradient_accumulation_steps", gradientAccumulationSteps, "at least 1") {
            $0 >= 1
        }
        checks.expect("seed", seed, "at least 0") { $0 >= 0 }
        checks.expect("ddp_timeout", ddpTimeout, "a number above 0") { $0 > 0 && $0.isFinite }
        return checks.problems
    }

    private func checkObjective(_ checks: inout ConfigChecks) {
        checks.expect("beta", beta, "a number above 0") { $0 > 0 && $0.isFinite }
        checks.expect("desirable_weight", desirableWeight, "at least 0") {
            $0 >= 0 && $0.isFinite
        }
        checks.expect("undesirable_weight", undesirableWeight, "at least 0") {
            $0 >= 0 && $0.isFinite
        }
        guard lossType != .nll else { return }
        let name = lossType.rawValue
        checks.forbid(
            "packing", if: packing, "loss_type \(name) compares whole rows: turn packing off")
        checks.forbid(
            "completion_only_loss", if: completionOnlyLoss == false,
            "loss_type \(name) learns completions: leave it out")
        checks.forbid(
            "label_smoothing_factor", if: labelSmoothingFactor > 0,
            "loss_type \(name) has none: it is for nll")
        checks.forbid(
            "adapter", if: adapter != nil && lossType.hasReference,
            "loss_type \(name) compares with the base without adapter, which is not where this "
                + "adapter began: merge it into the base first")
        checks.forbid(
            "per_device_train_batch_size",
            if: lossType == .kto && perDeviceTrainBatchSize < 2,
            "kto compares with completions of other rows: give at least 2")
    }

    private func checkSchedule(_ checks: inout ConfigChecks) {
        let key = "lr_scheduler_kwargs"
        for (name, value) in lrSchedulerKwargs.sorted(by: { $0.key < $1.key }) {
            guard lrSchedulerType.kwargs.contains(name) else {
                let known = lrSchedulerType.kwargs.joined(separator: ", ")
                checks.forbid(
                    key, if: true,
                    "\(lrSchedulerType.rawValue) has no \(name); it takes "
                        + (known.isEmpty ? "none" : known))
                continue
            }
            if let expected = ScheduleOptions.problem(name, value) {
                checks.expect(key, value, "\(expected) for \(name)") { _ in false }
            }
        }
        let names = Set(lrSchedulerKwargs.keys)
        checks.forbid(
            key,
            if: lrSchedulerType == .cosineWithMinLr
                && names.intersection(["min_lr", "min_lr_rate"]).count != 1,
            "cosine_with_min_lr needs one of min_lr and min_lr_rate")
        checks.forbid(
            key,
            if: lrSchedulerType == .warmupStableDecay && !names.contains("num_decay_steps"),
            "warmup_stable_decay needs num_decay_steps")
        let options = ScheduleOptions(lrSchedulerKwargs)
        checks.forbid(
            key, if: lrSchedulerType == .polynomial && options.lrEnd >= learningRate,
            "polynomial's lr_end, \(options.lrEnd), must be below learning_rate")
    }

    private var reportProblems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.expect("logging_steps", loggingSteps, "at least 1") { $0 >= 1 }
        checks.expect("eval_steps", evalSteps, "at least 0 (0: at the end only)") { $0 >= 0 }
        checks.expect("save_steps", saveSteps, "at least 0 (0: at the end only)") { $0 >= 0 }
        let keys = ["early_stopping_patience", "load_best_model_at_end"]
        let isAsked = [earlyStoppingPatience != nil, loadBestModelAtEnd]
        for (key, isAsked) in zip(keys, isAsked) {
            checks.forbid(
                key, if: isAsked && evalSteps == 0,
                "needs evaluations in between: give eval_steps too")
        }
        if let earlyStoppingPatience {
            checks.expect("early_stopping_patience", earlyStoppingPatience, "at least 1") {
                $0 >= 1
            }
        }
        checks.expect("early_stopping_threshold", earlyStoppingThreshold, "at least 0") {
            $0 >= 0 && $0.isFinite
        }
        if let saveTotalLimit {
            checks.expect("save_total_limit", saveTotalLimit, "at least 1") { $0 >= 1 }
        }
        return checks.problems
    }
}
