public import Torch

/// The loss of a batch: the differentiable sum and what each target contributed.
public struct TokenLosses {
    /// The sum of `-log p(target)` over all targets: float32 scalar, differentiable.
    public let sum: Tensor
    /// `-log p(target)` of each target, in token order: float32 `[numTargets]`, not differentiable.
    public let perTarget: Tensor
}

/// Output head and cross entropy in one node, a slice of the tokens at a time.
///
/// `loss = sum over targets of (log sum exp(z) - z[target])`, `z = head(h)`. Logits exist for one slice only, because each
/// slice's gradient is computed with its loss; positions without a target cost nothing.
public enum CrossEntropy {
    /// Tokens of a slice: 128 x 49,152 float32 logits are 25 MB; larger slices were not faster.
    package static let sliceLength = 128

    /// Computes the loss of hidden states.
    ///
    /// - Parameters:
    ///   - hiddenStates: `[tokens, hidden]`.
    ///   - targets: the token to predict at each position, or a negative number for none; `[tokens]`.
    ///   - parameters: every tensor requiring grad that `head` captures.
    ///   - head: hidden states in their ``DType/forProducts`` to logits, `[n, hidden] -> [n, vocabulary]`.
    /// - Returns: sum and parts; both empty sums if there is no target.
    /// - Throws: `TorchError` of the head, or if a target is not in the vocabulary.
    /// - Memory: five slices of logits; the gradient of the selected hidden states until backward.
    public static func losses(
        hiddenStates: Tensor, targets: [Int32], parameters: [Tensor] = [],
        head: (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> TokenLosses {
        precondition(targets.count == hiddenStates.shape[0], "one target for each token")
        let positions = targets.indices.filter { targets[$0] >= 0 }
        let labels = try Tensor(positions.map { Int64(targets[$0]) }, shape: [positions.count])
        let rows = try Tensor(positions.map { Int64($0) }, shape: [positions.count])
        let inputs = [hiddenStates] + parameters
        let isDifferentiated = Autograd.isEnabled && inputs.contains { $0.requiresGrad }

        var perTarget: Tensor?
        let outputs = try Autograd.node("cross entropy", inputs: inputs) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let selected = try hiddenStates.detach().indexSelected(0, rows)
            var slices = Slices(parameters: parameters, isDifferentiated: isDifferentiated)
            var start = 0
            while start < positions.count {
                let length = min(sliceLength, positions.count - start)
                try slices.add(
                    hidden: selected.narrow(0, start, length),
                    labels: labels.narrow(0, start, length), head: head)
                start += length
            }
            let parts =
                slices.losses.isEmpty
                ? try Tensor.zeros([0]) : try Tensor.concatenated(slices.losses)
            perTarget = parts
            let pullback = slices.pullback(
                rows: rows, shape: hiddenStates.shape, dtype: hiddenStates.dtype)
            return ([try parts.sum()], pullback)
        }
        guard let perTarget else { preconditionFailure("the node's body always runs") }
        return TokenLosses(sum: outputs[0], perTarget: perTarget)
    }

    /// Losses and gradients of the slices so far.
    private struct Slices {
        let parameters: [Tensor]
        let isDifferentiated: Bool
        var losses: [Tensor] = []
        private var hiddenGradients: [Tensor] = []
        private var parameterGradients: [Tensor?]

        init(parameters: [Tensor], isDifferentiated: Bool) {
            self.parameters = parameters
            self.isDifferentiated = isDifferentiated
            parameterGradients = parameters.map { _ in nil }
        }

        mutating func add(
            hidden: Tensor, labels: Tensor, head: (Tensor) throws(TorchError) -> Tensor
        ) throws(TorchError) {
            guard isDifferentiated else {
                let wide = try hidden.to(hidden.dtype.forProducts)
                losses.append(try head(wide).to(.float32).crossEntropy(labels))
                return
            }
            let leaf = try Self.leaf(of: hidden)
            let (loss, gradients) = try withGradEnabled(true) { () throws(TorchError) in
                try leaf.setRequiresGrad(true)
                let wide = try leaf.to(leaf.dtype.forProducts)
                let loss = try head(wide).to(.float32).crossEntropy(labels)
                let gradients = try Autograd.gradientsInsideNode(
                    of: loss.sum(), withRespectTo: [leaf] + parameters)
                return (loss, gradients)
            }
            losses.append(try loss.detach())
            if let gradient = gradients[0] {
                hiddenGradients.append(gradient)
            }
            for (index, gradient) in gradients.dropFirst().enumerated() {
                guard let gradient else { continue }
                if let sum = parameterGradients[index] {
                    try sum.addInPlace(gradient)
                } else {
                    parameterGradients[index] = gradient
                }
            }
        }

        /// What the slice is differentiated by: float16 is widened, since its gradients are only scaled into its range later.
        private static func leaf(of hidden: Tensor) throws(TorchError) -> Tensor {
            let hidden = try hidden.detach()
            return hidden.dtype == .float16 ? try hidden.to(.float32) : hidden
        }

        /// Scales the gradients, which are those of the sum, by the gradient of the sum.
        func pullback(rows: Tensor, shape: [Int], dtype: DType) -> Pullback {
            let hasTargets = !losses.isEmpty
            return { [hiddenGradients, parameterGradients] gradients throws(TorchError) in
                guard let scale = gradients[0] else {
                    return parameterGradients.map { _ in nil } + [nil]
                }
                let zeros = try Tensor.zeros(shape, dtype: dtype)
                var result: [Tensor?] = [zeros]
                if !hiddenGradients.isEmpty {
                    let sums = try Tensor.concatenated(hiddenGradients)
                    let selected = try (sums * scale.to(sums.dtype)).to(dtype)
                    result = [try zeros.indexAdded(0, rows, selected)]
                } else if hasTargets {
                    // The head cuts its output off: no gradient, rather than zeros, can be found.
                    result = [nil]
                }
                for gradient in parameterGradients {
                    result.append(
                        try gradient.map { value throws(TorchError) in
                            try value * scale.to(value.dtype)
                        })
                }
                return result
            }
        }
    }
}
