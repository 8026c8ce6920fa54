import PEFTLayers
import Torch

// N tokens of all segments, C hidden, E experts, K experts of a token.

/// Which tokens go to which expert, and with what weights their outputs are added up.
///
/// `y_n = sum_k w_nk f_e(x_n)`, e the k-th expert of token n. An expert computes its own tokens only.
struct ExpertRouting {
    /// The weights, float32 `[N, K]`, with their graph.
    let weights: Tensor
    /// The experts that have tokens, ascending.
    let experts: [Int]
    /// The tokens of each of them, int64, in the tokens' order.
    let tokens: [Tensor]
    /// Where in the experts' outputs, one below the other, the k-th of each token is: int64 `[N]`, for each k.
    private let places: [Tensor]

    /// Sorts tokens by expert.
    ///
    /// - Parameters:
    ///   - chosen: the experts of each token, int64 `[N, K]`.
    ///   - weights: float32 `[N, K]`.
    ///   - numExperts: experts.
    /// - Throws: `TorchError` if memory does not suffice.
    ///
    /// Waits for the device: how many tokens an expert has decides the shapes of what follows. In a dry run, which has no numbers, all
    /// experts have as many.
    init(_ chosen: Tensor, weights: Tensor, numExperts: Int) throws(TorchError) {
        let (numTokens, perToken) = (chosen.shape[0], chosen.shape[1])
        let ids =
            DryRun.isOn
            ? (0..<numTokens * perToken).map { $0 % numExperts }
            : try chosen.int64s().map { Int($0) }
        var tokens = [[Int64]](repeating: [], count: numExperts)
        for (position, expert) in ids.enumerated() {
            tokens[expert].append(Int64(position / perToken))
        }
        var next: [Int64] = [0]
        for list in tokens { next.append(next[next.count - 1] + Int64(list.count)) }
        var places = [[Int64]](repeating: [], count: perToken)
        for (position, expert) in ids.enumerated() {
            places[position % perToken].append(next[expert])
            next[expert] += 1
        }
        let device = weights.device
        func indices(_ values: [Int64]) throws(TorchError) -> Tensor {
            try Tensor(values, shape: [values.count]).to(device)
        }
        self.weights = weights
        experts = tokens.indices.filter { !tokens[$0].isEmpty }
        self.tokens = try experts.map { expert throws(TorchError) in try indices(tokens[expert]) }
        self.places = try places.map(indices)
    }

    /// Gives each expert its tokens.
    ///
    /// - Parameter input: `[N, C]`.
    /// - Returns: the inputs of each expert in ``experts``, `[n, C]`.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: K copies of the input; nothing is kept for backward.
    func dispatched(_ input: Tensor) throws(TorchError) -> [Tensor] {
        try Autograd.node("dispatch to experts", inputs: [input]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let outputs = try tokens.map { tokens throws(TorchError) in
                try input.indexSelected(0, tokens)
            }
            let (shapes, dtype, device) = (outputs.map(\.shape), input.dtype, input.device)
            let places = places
            let pullback: Pullback = { gradients throws(TorchError) in
                guard gradients.contains(where: { $0 != nil }) else { return [nil] }
                var parts: [Tensor] = []
                for (gradient, shape) in zip(gradients, shapes) {
                    if let gradient {
                        parts.append(gradient)
                    } else {
                        parts.append(try Tensor.zeros(shape, dtype: dtype, on: device))
                    }
                }
                let all = try Tensor.concatenated(parts)
                var sum: Tensor?
                for place in places {
                    let part = try all.indexSelected(0, place).to(.float32)
                    guard let sum else {
                        sum = part
                        continue
                    }
                    try sum.addInPlace(part)
                }
                return [try sum?.to(dtype)]
            }
            return (outputs, pullback)
        }
    }

    /// Adds the experts' outputs up, times their weights.
    ///
    /// - Parameter outputs: of each expert in ``experts``, `[n, C]`.
    /// - Returns: the sum, `[N, C]`, added in float32 and rounded once.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: keeps the outputs, if the router's weights need a gradient.
    func combined(_ outputs: [Tensor]) throws(TorchError) -> Tensor {
        let results = try Autograd.node("sum over experts", inputs: [weights] + outputs) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let all = try Tensor.concatenated(outputs)
            let (dtype, shape) = (all.dtype, [weights.shape[0], all.shape[1]])
            let weights = try self.weights.detach()
            let numOutputs = outputs.count
            let sum = try Tensor.zeros(shape, on: all.device)
            for (slot, place) in places.enumerated() {
                let rows = try all.indexSelected(0, place).to(.float32)
                try sum.addInPlace(rows * weights.narrow(1, slot, 1))
            }
            let kept = self.weights.requiresGrad ? all : nil
            let pullback: Pullback = { gradients throws(TorchError) in
                var results = [Tensor?](repeating: nil, count: 1 + numOutputs)
                guard let gradient = gradients[0] else { return results }
                let wide = try gradient.to(.float32)
                if let kept { results[0] = try weightGradient(wide, kept) }
                let parts = try outputGradients(wide, weights, dtype)
                for (index, part) in parts.enumerated() { results[index + 1] = part }
                return results
            }
            return ([try sum.to(dtype)], pullback)
        }
        return results[0]
    }

    /// `dw_nk = dy_n . f_e(x_n)`.
    private func weightGradient(
        _ gradient: Tensor, _ outputs: Tensor
    ) throws(TorchError) -> Tensor {
        let columns = try places.map { place throws(TorchError) in
            try (gradient * outputs.indexSelected(0, place).to(.float32)).sum(
                [1], keepDims: true)
        }
        return try Tensor.concatenated(columns, dim: 1)
    }

    /// `df_e(x_n) = w_nk dy_n`, for the tokens of each expert.
    private func outputGradients(
        _ gradient: Tensor, _ weights: Tensor, _ dtype: DType
    ) throws(TorchError) -> [Tensor] {
        // Weights in the order of the experts' outputs.
        let numOutputs = places.count * gradient.shape[0]
        var sorted = try Tensor.zeros([numOutputs, 1], on: gradient.device)
        for (slot, place) in places.enumerated() {
            sorted = try sorted.indexAdded(0, place, weights.narrow(1, slot, 1))
        }
        var results: [Tensor] = []
        var start = 0
        for tokens in tokens {
            let count = tokens.numElements
            let rows = try gradient.indexSelected(0, tokens) * sorted.narrow(0, start, count)
            results.append(try rows.to(dtype))
            start += count
        }
        return results
    }
}
