package import PEFTLayers
package import Torch

extension LoRAConfig {
    /// The start of a layer by LoRA-GA: the first step of training moves the weight nearly as training all of it would.
    ///
    /// With the gradient of the loss after the weight, `G = U S Vᵀ`, A is r rows of Vᵀ and B r columns of `U S`, both of the 2r largest
    /// singular values: ``LoRAGAConfig/Direction`` says which, ``LoRAGAConfig/Scale`` what they are multiplied with. `W - s B A` remains.
    ///
    /// - Parameters:
    ///   - target: the layer.
    ///   - weight: `[outFeatures, inFeatures]`, any float dtype.
    ///   - gradient: of the same shape, float32.
    ///   - seed: with the path, decides what is random: the subspace that the decomposition begins with.
    /// - Returns: the start; float32.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Source: Wang et al. 2024, "LoRA-GA: Low-Rank Adaptation with Gradient Approximation"; peft 0.21.2
    ///   `tuners/lora/layer.py:lora_ga_init`.
    ///
    /// Differs from PEFT: `stable` takes the layer's outputs for GPT-2's transposed weights, too; PEFT takes the inputs there.
    package func gradientStart(
        of target: LoRATarget, weight: Tensor, gradient: Tensor, seed: UInt64
    ) throws(TorchError) -> LowRankStart {
        let (options, rank) = (loraGAConfig ?? LoRAGAConfig(), target.rank)
        let smallest = gradient.shape.min() ?? 1
        let generator = try Generator(seed: StableHash.of(seed, target.path))
        func largest(_ matrix: Tensor, _ count: Int) throws(TorchError) -> (
            u: Tensor, s: Tensor, vt: Tensor
        ) {
            let numbers = try Tensor.normal([smallest, count], generator: generator)
            return try LoRAInitialization.approximateSVD(matrix, numbers, iterations: 4)
        }
        let (u, s, vt) = try largest(gradient, min(4 * rank, smallest))
        let (ofA, ofB) = options.direction.indices(rank: rank) {
            StableHash.of(seed, target.path, $0, 0)
        }
        func tensor(_ indices: [Int]) throws(TorchError) -> Tensor {
            try Tensor(indices.map(Int64.init), shape: [indices.count])
        }
        let values = try s.indexSelected(0, tensor(ofB))
        var a = try vt.indexSelected(0, tensor(ofA))
        var b = try u.indexSelected(1, tensor(ofB)) * values
        switch options.scale {
        case .stable:
            let outputs = Double(weight.shape[0])
            b =
                try b
                * (outputs.squareRoot().squareRoot() / Double(options.stableGamma).squareRoot())
        case .weightSVD:
            let first = try values.narrow(0, 0, 1)
            if try first.item() > 0 {
                let value = try largest(weight.to(.float32), rank).s.narrow(0, 0, 1)
                b = try b * (value / first)
            }
        case .gradientDescent:
            a = try a * (1 / target.scaling)
            b = try b * (1 / target.scaling)
        case .unit: break
        }
        let update = LowRankUpdate(
            a: try a.contiguous(), b: try b.contiguous(), scaling: target.scaling)
        return LowRankStart(update: update, subtracted: update)
    }
}

extension LoRAGAConfig.Direction {
    /// The singular vectors of A and of B, among the 2r largest.
    fileprivate func indices(
        rank: Int, draw: (Int) -> UInt64
    ) -> (ofA: [Int], ofB: [Int]) {
        let (first, second) = (Array(0..<rank), Array(rank..<2 * rank))
        switch self {
        case .alternating: return (first.map { 2 * $0 + 1 }, first.map { 2 * $0 })
        case .reversed: return (second, first)
        case .halves: return (first, second)
        case .random:
            let drawn = Array((0..<2 * rank).sorted { draw($0) < draw($1) }.prefix(rank))
            return (drawn, drawn)
        }
    }
}
