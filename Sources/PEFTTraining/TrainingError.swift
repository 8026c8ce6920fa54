/// A run that cannot start, go on or be continued.
public enum TrainingError: Error, Equatable, Sendable {
    /// The run in the output folder was made with other settings.
    case resumeMismatch(checkpoint: String, differences: [SettingDifference])
    /// A state file of a checkpoint does not read.
    case invalidState(path: String, reason: String)
    /// A new run would overwrite an earlier one.
    case outputExists(folder: String)
    /// The model has no tokenizer, but the rows are text.
    case noTokenizer(model: String)
    /// The tokenizer has no chat template, but the rows are messages.
    case noChatTemplate(model: String)
    /// Some tokens of the rows are not in the model's vocabulary.
    case tokenOutOfRange(token: Int, row: Int, vocabularySize: Int)
    /// A row does not have the tokens that activate the adapter, or learns nothing after them.
    case notActivated(row: Int, tokens: [Int])
    /// Beginnings of rows were to be shared, and the adapter to start from acts from some tokens of a row on.
    case prefixesAreActivated
    /// The prompt has no token to continue from.
    case emptyPrompt
    /// A loss of preferences was asked for, and the output head is trained.
    case headIsTrained(path: String, lossType: String)
    /// A loss against the base was asked for, and a part of the base is in the adapter.
    case baseIsDivided(start: String, lossType: String)
    /// The base was read without what the adapter starts from, or with what another one does.
    case otherStart(adapter: String)
    /// A new adapter is to start from what rows of data give, and there are none where it is attached.
    case startNeedsRows(initialization: String)
    /// Rows of data do not decide how an adapter starts.
    case notCalibrated(initialization: String, reason: String)
    /// An optimizer for LoRA's matrices was asked for, and the adapter has none.
    case notLoRA(path: String)
    /// A line of input is not a row.
    case invalidRow(file: String, line: Int, reason: String)
    /// The best model is to be found by a metric that evaluations do not have.
    case noSuchMetric(name: String, known: [String])
    /// The metrics of a step cannot be written.
    case cannotWriteMetrics(path: String, reason: String)
    /// The processes of a run were told different things, or read different files.
    case ranksDiffer(topic: String, differences: [String])
    /// A number of processes that does not divide into shard groups of this size.
    case groupsDoNotDivide(ranksPerGroup: Int, numRanks: Int)

    /// A setting that differs between two runs.
    public struct SettingDifference: Equatable, Sendable {
        /// The configuration key.
        public let key: String
        /// The value that was expected.
        public let expected: String
        /// The value that was found.
        public let found: String
    }
}

extension TrainingError: CustomStringConvertible {
    /// What, where, expected, found and the remedy.
    public var description: String {
        switch self {
        case .resumeMismatch(let checkpoint, let differences):
            """
            \(checkpoint): cannot resume, these settings change the mathematics of the run: \
            \(Self.list(differences)); use the same settings, or another output_dir
            """
        case .invalidState(let path, let reason):
            "\(path): \(reason); remove this checkpoint and resume from the one before"
        case .outputExists(let folder):
            """
            \(folder) already holds a run; give --resume to continue it, --overwrite-output-dir to \
            replace it, or another --output-dir
            """
        case .noTokenizer(let model):
            "\(model): no tokenizer, which text needs; add tokenizer.json, or use rows of tokens"
        case .noChatTemplate(let model):
            "\(model): no chat template, which rows of messages need; add chat_template.jinja"
        case .tokenOutOfRange(let token, let row, let size):
            """
            row \(row + 1): token \(token) is not in the model's vocabulary, 0..<\(size); was \
            another tokenizer used?
            """
        case .notActivated(let row, let tokens):
            """
            row \(row + 1): expected the tokens \(tokens) of alora_invocation_tokens and a target after their last \
            occurrence, found none, so the adapter would learn nothing of the row; add them before what is to be \
            learned, or remove the row
            """
        case .prefixesAreActivated:
            """
            share_prefixes: the adapter acts on a row from its alora_invocation_tokens on, so where a row is activated \
            depends on its end; remove share_prefixes
            """
        case .emptyPrompt:
            "the prompt has no tokens; give a text"
        case .headIsTrained(let path, let lossType):
            "\(path): loss_type \(lossType) cannot train the output head; leave it out of target_modules"
        case .baseIsDivided(let start, let lossType):
            """
            \(start): loss_type \(lossType) compares with the model without its \
            adapter, which is not the base here, because a part of its weights was taken out; use \
            an adapter that starts otherwise
            """
        case .otherStart(let adapter):
            """
            \(adapter): the base was not read for the start of this adapter, by which parts of its weights \
            are taken out or not; read it with options that fit the adapter: BaseModelOptions.fit(_:seed:), or \
            fit(loading:) for a folder
            """
        case .startNeedsRows(let initialization):
            """
            init_lora_weights \(initialization): the start is computed from rows of data; compute it with \
            CalibratedStart, which writes an adapter folder, and load that with BaseModelOptions.fit(loading:) and \
            AdaptedModel(_:loading:)
            """
        case .notCalibrated(let initialization, let reason):
            "init_lora_weights \(initialization): \(reason)"
        case .notLoRA(let path):
            "\(path): its adapter has no matrices A and B, which optim lorafa is for; choose another optim"
        case .invalidRow(let file, let line, let reason):
            "\(file):\(line): \(reason)"
        case .ranksDiffer(let topic, let differences):
            """
            the processes do not agree on \(topic): \(differences.prefix(8).joined(separator: "; "))\
            \(differences.count > 8 ? " and \(differences.count - 8) more" : ""); start them all with the \
            same settings and files
            """
        case .groupsDoNotDivide(let ranksPerGroup, let numRanks):
            """
            sharding hybrid:\(ranksPerGroup): \(numRanks) processes do not divide into groups of \
            \(ranksPerGroup); give a divisor of \(numRanks)
            """
        case .noSuchMetric(let name, let known):
            "metric_for_best_model: no evaluation has \(name); expected one of \(known.joined(separator: ", "))"
        case .cannotWriteMetrics(let path, let reason):
            "\(path): cannot be written: \(reason)"
        }
    }

    private static func list(_ items: [String]) -> String {
        let shown = items.prefix(8).joined(separator: ", ")
        return items.count > 8 ? shown + " and \(items.count - 8) more" : shown
    }

    private static func list(_ differences: [SettingDifference]) -> String {
        list(differences.map { "\($0.key): expected \($0.expected), found \($0.found)" })
    }
}
