/// The commands, with what their help texts say besides their options.
package enum CommandName: String, CaseIterable, Sendable {
    case train
    case doctor
    case plan
    case score
    case generate
    case chat
    case merge
    case combine
    case quantize
    case export
    case inspect
    case tokenize
    case initModel = "init-model"
    case launch

    /// The command in a few words.
    package var summary: String {
        switch self {
        case .train: "fine-tune a model: quantize the base, train a LoRA adapter"
        case .doctor: "check a training run without making it: will everything learn?"
        case .plan: "predict the memory and traffic of a run, and propose one that fits"
        case .score: "measure how well a model predicts a file of rows"
        case .generate: "continue a prompt"
        case .chat: "talk with a model"
        case .merge: "write a model with an adapter in its weights"
        case .combine: "make one adapter of several"
        case .quantize: "write a model in 4 bits"
        case .export: "write an adapter for llama.cpp"
        case .inspect: "say what is in a model, an adapter or a checkpoint"
        case .tokenize: "turn text into token ids"
        case .initModel: "write a model of random numbers"
        case .launch: "run a command in several processes on this machine"
        }
    }

    /// What the command does, in a few sentences.
    package var explanation: String {
        switch self {
        case .train:
            """
            Fine-tunes a model: reads the base and quantizes it on the way, attaches a LoRA adapter, \
            trains it on rows of {"text"}, {"prompt","completion"}, {"messages"} or {"tokens"}, and \
            writes a folder that Hugging Face PEFT loads, with the metrics of each logged step in \
            metrics.jsonl.
            SIGINT (Ctrl-C), SIGTERM and SIGUSR1 end the run after the current step with a checkpoint, \
            from which --resume continues exactly; a second one ends it at once.
            """
        case .doctor:
            """
            Makes every check that 'peft train' makes before its first step, and writes nothing: whether \
            the loss reaches every trainable tensor, what of the rows is learned, whether targets \
            match, dtypes fit, and disk and memory suffice. Failures have a stable code; \
            docs/errors explains each.
            """
        case .plan:
            """
            Predicts what a training run takes, before any weight is read: the memory of a process by part, \
            and what it sends to others in a step. The model needs no more than its config.json; rows that \
            are there decide the largest micro-batch. With --memory it proposes what fits, or what would \
            be faster and still fit.
            """
        case .score:
            """
            Scores a model on rows: the mean loss of the target tokens and its perplexity. In rows of \
            text and tokens every token after the first is a target.
            """
        case .generate: "Continues a prompt, and prints the text as it comes."
        case .chat:
            """
            Talks with a model through its chat template: reads a line, prints the answer as it comes, and so             on to the end of the input. /system TEXT, /reset, /save FILE, /help and /exit are for the program.             What the model has read already is not run again. SIGINT (Ctrl-C) ends an answer, not the program.
            """
        case .merge:
            """
            Adds the update of an adapter to the weights of its base, W + s B A in float32, and writes the \
            model: a Hugging Face folder, or of a GGUF base a GGUF file. One weight at a time is in memory. \
            Says how much of the update is left after rounding, and refuses a model in which most of it \
            is lost.
            """
        case .combine:
            """
            Makes one LoRA adapter of several, as PEFT's add_weighted_adapter does, and writes a folder that \
            PEFT loads. Types with svd sum the products B A and split the sum again; cat puts the matrices \
            side by side, which is exact and of the sum of the ranks; linear, ties, dare and \
            magnitude_prune sum the matrices, which have one rank then. No base model is read.
            """
        case .quantize:
            """
            Writes a model with its linear weights in 4 bits, as transformers with bitsandbytes saves it. \
            The folder is a model like any other: train, score and generate read the codes as they are, \
            which starts sooner than quantizing, and adapters fit it and its base alike.
            """
        case .export:
            """
            Writes a LoRA adapter as a GGUF file that llama.cpp loads beside a GGUF file of the base: \
            llama-cli -m base.gguf --lora adapter.gguf. Names and the order of rows are llama.cpp's.
            """
        case .inspect:
            "Says what is in a model, adapter or checkpoint folder, or in a GGUF file."
        case .tokenize:
            "Prints one JSON array of token ids a line of text; with --chat, a row of messages."
        case .initModel:
            """
            Writes a Hugging Face folder of random numbers, as transformers initializes a model of this \
            configuration: to measure what a model of its shape takes before it is downloaded.
            """
        case .launch:
            """
            Starts the command after -- in several processes that train one model together, and looks after \
            them: their lines have the rank in front, signals reach them all, and when one fails the \
            others end too. On several machines use torchrun, srun or mpirun.
            """
        }
    }

    /// Command lines to begin with.
    package var examples: [String] {
        switch self {
        case .train:
            [
                "peft train --model SmolLM2.gguf --data train.jsonl --output-dir out",
                "peft train --config run.yaml --learning-rate 1e-4",
                "peft train --config run.yaml --resume",
                "peft train --model base --data rows.jsonl --output-dir out --quantize none \\",
                "           --target-modules q_proj v_proj --lora-r 8 --max-steps 100",
            ]
        case .doctor:
            [
                "peft doctor run.yaml",
                "peft doctor run.yaml --gradient-checkpointing --json",
            ]
        case .plan:
            [
                "peft plan run.yaml",
                "peft plan run.yaml --world 4 --memory 24GB --bandwidth 1.2GB",
            ]
        case .score:
            [
                "peft score --model base --adapter out --data test.jsonl",
                "peft score --model base --data test.jsonl --quantize none --json -",
            ]
        case .generate:
            [
                "peft generate --model base --adapter out --chat --prompt 'What is a fjord?'",
                "peft generate --model base --prompt 'Once upon a time' --temperature 0.8 --top-p 0.9",
            ]
        case .chat:
            [
                "peft chat --model base --adapter out --system 'You are a poet.' --temperature 0.7",
                "echo 'What is a fjord?' | peft chat --model base --json",
            ]
        case .merge:
            [
                "peft merge --adapter out --output merged",
                "peft merge --adapter out --model base --output merged --dtype float32",
                "peft merge --adapter out --model SmolLM2.gguf --output merged.gguf --format gguf-q8_0",
            ]
        case .combine:
            [
                "peft combine --adapter out-a:0.7 --adapter out-b:0.3 --output both",
                "peft combine --adapter out-a:1 --adapter out-b:-0.5 --type ties --density 0.5 --output both",
            ]
        case .quantize:
            [
                "peft quantize --model base --output base-nf4",
                "peft quantize --model base --output base-fp4 --quant-type fp4 --no-double-quant",
            ]
        case .export:
            [
                "peft export --adapter out --output adapter.gguf",
                "peft export --adapter out --model SmolLM2.gguf --output adapter.gguf --format gguf-lora",
            ]
        case .inspect:
            ["peft inspect out", "peft inspect SmolLM2.gguf --json"]
        case .tokenize:
            [
                "peft tokenize --model base corpus.txt",
                "echo 'Hello, world' | peft tokenize --model base -",
            ]
        case .initModel:
            ["peft init-model config.json --output-dir random --seed 1"]
        case .launch:
            [
                "peft launch --nproc 2 -- train --config run.yaml",
                "peft launch --nproc 4 --max-restarts 3 -- train --config run.yaml --sharding full",
            ]
        }
    }
}
