package import PEFTLayers
package import Torch

/// The options of LoftQ, as in PEFT's `LoftQConfig`.
public struct LoftQConfig: Hashable, Sendable {
    /// The bits of a weight; 4 is what is supported.
    public var loftqBits = 4
    /// How often the weight is quantized and its error decomposed.
    public var loftqIter = 1

    /// PEFT's defaults.
    public init() {}

    /// Makes options.
    public init(loftqIter: Int) { self.loftqIter = loftqIter }
}

extension LoRAInitialization {
    /// Whether the start is computed from the layer's weight.
    public var readsWeight: Bool {
        switch self {
        case .pissa, .pissaIterated, .olora, .loftq, .corda, .loraGA: true
        case .kaimingUniform, .gaussian, .orthogonal, .random, .eva: false
        }
    }

    /// Whether the start is computed from what the base computes of rows of data.
    public var readsRows: Bool {
        switch self {
        case .eva, .corda, .loraGA: true
        case .kaimingUniform, .gaussian, .orthogonal, .random, .pissa, .pissaIterated, .olora,
            .loftq:
            false
        }
    }

    /// Whether the scaling goes into the start by its root, and so is positive.
    var needsPositiveScaling: Bool { readsWeight && self != .olora && self != .loraGA }
}

extension LoRAConfig {
    /// Whether how layers start is computed from their weights: something may be taken out of these.
    public var readsWeight: Bool { initLoraWeights.readsWeight || kasaConfig != nil }

    /// Whether what a start takes out of a weight is another update than A and B start as.
    package var takesAnother: Bool {
        kasaConfig != nil || initLoraWeights == .loftq && loftqConfig?.loftqIter ?? 1 > 1
    }

    /// The option that decides how layers start, as errors name it.
    package var startOption: String {
        kasaConfig == nil ? "init_lora_weights \(initLoraWeights.name)" : "kasa_config"
    }

    /// Computes the start of a layer's adapter from the layer's weight.
    ///
    /// With `W = U S Vᵀ`, and `r` at an index for the r largest singular values with their vectors:
    /// - `pissa`: `A = √(S_r / s) V_rᵀ`, `B = U_r √(S_r / s)`; `W - s B A` remains. `pissa_niter_N` finds them approximately.
    /// - `olora`: `W = Q R`, A the first r rows of R, B the first r columns of Q; `W - s B A` remains.
    /// - KaSA: A and B as LoRA; W without its r smallest singular values remains.
    /// - `loftq`: as `pissa`, of the error `W - q(X)` of the weight that is stored; X is W, and in each further iteration `W - s B A`.
    ///
    /// - Parameters:
    ///   - target: the layer.
    ///   - weight: `[outFeatures, inFeatures]`, any float dtype, finite; of a rank of at least the target's.
    ///   - seed: with the path, decides what is random: the subspace that `pissa_niter_N` begins with, KaSA's A.
    ///   - decoded: a tensor as it is stored and decoded, float32; only asked for by `loftq`.
    /// - Returns: the start; float32.
    /// - Throws: what `decoded` throws; `TorchError` if memory does not suffice.
    /// - Memory: the weight in float32, its factors of the same size and LAPACK's workspace.
    /// - Source: peft 0.21.2 `tuners/lora/layer.py:pissa_init, olora_init`, `utils/loftq_utils.py:loftq_init`; Meng et al. 2024, "PiSSA";
    ///   Büyükakyüz 2024, "OLoRA"; Li et al. 2023, "LoftQ".
    ///
    /// Differs from PEFT: `loftq` divides by the scaling, so that `q(X) + s B A` is near W whatever alpha is; PEFT's is for s = 1 only.
    package func start(
        of target: LoRATarget, weight: Tensor, seed: UInt64, decoded: (Tensor) throws -> Tensor
    ) throws -> LowRankStart {
        let (weight, rank) = (try weight.to(.float32), target.rank)
        if kasaConfig != nil { return try truncated(target, weight: weight, seed: seed) }
        switch initLoraWeights {
        case .pissa:
            let update = try Self.principal(try weight.svd(), rank, target.scaling)
            return LowRankStart(update: update, subtracted: update)
        case .pissaIterated(let iterations):
            let generator = try Generator(seed: StableHash.of(seed, target.path))
            let numbers = try Tensor.normal(
                [weight.shape.min() ?? 1, rank], generator: generator)
            let update = try Self.principal(
                LoRAInitialization.approximateSVD(weight, numbers, iterations: iterations),
                rank, target.scaling)
            return LowRankStart(update: update, subtracted: update)
        case .olora:
            let (q, r) = try weight.qr()
            let update = LowRankUpdate(
                a: try r.narrow(0, 0, rank).contiguous(),
                b: try q.narrow(1, 0, rank).contiguous(), scaling: target.scaling)
            return LowRankStart(update: update, subtracted: update)
        case .loftq:
            func error(without taken: LowRankUpdate?) throws -> LowRankUpdate {
                let stored = try taken?.taken(from: weight) ?? weight
                return try Self.principal(
                    try (weight - decoded(stored)).svd(), rank, target.scaling)
            }
            var subtracted: LowRankUpdate?
            for _ in 1..<(loftqConfig ?? LoftQConfig()).loftqIter {
                subtracted = try error(without: subtracted)
            }
            return LowRankStart(
                update: try error(without: subtracted), subtracted: subtracted)
        case .kaimingUniform, .gaussian, .orthogonal, .random, .eva, .corda, .loraGA:
            preconditionFailure("\(initLoraWeights) does not depend on the weight alone")
        }
    }

    /// `√(S_r / s) V_rᵀ` and `U_r √(S_r / s)`.
    static func principal(
        _ factors: (u: Tensor, s: Tensor, vt: Tensor), _ rank: Int, _ scaling: Double
    ) throws(TorchError) -> LowRankUpdate {
        let roots = try (factors.s.narrow(0, 0, rank) * (1 / scaling)).sqrt()
        return LowRankUpdate(
            a: try (roots.reshape([rank, 1]) * factors.vt.narrow(0, 0, rank)).contiguous(),
            b: try (factors.u.narrow(1, 0, rank) * roots).contiguous(), scaling: scaling)
    }
}

extension LoRAInitialization {
    /// The largest singular values and their vectors, approximately, by iterations of a subspace.
    ///
    /// - Parameters:
    ///   - matrix: `[m, n]`, float32.
    ///   - numbers: `[min(m, n), q]`, standard normal: its columns span the subspace to begin with.
    ///   - iterations: more are nearer to the exact values.
    /// - Returns: u, `[m, q]`; s, `[q]`; vt, `[q, n]`.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Source: Halko et al. 2009, algorithms 4.4 and 5.1, as `torch.svd_lowrank` has them.
    package static func approximateSVD(
        _ matrix: Tensor, _ numbers: Tensor, iterations: Int
    ) throws(TorchError) -> (u: Tensor, s: Tensor, vt: Tensor) {
        let isWide = matrix.shape[0] < matrix.shape[1]
        let tall = isWide ? try matrix.transposed() : matrix
        var basis = try tall.matmul(numbers).qr().q
        for _ in 0..<iterations {
            basis = try tall.transposed().matmul(basis).qr().q
            basis = try tall.matmul(basis).qr().q
        }
        let (inner, s, vt) = try basis.transposed().matmul(tall).svd()
        let u = try basis.matmul(inner)
        guard isWide else { return (u, s, vt) }
        return (try vt.transposed(), s, try u.transposed())
    }
}
