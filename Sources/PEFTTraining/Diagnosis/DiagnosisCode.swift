/// The stable name of one way in which a set-up cannot learn, or learns something else than was meant.
///
/// A code keeps its meaning for ever; `docs/errors/<code>.md` describes it with a program that provokes it. Letters: G gradient
/// path, A adapter, T targets, D dtypes, L what is learned, M the model, N numbers, O optimizer, R resources, S standing still.
public enum DiagnosisCode: String, CaseIterable, Codable, Sendable {
    /// A part of the forward pass ran while nothing was recorded.
    case noGradRegion = "PEFT-G001"
    /// The path passes a `detach`.
    case detached = "PEFT-G002"
    /// The path passes integers, Booleans or quantized values.
    case notDifferentiable = "PEFT-G003"
    /// An autograd node uses trainable tensors that are not among its inputs, as reentrant checkpointing over a frozen input does.
    case undeclaredCapture = "PEFT-G004"
    /// The layer ran, but its adapter did not.
    case adapterInactive = "PEFT-G005"
    /// The layer was not called in the forward pass.
    case moduleNotCalled = "PEFT-G006"
    /// The tensor was used, but nothing of it arrives at the loss.
    case resultUnused = "PEFT-G007"
    /// The pullback of an autograd node returned no gradient for one of its inputs.
    case noGradientReturned = "PEFT-G008"
    /// Backward was called on a loss that no recorded operation made.
    case lossWithoutGraph = "PEFT-G009"
    /// A frozen tensor gets a gradient.
    case frozenGetsGradient = "PEFT-G010"

    /// Nothing is trainable, because the adapter was loaded for inference.
    case adapterIsFrozen = "PEFT-A001"
    /// Nothing is trainable at all.
    case nothingTrainable = "PEFT-A002"
    /// The tensors of an adapter file are not those of the adapter.
    case adapterTensorsDiffer = "PEFT-A003"
    /// The adapter was trained on another base model.
    case otherBase = "PEFT-A004"
    /// After training, the adapter still does nothing: every B is zero.
    case adapterIsZero = "PEFT-A005"
    /// What was written is not what is in memory.
    case savedDiffers = "PEFT-A006"

    /// A part of the adapter's configuration matches nothing in the model.
    case unmatchedTarget = "PEFT-T001"
    /// A layer already has an adapter.
    case alreadyAdapted = "PEFT-T002"

    /// float16 without loss scaling.
    case float16WithoutScaling = "PEFT-D001"
    /// A combination of storage and dtypes that is not allowed.
    case dtypesDoNotFit = "PEFT-D002"

    /// A row, or every row, has no token that is learned.
    case noTargets = "PEFT-L001"
    /// No row teaches the end-of-text token.
    case noEndOfText = "PEFT-L002"
    /// Rows are longer than allowed, or were cut.
    case rowsTooLong = "PEFT-L003"
    /// A token is not in the model's vocabulary.
    case tokenOutOfRange = "PEFT-L004"

    /// A trainable tensor occurs in no block, or in several places.
    case tiedTwice = "PEFT-M001"

    /// A loss or gradient is infinite or NaN before the first step.
    case notFiniteAtStart = "PEFT-N001"
    /// The loss of a step is infinite or NaN.
    case lossNotFinite = "PEFT-N002"
    /// A gradient of a step is infinite or NaN.
    case gradientNotFinite = "PEFT-N003"

    /// The optimizer does not hold exactly the trainable tensors.
    case optimizerHoldsOthers = "PEFT-O001"

    /// The disk has too little space for the run's files.
    case diskTooSmall = "PEFT-R001"
    /// The machine has too little memory for a step.
    case memoryTooSmall = "PEFT-R002"

    /// An adapter tensor did not move between two checkpoints.
    case tensorStandsStill = "PEFT-S001"
    /// The gradient of one block vanishes while those of others do not.
    case gradientVanishes = "PEFT-S002"
    /// The loss is that of the base without adapter.
    case lossOfTheBase = "PEFT-S003"

    /// Whether it is about one step's numbers, so that a run can go on without that step.
    var isOfOneStep: Bool { self == .lossNotFinite || self == .gradientNotFinite }

    /// What is wrong, in a few words: the title of the code's page.
    public var title: String {
        switch self {
        case .noGradRegion: "a part of the forward pass ran without recording"
        case .detached: "the path from the loss passes a detach"
        case .notDifferentiable: "the path from the loss passes values without gradient"
        case .undeclaredCapture: "a node uses trainable tensors that are not its inputs"
        case .adapterInactive: "the layer ran, its adapter did not"
        case .moduleNotCalled: "the layer is not called in the forward pass"
        case .resultUnused: "a result does not arrive at the loss"
        case .noGradientReturned: "a pullback returns no gradient"
        case .lossWithoutGraph: "backward on a loss without graph"
        case .frozenGetsGradient: "a frozen tensor gets a gradient"
        case .adapterIsFrozen: "the adapter was loaded for inference"
        case .nothingTrainable: "nothing is trainable"
        case .adapterTensorsDiffer: "the file's tensors are not the adapter's"
        case .otherBase: "the adapter belongs to another base model"
        case .adapterIsZero: "the trained adapter does nothing"
        case .savedDiffers: "the saved adapter is not the one in memory"
        case .unmatchedTarget: "a target matches nothing"
        case .alreadyAdapted: "the layer has an adapter already"
        case .float16WithoutScaling: "float16 without loss scaling"
        case .dtypesDoNotFit: "storage and dtypes do not fit together"
        case .noTargets: "nothing of a row is learned"
        case .noEndOfText: "the end of the text is never learned"
        case .rowsTooLong: "rows are too long"
        case .tokenOutOfRange: "a token is not in the vocabulary"
        case .tiedTwice: "a trainable tensor has no place, or several"
        case .notFiniteAtStart: "infinite or NaN before the first step"
        case .lossNotFinite: "the loss is infinite or NaN"
        case .gradientNotFinite: "a gradient is infinite or NaN"
        case .optimizerHoldsOthers: "the optimizer holds other tensors"
        case .diskTooSmall: "the disk is too small"
        case .memoryTooSmall: "the memory is too small"
        case .tensorStandsStill: "an adapter tensor does not move"
        case .gradientVanishes: "the gradient of one block vanishes"
        case .lossOfTheBase: "the adapter makes no difference to the loss"
        }
    }
}
