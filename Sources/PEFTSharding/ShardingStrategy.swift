/// What of a model each process holds only a part of.
///
/// - Source: Zhao et al. 2023, "PyTorch FSDP"; torch 2.13 `torch/distributed/fsdp/api.py:ShardingStrategy`.
public enum ShardingStrategy: Hashable, Sendable {
    /// Base, adapter, gradients and optimizer are divided over all processes (ZeRO-3).
    case full
    /// Gradients and optimizer are divided; base and adapter are whole in every process (ZeRO-2).
    ///
    /// PyTorch's `SHARD_GRAD_OP` divides parameters outside of a step too; a frozen base would then be gathered anew in every
    /// step, only to be what it was.
    case gradOp
    /// Every process holds everything; gradients are summed.
    case none
    /// As ``full`` within groups of neighbouring ranks, each group holding everything (HSDP).
    case hybrid(ranksPerGroup: Int)
}

extension ShardingStrategy: LosslessStringConvertible {
    /// `full`, `grad-op`, `none` or `hybrid:4`.
    public var description: String {
        switch self {
        case .full: "full"
        case .gradOp: "grad-op"
        case .none: "none"
        case .hybrid(let count): "hybrid:\(count)"
        }
    }

    /// Reads a strategy; nil for anything else.
    public init?(_ description: String) {
        switch description {
        case "full": self = .full
        case "grad-op": self = .gradOp
        case "none": self = .none
        default:
            let parts = description.split(separator: ":", omittingEmptySubsequences: false)
            guard parts.count == 2, parts[0] == "hybrid", let count = Int(parts[1]), count > 0
            else { return nil }
            self = .hybrid(ranksPerGroup: count)
        }
    }
}
