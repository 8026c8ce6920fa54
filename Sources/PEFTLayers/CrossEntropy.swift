public import Torch

/// The loss of a batch: the differentiable sum and what each target contributed.
public struct TokenLosses {
    /// The sum of `-log p(target)` over all targets: float32 scalar, differentiable.
    public let sum: Tensor
    /// `-log p(target)` of each target, in token order: float32 `[numTargets]`, not differentiable.
    public let perTarget: Tensor
    /// The same, differentiable where the head is not trained.
    public let each: Tensor
}

/// Output head and cross entropy in one node.
///
/// `loss = sum over targets of (log sum exp(z) - z[target])`, `z = head(h)`. Each target's gradient is computed with its loss, so
/// that logits need not stay: a frozen product in bfloat16 goes through ``LinearCrossEntropy``, which makes none, every other head
/// through one slice of the tokens at a time. Positions without a target cost nothing.
public enum CrossEntropy {
    /// Tokens of a slice: 128 x 49,152 float32 logits are 25 MB; larger slices were not faster.
    package static let sliceLength = 128

    /// Computes the loss of hidden states.
    ///
    /// - Parameters:
    ///   - hiddenStates: `[tokens, hidden]`.
    ///   - targets: the token to predict at each position, or a negative number for none; `[tokens]`.
    ///   - parameters: every tensor requiring grad that `head` captures.
    ///   - weight: `[vocabulary, hidden]` if `head(h)` is `h W^T` and nothing else, and W gets no gradient; `head` may then not be
    ///     called. Nil for every other head.
    ///   - labelSmoothing: the share of the uniform distribution in the target, at least 0 and below 1.
    ///   - head: hidden states in their `productDType` to logits, `[n, hidden] -> [n, vocabulary]`.
    /// - Returns: sum and parts; both empty sums if there is no target.
    /// - Throws: `TorchError` of the head, or if a target is not in the vocabulary.
    /// - Memory: five slices of logits, or without logits see ``LinearCrossEntropy``; the gradient of the selected hidden states
    ///   until backward.
    public static func losses(
        hiddenStates: Tensor, targets: [Int32], parameters: [Tensor] = [], weight: Tensor? = nil,
        labelSmoothing: Double = 0, head: (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> TokenLosses {
        try losses(
            hiddenStates: hiddenStates, targets: targets, parameters: parameters, weight: weight,
            labelSmoothing: labelSmoothing, instructionSet: .best, head: head)
    }

    /// The same with the kernels of an instruction set.
    ///
    /// - Throws: `TorchError` of the head, or if a target is not in the vocabulary.
    package static func losses(
        hiddenStates: Tensor, targets: [Int32], parameters: [Tensor] = [], weight: Tensor?,
        labelSmoothing: Double = 0, instructionSet: InstructionSet,
        head: (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> TokenLosses {
        precondition(targets.count == hiddenStates.shape[0], "one target for each token")
        let selection = Selection(targets)
        let rows = try Tensor(selection.positions, shape: [selection.positions.count])
            .to(hiddenStates.device)
        let inputs = [hiddenStates] + parameters
        let isDifferentiated = Autograd.isEnabled && inputs.contains { $0.requiresGrad }
        let smoothing = LabelSmoothing(labelSmoothing)
        let kernel = weight.flatMap {
            LinearCrossEntropy(
                hiddenStates: hiddenStates, weight: $0, instructionSet: instructionSet)
        }

        let outputs = try Autograd.node("cross entropy", inputs: inputs) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let parts: Tensor
            var gradients = Gradients(numParameters: parameters.count)
            if let kernel, !selection.positions.isEmpty {
                let result = try kernel(
                    positions: selection.positions, labels: selection.labels,
                    withGradient: isDifferentiated && hiddenStates.requiresGrad)
                if let weight {
                    try smoothing?.smooth(
                        result.losses, gradient: result.gradient,
                        hidden: hiddenStates.detach().indexSelected(0, rows), weight: weight,
                        labels: selection.labels)
                }
                parts = result.losses
                gradients.hidden = result.gradient.map { [$0] } ?? []
            } else {
                var slices = Slices(
                    parameters: parameters, isDifferentiated: isDifferentiated,
                    smoothing: smoothing, device: hiddenStates.device)
                let selected = try hiddenStates.detach().indexSelected(0, rows)
                try slices.add(selected, labels: selection.labels, head: head)
                parts = try slices.concatenatedLosses()
                gradients = slices.gradients
            }
            let pullback = gradients.pullback(
                rows: rows, shape: hiddenStates.shape, dtype: hiddenStates.dtype)
            return ([try parts.sum(), parts], pullback)
        }
        return TokenLosses(
            sum: outputs[0], perTarget: try outputs[1].detach(), each: outputs[1])
    }
}

/// The positions that have a target, and the targets.
private struct Selection {
    let positions: [Int64]
    let labels: [Int64]

    init(_ targets: [Int32]) {
        let chosen = targets.indices.filter { targets[$0] >= 0 }
        positions = chosen.map { Int64($0) }
        labels = chosen.map { Int64(targets[$0]) }
    }
}

/// Gradients of the sum of losses, kept until backward.
private struct Gradients {
    /// With respect to the selected hidden states, a slice after the other; none if the head cuts its output off.
    var hidden: [Tensor] = []
    var parameters: [Tensor?]

    init(numParameters: Int) { parameters = Array(repeating: nil, count: numParameters) }

    /// The gradient of the sum, or a column of the gradients of each loss.
    private static func scale(
        _ gradients: [Tensor?], isHeadTrained: Bool
    ) throws(TorchError) -> Tensor? {
        guard let each = gradients[1] else { return gradients[0] }
        guard !isHeadTrained else {
            throw TorchError(
                operation: "cross entropy",
                message: "losses of single targets cannot be differentiated by a trained head")
        }
        let column = try each.to(.float32).unsqueezed(1)
        return try gradients[0].map { sum throws(TorchError) in try column + sum } ?? column
    }

    /// Scales the gradients by the gradient of the sum, in float32: rounded to bfloat16, the scale alone would change all gradients by
    /// up to 0.4 %, and differently for another number of targets.
    func pullback(rows: Tensor, shape: [Int], dtype: DType) -> Pullback {
        { [hidden, parameters] gradients throws(TorchError) in
            guard let scale = try Self.scale(gradients, isHeadTrained: !parameters.isEmpty) else {
                return parameters.map { _ in nil } + [nil]
            }
            let zeros = try Tensor.zeros(shape, dtype: dtype, on: rows.device)
            var result: [Tensor?] = [zeros]
            if !hidden.isEmpty {
                let sums = try Tensor.concatenated(hidden)
                let selected = try (sums.to(.float32) * scale.to(.float32)).to(dtype)
                result = [try zeros.indexAdded(0, rows, selected)]
            } else if rows.shape[0] > 0 {
                // The head cuts its output off: no gradient, rather than zeros, can be found.
                result = [nil]
            }
            for gradient in parameters {
                result.append(
                    try gradient.map { value throws(TorchError) in
                        try (value.to(.float32) * scale.to(.float32)).to(value.dtype)
                    })
            }
            return result
        }
    }
}

/// Losses and gradients of a head of any kind, a slice of the tokens at a time.
private struct Slices {
    private let parameters: [Tensor]
    private let isDifferentiated: Bool
    private let smoothing: LabelSmoothing?
    private let device: Device
    private var losses: [Tensor] = []
    private(set) var gradients: Gradients

    init(
        parameters: [Tensor], isDifferentiated: Bool, smoothing: LabelSmoothing?, device: Device
    ) {
        self.parameters = parameters
        self.isDifferentiated = isDifferentiated
        self.smoothing = smoothing
        self.device = device
        gradients = Gradients(numParameters: parameters.count)
    }

    mutating func add(
        _ selected: Tensor, labels: [Int64], head: (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) {
        var start = 0
        while start < labels.count {
            let length = min(CrossEntropy.sliceLength, labels.count - start)
            try addSlice(
                hidden: selected.narrow(0, start, length),
                labels: Array(labels[start..<start + length]), head: head)
            start += length
        }
    }

    /// The losses of all slices, float32 `[targets]`.
    func concatenatedLosses() throws(TorchError) -> Tensor {
        losses.isEmpty ? try Tensor.zeros([0], on: device) : try Tensor.concatenated(losses)
    }

    private func crossEntropy(_ logits: Tensor, _ labels: [Int64]) throws(TorchError) -> Tensor {
        let logits = try logits.to(.float32)
        let losses = try logits.crossEntropy(
            Tensor(labels, shape: [labels.count]).to(logits.device))
        return try smoothing?.smoothed(losses, logits: logits, labels: labels) ?? losses
    }

    private mutating func addSlice(
        hidden: Tensor, labels: [Int64], head: (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) {
        guard isDifferentiated else {
            let wide = try hidden.to(hidden.productDType)
            losses.append(try crossEntropy(head(wide), labels))
            return
        }
        let leaf = try Self.leaf(of: hidden)
        let (loss, found) = try withGradEnabled(true) { () throws(TorchError) in
            try leaf.setRequiresGrad(true)
            let wide = try leaf.to(leaf.productDType)
            let loss = try crossEntropy(head(wide), labels)
            let found = try Autograd.gradientsInsideNode(
                of: loss.sum(), withRespectTo: [leaf] + parameters)
            return (loss, found)
        }
        losses.append(try loss.detach())
        if let gradient = found[0] {
            gradients.hidden.append(gradient)
        }
        for (index, gradient) in found.dropFirst().enumerated() {
            guard let gradient else { continue }
            if let sum = gradients.parameters[index] {
                try sum.addInPlace(gradient)
            } else {
                gradients.parameters[index] = gradient
            }
        }
    }

    /// What the slice is differentiated by: float16 is widened, since its gradients are only scaled into its range later.
    private static func leaf(of hidden: Tensor) throws(TorchError) -> Tensor {
        let hidden = try hidden.detach()
        return hidden.dtype == .float16 ? try hidden.to(.float32) : hidden
    }
}
