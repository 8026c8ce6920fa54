import Foundation
import PEFT
import PEFTTokenizers
import PEFTTraining
import Testing

@Suite struct ConfigOptionTests {
    /// The command line is an interface: a change here breaks scripts.
    static let trainOptions = """
        model= data= dataset=[] eval_data=null eval_dataset={} output_dir= adapter=null ignore_base_fingerprint=false \
        resume=false overwrite_output_dir=false \
        quantize=nf4 double_quant=true quant_block_size=64 dtype=bfloat16 loss_scaling=none \
        lora_r=16 lora_alpha=32 lora_dropout=0 target_modules=all-linear target_parameters=null exclude_modules=null \
        layers_to_transform=null layer_replication=null rank_pattern={} alpha_pattern={} use_rslora=false \
        init_lora_weights=true loftq_iter=1 calibration_rows=256 eva_rho=2 eva_tau=0.99 corda_method=ipm \
        lora_ga_direction=ArB2r lora_ga_scale=stable use_dora=false use_kasa=false kasa_beta=0.0001 kasa_gamma=0.001 lora_bias=false alora_invocation_tokens=null bias=none modules_to_save=null trainable_token_indices=null \
        ensure_weight_tying=false \
        max_length=1024 dataset_streaming=false truncation_mode=error packing=false completion_only_loss=null \
        assistant_only_loss=false shuffle=true group_by_length=false share_prefixes=false \
        loss_type=nll beta=0.1 desirable_weight=1 undesirable_weight=1 optim=adamw_torch \
        learning_rate=0.0002 loraplus_lr_ratio=null loraplus_lr_embedding=1e-06 lr_scheduler_type=linear \
        lr_scheduler_kwargs={} warmup_steps=0 warmup_ratio=null weight_decay=0 \
        adam_beta1=0.9 adam_beta2=0.999 adam_epsilon=1e-08 label_smoothing_factor=0 neftune_noise_alpha=null max_grad_norm=1 max_steps=-1 \
        num_train_epochs=3 per_device_train_batch_size=8 per_device_eval_batch_size=8 \
        gradient_accumulation_steps=1 gradient_checkpointing=false gradient_checkpointing_interval=1 on_non_finite=stop \
        seed=42 device=auto threads=null \
        sharding=full reshard_after_forward=true reduce_each_micro_batch=false offload=none ddp_timeout=1800 \
        logging_steps=10 eval_steps=0 eval_on_start=false save_steps=500 save_total_limit=null \
        load_best_model_at_end=false metric_for_best_model=null greater_is_better=null early_stopping_patience=null \
        early_stopping_threshold=0 report_to=[] profile=null
        """
    static let scoreOptions = """
        model= adapter=null ignore_base_fingerprint=false quantize=nf4 double_quant=true \
        quant_block_size=64 dtype=bfloat16 device=auto threads=null data= max_length=null truncation_mode=error batch_size=8 json=null logits=null
        """
    static let generateOptions = """
        model= adapter=null ignore_base_fingerprint=false quantize=nf4 double_quant=true \
        quant_block_size=64 dtype=bfloat16 device=auto threads=null prompt= chat=false max_new_tokens=128 temperature=0 top_p=1 seed=42 json=false
        """

    static let chatOptions = """
        model= adapter=null ignore_base_fingerprint=false quantize=nf4 double_quant=true \
        quant_block_size=64 dtype=bfloat16 device=auto threads=null system=null max_new_tokens=512 temperature=0 top_p=1 seed=42 json=false
        """

    private func listed<Options: ConfigurableOptions>(_ type: Options.Type) -> String {
        Options.options.map { option in
            let value = option.get(Options())
            let text = value.content == .string("") ? "" : YAMLWriter.text(of: value)
            return option.key + "=" + text
        }.joined(separator: " ")
    }

    @Test func keysAndDefaultsAreFrozen() {
        #expect(listed(FineTuneConfig.self) == Self.trainOptions)
        #expect(listed(ScoreOptions.self) == Self.scoreOptions)
        #expect(listed(GenerateOptions.self) == Self.generateOptions)
        #expect(listed(ChatOptions.self) == Self.chatOptions)
        #expect(listed(InspectOptions.self) == "path= json=false")
        #expect(listed(TokenizeOptions.self) == "model= input= chat=false add_special_tokens=true")
    }

    @Test func everyPropertyHasItsOption() {
        func names(_ options: Any) -> [String] {
            Mirror(reflecting: options).children.flatMap { child in
                // Options that commands share are structs.
                ["base", "sampling"].contains(child.label)
                    ? names(child.value) : [child.label].compactMap(\.self)
            }.sorted()
        }
        func camelCased<Options>(_ table: [ConfigOption<Options>]) -> [String] {
            table.map { option in
                let words = option.key.split(separator: "_")
                return words.prefix(1).joined()
                    + words.dropFirst().map(\.capitalized).joined()
            }.sorted()
        }
        #expect(names(FineTuneConfig()) == camelCased(FineTuneConfig.options))
        #expect(names(ScoreOptions()) == camelCased(ScoreOptions.options))
        #expect(names(GenerateOptions()) == camelCased(GenerateOptions.options))
        #expect(names(ChatOptions()) == camelCased(ChatOptions.options))
        #expect(names(InspectOptions()) == camelCased(InspectOptions.options))
        #expect(names(TokenizeOptions()) == camelCased(TokenizeOptions.options))
    }

    /// A value of each option that is not its default, as flags.
    static let changed: [(flags: [String], yaml: String)] = [
        (["--model", "m"], "model: m"),
        (["--data=d e"], "data: \"d e\""),
        (["--eval-data", "e"], "eval_data: e"),
        (["--output-dir", "o"], "output_dir: o"),
        (["--adapter", "a"], "adapter: a"),
        (["--ignore-base-fingerprint"], "ignore_base_fingerprint: true"),
        (["--resume"], "resume: true"),
        (["--overwrite-output-dir"], "overwrite_output_dir: true"),
        (["--quantize", "none"], "quantize: none"),
        (["--no-double-quant"], "double_quant: false"),
        (["--quant-block-size", "128"], "quant_block_size: 128"),
        (["--dtype", "float32"], "dtype: float32"),
        (["--loss-scaling", "dynamic"], "loss_scaling: dynamic"),
        (["--loss-scaling", "1024"], "loss_scaling: 1024"),
        (["--device", "cuda:1"], "device: cuda:1"),
        (["--lora-r", "8"], "lora_r: 8"),
        (["--lora-alpha", "0.5"], "lora_alpha: 0.5"),
        (["--lora-dropout", ".1"], "lora_dropout: 0.1"),
        (["--target-modules", "q_proj", "v_proj"], "target_modules: [q_proj, v_proj]"),
        (["--target-modules", "q_proj,v_proj"], "target_modules: [q_proj, v_proj]"),
        (["--target-modules", "q_proj"], "target_modules: [q_proj]"),
        (["--target-modules", #".*\.(q|v)_proj"#], #"target_modules: '.*\.(q|v)_proj'"#),
        (
            ["--target-parameters", "experts.down_proj", "gate.weight"],
            "target_parameters: [experts.down_proj, gate.weight]"
        ),
        (["--exclude-modules", "k_proj"], "exclude_modules: k_proj"),
        (["--layers-to-transform", "0", "2"], "layers_to_transform: [0, 2]"),
        (["--layers-to-transform=0,2"], "layers_to_transform: [0, 2]"),
        (["--rank-pattern", "q_proj=4,v_proj=8"], "rank_pattern: {q_proj: 4, v_proj: 8}"),
        (["--rank-pattern", "q_proj=4", "v_proj=8"], "rank_pattern: {v_proj: 8, q_proj: 4}"),
        (["--rank-pattern", #"{"a{1,2}": 4}"#], #"rank_pattern: {"a{1,2}": 4}"#),
        (["--alpha-pattern", "q_proj=4.5"], "alpha_pattern: {q_proj: 4.5}"),
        (["--use-rslora"], "use_rslora: true"),
        (["--init-lora-weights", "gaussian"], "init_lora_weights: gaussian"),
        (["--init-lora-weights", "pissa_niter_16"], "init_lora_weights: pissa_niter_16"),
        (["--loftq-iter", "3"], "loftq_iter: 3"),
        (["--calibration-rows", "16"], "calibration_rows: 16"),
        (["--eva-rho", "1.5"], "eva_rho: 1.5"),
        (["--eva-tau", "0.9"], "eva_tau: 0.9"),
        (["--corda-method", "kpm"], "corda_method: kpm"),
        (["--lora-ga-direction", "ArBr"], "lora_ga_direction: ArBr"),
        (["--lora-ga-scale", "weight_svd"], "lora_ga_scale: weight_svd"),
        (["--use-dora"], "use_dora: true"),
        (["--layer-replication", "[[0, 4],[2,5]]"], "layer_replication: [[0, 4], [2, 5]]"),
        (["--use-kasa"], "use_kasa: true"),
        (["--kasa-beta", "0.01"], "kasa_beta: 0.01"),
        (["--kasa-gamma", "0"], "kasa_gamma: 0"),
        (["--lora-bias"], "lora_bias: true"),
        (["--alora-invocation-tokens", "5,2,5"], "alora_invocation_tokens: [5, 2, 5]"),
        (["--bias", "lora_only"], "bias: lora_only"),
        (["--modules-to-save", "norm,lm_head"], "modules_to_save: [norm, lm_head]"),
        (["--trainable-token-indices", "3,1"], "trainable_token_indices: [3, 1]"),
        (
            ["--trainable-token-indices", "{embed_tokens: [3, 1]}"],
            "trainable_token_indices: {embed_tokens: [3, 1]}"
        ),
        (["--ensure-weight-tying"], "ensure_weight_tying: true"),
        (["--max-length", "64"], "max_length: 64"),
        (["--truncation-mode", "keep_end"], "truncation_mode: keep_end"),
        (["--packing"], "packing: true"),
        (["--packing=true"], "packing: true"),
        (["--no-completion-only-loss"], "completion_only_loss: false"),
        (["--completion-only-loss"], "completion_only_loss: true"),
        (["--assistant-only-loss"], "assistant_only_loss: true"),
        (["--no-shuffle"], "shuffle: false"),
        (["--shuffle=false"], "shuffle: false"),
        (["--share-prefixes"], "share_prefixes: true"),
        (["--learning-rate", "2e-5"], "learning_rate: 2e-5"),
        (["--learning_rate", "1"], "learning_rate: 1"),
        (
            ["--lr-scheduler-type", "constant_with_warmup"],
            "lr_scheduler_type: constant_with_warmup"
        ),
        (["--warmup-steps", "3"], "warmup_steps: 3"),
        (["--weight-decay", "0.01"], "weight_decay: 0.01"),
        (["--adam-beta1", "0.8"], "adam_beta1: 0.8"),
        (["--adam-beta2", "0.95"], "adam_beta2: 0.95"),
        (["--adam-epsilon", "1e-6"], "adam_epsilon: 1e-6"),
        (["--max-grad-norm", "0"], "max_grad_norm: 0"),
        (["--max-steps", "10"], "max_steps: 10"),
        (["--num-train-epochs", "1.5"], "num_train_epochs: 1.5"),
        (["--per-device-train-batch-size", "2"], "per_device_train_batch_size: 2"),
        (["--per-device-eval-batch-size", "3"], "per_device_eval_batch_size: 3"),
        (["--gradient-accumulation-steps", "4"], "gradient_accumulation_steps: 4"),
        (["--gradient-checkpointing"], "gradient_checkpointing: true"),
        (["--gradient-checkpointing-interval", "2"], "gradient_checkpointing_interval: 2"),
        (["--on-non-finite", "skip"], "on_non_finite: skip"),
        (["--seed", "7"], "seed: 7"),
        (["--threads", "1"], "threads: 1"),
        (["--sharding", "grad-op"], "sharding: grad-op"),
        (["--sharding", "hybrid:4"], "sharding: 'hybrid:4'"),
        (["--no-reshard-after-forward"], "reshard_after_forward: false"),
        (["--reduce-each-micro-batch"], "reduce_each_micro_batch: true"),
        (["--offload", "base"], "offload: base"),
        (["--ddp-timeout", "60"], "ddp_timeout: 60"),
        (["--logging-steps", "1"], "logging_steps: 1"),
        (["--eval-steps", "5"], "eval_steps: 5"),
        (["--eval-on-start"], "eval_on_start: true"),
        (["--profile", "trace.json"], "profile: trace.json"),
        (["--save-steps", "0"], "save_steps: 0"),
        (["--save-total-limit", "2"], "save_total_limit: 2"),
        (["--dataset", "a.jsonl:0.7", "b:0.3"], "dataset: [\"a.jsonl:0.7\", \"b:0.3\"]"),
        (
            ["--dataset", "a.jsonl:0.7", "--dataset=b:0.3"],
            "dataset: [{path: a.jsonl, weight: 0.7}, {path: b, weight: 0.3}]"
        ),
        (["--dataset", "C:/a.csv"], "dataset: [\"C:/a.csv\"]"),
        (["--eval-dataset", "a=x.jsonl,b=y.csv"], "eval_dataset: {a: x.jsonl, b: y.csv}"),
        (["--dataset-streaming"], "dataset_streaming: true"),
        (["--group-by-length"], "group_by_length: true"),
        (["--loss-type", "orpo"], "loss_type: orpo"),
        (["--beta", "0.3"], "beta: 0.3"),
        (["--desirable-weight", "2"], "desirable_weight: 2"),
        (["--undesirable-weight", "0.5"], "undesirable_weight: 0.5"),
        (["--optim", "adamw_8bit"], "optim: adamw_8bit"),
        (["--loraplus-lr-ratio", "16"], "loraplus_lr_ratio: 16"),
        (["--loraplus-lr-embedding", "1e-5"], "loraplus_lr_embedding: 1e-5"),
        (
            ["--lr-scheduler-kwargs", "num_decay_steps=5,decay_type=1-sqrt"],
            "lr_scheduler_kwargs: {num_decay_steps: 5, decay_type: 1-sqrt}"
        ),
        (["--warmup-ratio", "0.1"], "warmup_ratio: 0.1"),
        (["--label-smoothing-factor", "0.1"], "label_smoothing_factor: 0.1"),
        (["--neftune-noise-alpha", "5"], "neftune_noise_alpha: 5"),
        (["--load-best-model-at-end"], "load_best_model_at_end: true"),
        (["--metric-for-best-model", "eval_loss"], "metric_for_best_model: eval_loss"),
        (["--greater-is-better"], "greater_is_better: true"),
        (["--early-stopping-patience", "3"], "early_stopping_patience: 3"),
        (["--early-stopping-threshold", "0.01"], "early_stopping_threshold: 0.01"),
        (["--report-to", "tensorboard,html"], "report_to: [tensorboard, html]"),
    ]

    @Test(arguments: changed.indices)
    func flagsAndFilesGiveTheSameConfig(index: Int) throws {
        let (flags, yaml) = Self.changed[index]
        var arguments = CommandArguments(FineTuneConfig())
        arguments.read(flags)
        #expect(arguments.problems == [])
        var file = ConfigFile(FineTuneConfig())
        try file.read(text: yaml, "run.yaml")
        #expect(file.problems == [])
        #expect(arguments.options == file.options)
        #expect(file.options != FineTuneConfig())

        var again = ConfigFile(FineTuneConfig())
        try again.read(text: file.options.yaml, "dump.yaml")
        #expect(again.problems == [])
        #expect(again.options == file.options)
    }

    @Test func everyOptionIsAmongTheChangedOnes() {
        let keys = Set(Self.changed.map { $0.yaml.prefix { $0 != ":" } })
        #expect(keys == Set(FineTuneConfig.options.map { $0.key[...] }))
    }
}
