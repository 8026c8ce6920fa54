extension FineTuneConfig {
    /// What is wrong with the values, each alone and together; empty when nothing is.
    package var problems: [ConfigProblem] {
        fileProblems + BaseModelChecks.problems(quantBlockSize: quantBlockSize, threads: threads)
            + precisionProblems + adapterProblems + trainingProblems + reportProblems
    }

    private var fileProblems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.require("model", model, "the base model")
        checks.require("data", data, "the training rows")
        checks.require("output_dir", outputDir, "where the adapter goes")
        checks.forbid(
            "overwrite_output_dir", if: overwriteOutputDir && resume,
            "contradicts resume, which continues the run that is there: give one of them")
        if evalData == nil {
            let explanation = "needs held-out rows: give eval_data too"
            checks.forbid("eval_steps", if: evalSteps > 0, explanation)
            checks.forbid("eval_on_start", if: evalOnStart, explanation)
        }
        return checks.problems
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
        checks.expect("learning_rate", learningRate, "a number above 0") { $0 > 0 && $0.isFinite }
        checks.expect("warmup_steps", warmupSteps, "at least 0") { $0 >= 0 }
        checks.expect("weight_decay", weightDecay, "at least 0") { $0 >= 0 && $0.isFinite }
        checks.expect("adam_beta1", adamBeta1, "at least 0 and below 1") { (0..<1).contains($0) }
        checks.expect("adam_beta2", adamBeta2, "at least 0 and below 1") { (0..<1).contains($0) }
        checks.expect("adam_epsilon", adamEpsilon, "a number above 0") { $0 > 0 && $0.isFinite }
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

    private var reportProblems: [ConfigProblem] {
        var checks = ConfigChecks()
        checks.expect("logging_steps", loggingSteps, "at least 1") { $0 >= 1 }
        checks.expect("eval_steps", evalSteps, "at least 0 (0: at the end only)") { $0 >= 0 }
        checks.expect("save_steps", saveSteps, "at least 0 (0: at the end only)") { $0 >= 0 }
        if let saveTotalLimit {
            checks.expect("save_total_limit", saveTotalLimit, "at least 1") { $0 >= 1 }
        }
        return checks.problems
    }
}
