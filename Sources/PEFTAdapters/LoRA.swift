public import PEFTLayers
public import Torch

/// A low-rank update of a linear layer: `y = W x + s B A dropout(x)`.
///
/// W is the frozen base in any storage, A `[r, inFeatures]` and B `[outFeatures, r]` are trained in float32, s is
/// `alpha / r`, or `alpha / √r` with rsLoRA. The computation runs in the dtype of the input's products, from end to end. Without
/// dropout the update can be merged: see ``delta()``.
///
/// - Source: Hu et al. 2021, "LoRA", equation 3; Kalajdzievski 2023, "rsLoRA"; peft 0.21.2
///   `tuners/lora/layer.py:Linear.forward`.
///
/// Differs from PEFT: s (and dropout's factor) multiplies the small `[tokens, r]` product, not the output, which is the same up
/// to rounding; A and B are cast to the dtype of the products where PEFT without autocast casts the input to float32.
public final class LoRA: LinearAdapter {
    /// The path of the adapted layer, with the values that hold for it.
    public let target: LoRATarget
    /// The matrix A, `[r, inFeatures]`, float32.
    public let loraA: Parameter
    /// The matrix B, `[outFeatures, r]`, float32.
    public let loraB: Parameter
    /// The probability with which an input of A is dropped in training.
    public let dropout: Double

    /// What was taken out of the layer's weight for the start; nil for nothing.
    public let subtracted: LowRankUpdate?

    /// A and B.
    public var parameters: [Parameter] { [loraA, loraB] }

    /// Makes a LoRA for a linear layer.
    ///
    /// - Parameters:
    ///   - target: the layer's path, rank and scaling.
    ///   - inFeatures: columns of the layer's weight.
    ///   - outFeatures: rows of the layer's weight.
    ///   - dropout: probability in [0, 1).
    ///   - initialization: how A and B start.
    ///   - start: the same where it was computed from the layer's weight; nil for a start that does not depend on it.
    ///   - seed: with the path, decides the start, whatever else is made before.
    ///   - isTrainable: false freezes A and B, for inference.
    ///   - device: where A and B are; their start is the same everywhere.
    /// - Throws: `TorchError` if libtorch cannot allocate.
    public init(
        target: LoRATarget, inFeatures: Int, outFeatures: Int, dropout: Double = 0,
        initialization: LoRAInitialization = .kaimingUniform, start: LowRankStart? = nil,
        seed: UInt64, isTrainable: Bool = true, on device: Device = .cpu
    ) throws(TorchError) {
        self.target = target
        self.dropout = dropout
        subtracted = start?.subtracted
        let shapeA = [target.rank, inFeatures]
        let shapeB = [outFeatures, target.rank]
        let generator = try Generator(seed: StableHash.of(seed, target.path))
        let (valueA, valueB) =
            if let start {
                // What was taken out stays as it is.
                (try start.update.a.clone(), try start.update.b.clone())
            } else {
                try initialization.start(
                    rank: target.rank, shapeA, shapeB, generator: generator)
            }
        let prefix = "base_model.model." + target.path
        loraA = try Parameter(
            path: prefix + ".lora_A.weight", value: valueA.to(device), isTrainable: isTrainable)
        loraB = try Parameter(
            path: prefix + ".lora_B.weight", value: valueB.to(device), isTrainable: isTrainable)
    }

    /// Adds the update to the base's output.
    ///
    /// - Memory: autograd keeps the input (no copy), the `[tokens, r]` product and, with dropout, one byte an input element;
    ///   input, A and B are cast again in backward.
    public func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try update(
            of: input, mask: dropoutMask(for: input, key: context.dropout), addedTo: baseOutput,
            dtype: input.dtype)
    }

    /// The update `s B A dropout(x)`, alone or added to another tensor.
    ///
    /// - Parameters:
    ///   - input: `[tokens, inFeatures]`, the compute dtype.
    ///   - a: what stands for A, in its shape; nil for A.
    ///   - mask: the elements that dropout keeps; nil for all.
    ///   - base: `[tokens, outFeatures]`, in ``DType/forSums``; nil for none.
    ///   - dtype: that the sum is rounded to, once.
    /// - Returns: `[tokens, outFeatures]` in that dtype; gradients reach the input, the base, A and B.
    /// - Throws: `TorchError` if the shapes do not fit.
    func update(
        of input: Tensor, a: Tensor? = nil, mask: DropoutMask?, addedTo base: Tensor?,
        dtype: DType
    ) throws(TorchError) -> Tensor {
        let (loraA, loraB) = (a ?? loraA.value, loraB.value)
        let inputs = [input, loraA, loraB] + (base.map { [$0] } ?? [])
        let outputs = try Autograd.node("LoRA", inputs: inputs) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let step = Step(
                input: try input.detach(), needsInputGradient: input.requiresGrad, mask: mask,
                scaling: target.scaling, loraA: try loraA.detach(), loraB: try loraB.detach())
            let product = try step.product()
            var update = try product.linear(step.loraB.to(product.dtype))
            if let base {
                update = try update.to(base.dtype)
                try update.addInPlace(base.detach())
            }
            let hasBase = base != nil
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else {
                    return [Tensor?](repeating: nil, count: hasBase ? 4 : 3)
                }
                let gradients = try step.backward(gradient, product: product)
                return hasBase ? gradients + [gradient] : gradients
            }
            return ([try update.to(dtype)], pullback)
        }
        return outputs[0]
    }

    /// The update, with the elements that dropout keeps.
    public func lowRankTerm(
        for input: Tensor, context: ForwardContext
    ) throws(TorchError) -> LowRankTerm? {
        let mask = try dropoutMask(for: input, key: context.dropout)
        return LowRankTerm(
            a: loraA.value, b: loraB.value, scale: target.scaling * (mask?.scale ?? 1),
            kept: mask?.kept)
    }

    /// The elements of an input that dropout keeps; nil in evaluation and without dropout.
    func dropoutMask(
        for input: Tensor, key: DropoutKey?
    ) throws(TorchError) -> DropoutMask? {
        guard let key, dropout > 0 else { return nil }
        return try DropoutMask(
            probability: dropout, shape: input.shape, key: key, path: target.path,
            on: input.device)
    }

    /// Whether every element of B is zero, or A and B are what was taken out of the weight.
    public func changesNothing() throws(TorchError) -> Bool {
        let valueB = try loraB.value.detach()
        if let subtracted {
            let valueA = try loraA.value.detach()
            let isSameA = try valueA.isEqual(to: subtracted.a.to(valueA.device))
            let isSameB = try valueB.isEqual(to: subtracted.b.to(valueB.device))
            return isSameA && isSameB
        }
        return try valueB.isEqual(
            to: Tensor.zeros(valueB.shape, dtype: valueB.dtype, on: valueB.device))
    }

    /// The update of the weight, `s B A`: float32 `[outFeatures, inFeatures]`, without history.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: a new tensor of the weight's size in float32.
    public func delta() throws(TorchError) -> Tensor { try delta(a: loraA.value.detach()) }

    private func delta(a: Tensor) throws(TorchError) -> Tensor {
        let product = try loraB.value.detach().matmul(a)
        try product.multiplyInPlace(target.scaling)
        return product
    }

    /// `W + s B A`.
    public func merged(into weight: Tensor) throws(TorchError) -> Tensor? {
        try merged(into: weight, a: loraA.value.detach())
    }

    /// `W + s B A`, with another matrix for A.
    func merged(into weight: Tensor, a: Tensor) throws(TorchError) -> Tensor {
        let sum = try delta(a: a)
        try sum.addInPlace(weight.detach())
        return sum
    }
}

// MARK: - One forward pass

extension LoRA {
    /// What a forward pass keeps for backward.
    private struct Step {
        let input: Tensor
        let needsInputGradient: Bool
        let mask: DropoutMask?
        let scaling: Double
        let loraA: Tensor
        let loraB: Tensor

        private var scale: Double { scaling * (mask?.scale ?? 1) }

        /// `dropout(x)` in the dtype of its products.
        private func wideInput() throws(TorchError) -> Tensor {
            let masked = try mask?.applied(to: input) ?? input
            return try masked.to(input.productDType)
        }

        /// `p = s A dropout(x)`: `[tokens, r]`.
        func product() throws(TorchError) -> Tensor {
            let wide = try wideInput()
            let product = try wide.linear(loraA.to(wide.dtype))
            try product.multiplyInPlace(scale)
            return product
        }

        /// `dB = dy^T p`, `dp = s dy B`, `dA = dp^T dropout(x)`, `dx = dropout(dp A)`; in the order x, A, B.
        func backward(_ gradient: Tensor, product: Tensor) throws(TorchError) -> [Tensor?] {
            let gradient = try gradient.contiguous()
            let flat = try gradient.reshape([-1, loraB.shape[0]]).to(product.dtype)
            let gradientB = try flat.transposed().matmul(product.reshape([-1, loraA.shape[0]]))
            let small = try flat.matmul(loraB.to(product.dtype))  // [tokens, r]
            try small.multiplyInPlace(scale)
            let gradientA = try small.transposed().matmul(
                wideInput().reshape([-1, loraA.shape[1]]))
            var gradientInput: Tensor?
            if needsInputGradient {
                let unmasked = try small.matmul(loraA.to(product.dtype)).reshape(input.shape)
                    .to(input.dtype)
                gradientInput = try mask?.applied(to: unmasked) ?? unmasked
            }
            return [gradientInput, try gradientA.to(.float32), try gradientB.to(.float32)]
        }
    }
}
