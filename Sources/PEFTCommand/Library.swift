package import PEFT

/// What the command asks of the library; passed in, so that tests of printing need no model.
package struct Library {
    /// The version line: "swift-peft 0.1.0 (libtorch 2.13.0)".
    package var version: () throws -> String
    /// Fine-tunes, and reports as it goes.
    package var train:
        (FineTuneConfig, StopRequest, @escaping (TrainingEvent) -> Void) throws -> Void
    /// Checks a run before its first step.
    package var doctor: (FineTuneConfig) throws -> PreflightReport
    /// Predicts what a run takes.
    package var plan: (PlanOptions) throws -> PlanReport
    /// Scores rows.
    package var score: (ScoreOptions) throws -> ScoreReport
    /// Generates, and hands over the text as it comes.
    package var generate: (GenerateOptions, (String) -> Void) throws -> GenerationReport
    /// Reads a model to talk with.
    package var chat: (ChatOptions) throws -> Conversation.Answer
    /// Writes a model with an adapter in its weights.
    package var merge: (MergeOptions) throws -> MergeReport
    /// Makes one adapter of several.
    package var combine: (CombineOptions) throws -> CombineReport
    /// Writes a model in 4 bits.
    package var quantize: (QuantizeOptions) throws -> QuantizeReport
    /// Writes an adapter for another program.
    package var export: (ExportOptions) throws -> Export.Summary
    /// Describes a file or folder.
    package var inspect: (InspectOptions) throws -> InspectReport
    /// Tokenizes lines, and hands over the ids of each.
    package var tokenize: (TokenizeOptions, LineReader, ([Int]) -> Void) throws -> Void
    /// Writes a model of random numbers.
    package var initModel: (InitModelOptions) throws -> InitModel.Summary
    /// Starts processes of this program.
    package var launch: (LaunchOptions, StopRequest, Launch.Streams) throws -> Int32

    /// Makes a library of its parts.
    package init(
        version: @escaping () throws -> String,
        train:
            @escaping (FineTuneConfig, StopRequest, @escaping (TrainingEvent) -> Void) throws ->
            Void,
        doctor: @escaping (FineTuneConfig) throws -> PreflightReport,
        plan: @escaping (PlanOptions) throws -> PlanReport,
        score: @escaping (ScoreOptions) throws -> ScoreReport,
        generate: @escaping (GenerateOptions, (String) -> Void) throws -> GenerationReport,
        chat: @escaping (ChatOptions) throws -> Conversation.Answer,
        merge: @escaping (MergeOptions) throws -> MergeReport,
        combine: @escaping (CombineOptions) throws -> CombineReport,
        quantize: @escaping (QuantizeOptions) throws -> QuantizeReport,
        export: @escaping (ExportOptions) throws -> Export.Summary,
        inspect: @escaping (InspectOptions) throws -> InspectReport,
        tokenize: @escaping (TokenizeOptions, LineReader, ([Int]) -> Void) throws -> Void,
        initModel: @escaping (InitModelOptions) throws -> InitModel.Summary,
        launch: @escaping (LaunchOptions, StopRequest, Launch.Streams) throws -> Int32
    ) {
        self.version = version
        self.train = train
        self.doctor = doctor
        self.plan = plan
        self.score = score
        self.generate = generate
        self.chat = chat
        self.merge = merge
        self.combine = combine
        self.quantize = quantize
        self.export = export
        self.inspect = inspect
        self.tokenize = tokenize
        self.initModel = initModel
        self.launch = launch
    }
}
