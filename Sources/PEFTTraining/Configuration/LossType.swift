package import PEFTData

/// What a run minimizes, named as TRL's `loss_type`.
public enum LossType: String, Codable, CaseIterable, Hashable, Sendable, ConfigChoice {
    /// The cross entropy of the rows' targets.
    case nll
    /// DPO, of a better and a worse completion.
    case sigmoid
    /// The same with a hinge, as SLiC.
    case hinge
    /// IPO.
    case ipo
    /// ORPO, which needs no reference.
    case orpo
    /// KTO, of single completions that are good or bad.
    case kto

    /// What rows it learns from.
    package var rowUse: RowUse {
        switch self {
        case .nll: .examples
        case .sigmoid, .hinge, .ipo, .orpo: .pairs
        case .kto: .feedback
        }
    }

    /// Whether the model is compared with its base.
    package var hasReference: Bool {
        switch self {
        case .nll, .orpo: false
        case .sigmoid, .hinge, .ipo, .kto: true
        }
    }
}
