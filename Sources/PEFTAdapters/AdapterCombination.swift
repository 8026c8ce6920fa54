/// How several LoRA adapters become one: PEFT's `add_weighted_adapter`.
///
/// With B, A and s of each adapter i and its weight w, the new adapter's product is
///
/// - `cat`: exactly `Σ w s B A`, of the sum of the ranks;
/// - `svd`: the best approximation of `Σ w s B A` of rank ``svdRank``;
/// - `linear`: `(Σ √(w s) B) (Σ √(w s) A)`, which has mixed products too: an approximation that PEFT calls rough.
///
/// The other types leave out elements first (`magnitude_prune`: all but the largest; `dare`: all but random ones, which are scaled up
/// for those left out), and with `ties` take only elements of the sign that most have; of the matrices, or with `_svd` of the products.
///
/// - Source: peft 0.21.2 `tuners/lora/model.py:LoraModel.add_weighted_adapter`, `utils/merge_utils.py`; Yadav et al. 2023, "TIES-Merging";
///   Yu et al. 2023, "Language Models are Super Mario" (DARE).
public struct AdapterCombination: Hashable, Sendable {
    /// What is done with the matrices.
    public var type: CombinationType
    /// The share of elements that pruning keeps, in (0, 1]; nil for types that do not prune.
    public var density: Double?
    /// How the sign of an element is chosen, for types with `ties`.
    public var majoritySignMethod: MajoritySignMethod
    /// The rank of the new adapter, for types with `svd`; nil for the largest rank of the adapters.
    public var svdRank: Int?
    /// For types with `svd`: no element is larger than this quantile of all, in (0, 1]; nil for no limit.
    public var svdClamp: Double?
    /// What `dare` leaves out.
    public var seed: UInt64

    /// Describes a combination.
    public init(
        type: CombinationType = .svd, density: Double? = nil,
        majoritySignMethod: MajoritySignMethod = .total, svdRank: Int? = nil,
        svdClamp: Double? = nil, seed: UInt64 = 0
    ) {
        self.type = type
        self.density = density
        self.majoritySignMethod = majoritySignMethod
        self.svdRank = svdRank
        self.svdClamp = svdClamp
        self.seed = seed
    }
}

/// What is done with the matrices of adapters that are combined; the names are PEFT's.
public enum CombinationType: String, CaseIterable, Codable, Hashable, Sendable {
    case svd
    case linear
    case cat
    case ties
    case tiesSVD = "ties_svd"
    case dareTies = "dare_ties"
    case dareLinear = "dare_linear"
    case dareTiesSVD = "dare_ties_svd"
    case dareLinearSVD = "dare_linear_svd"
    case magnitudePrune = "magnitude_prune"
    case magnitudePruneSVD = "magnitude_prune_svd"

    /// Which elements are left out.
    enum Pruning {
        case none
        case smallest
        case random
    }

    /// Which elements are left out before the sum.
    var pruning: Pruning {
        switch self {
        case .svd, .linear, .cat: .none
        case .ties, .tiesSVD, .magnitudePrune, .magnitudePruneSVD: .smallest
        case .dareTies, .dareLinear, .dareTiesSVD, .dareLinearSVD: .random
        }
    }

    /// Whether the type has a density.
    public var prunes: Bool { pruning != .none }

    /// Whether only elements of the sign that most have are summed.
    public var electsSigns: Bool {
        [.ties, .tiesSVD, .dareTies, .dareTiesSVD].contains(self)
    }

    /// Whether products are summed, and split into two matrices again.
    public var splitsProducts: Bool {
        switch self {
        case .svd, .tiesSVD, .dareTiesSVD, .dareLinearSVD, .magnitudePruneSVD: true
        default: false
        }
    }
}

/// How the sign of an element is chosen among those of the adapters.
public enum MajoritySignMethod: String, CaseIterable, Codable, Hashable, Sendable {
    /// The sign of the sum.
    case total
    /// The sign that more adapters have.
    case frequency
}
