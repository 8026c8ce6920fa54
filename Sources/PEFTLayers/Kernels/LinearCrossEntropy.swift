package import CKernels
package import Torch

/// The cross entropy of a frozen linear head and its gradient, in one pass over the head's weight without logits in memory.
///
/// `loss[i] = log sum exp(z) - z[label[i]]`, `gradient[i] = softmax(z) W - W[label[i]]`, with `z = W hidden[position[i]]`. Products
/// are of bfloat16 numbers where the processor has them, else of float32 numbers; logits and sums are float32. A
/// target's numbers do not depend on the other targets nor on the number of threads. Does not train the head.
///
/// - Source: online softmax: Milakov, Gimelshein 2018, "Online normalizer calculation for softmax", algorithm 3; with W in the
///   place of keys and values: Dao et al. 2022, "FlashAttention", algorithm 1.
package struct LinearCrossEntropy {
    private let hiddenStates: Tensor
    private let weight: Tensor
    private let instructionSet: InstructionSet

    /// Takes a head and what it is applied to, or nil if the kernel does not compute that.
    ///
    /// - Parameters:
    ///   - hiddenStates: `[tokens, hidden]`, bfloat16, in host memory; hidden even for products of bfloat16 numbers.
    ///   - weight: `[vocabulary, hidden]`, bfloat16.
    ///   - instructionSet: must have fused products.
    package init?(hiddenStates: Tensor, weight: Tensor, instructionSet: InstructionSet) {
        guard hiddenStates.device.isHost, weight.device.isHost,
            hiddenStates.dtype == .bfloat16, weight.dtype == .bfloat16,
            hiddenStates.numDimensions == 2, hiddenStates.shape[1] == weight.shape[1],
            ckernels_cross_entropy_is_supported(
                instructionSet.rawValue, Int64(weight.shape[1])) == 1
        else { return nil }
        self.hiddenStates = hiddenStates
        self.weight = weight
        self.instructionSet = instructionSet
    }

    /// Computes the losses of targets and, if wanted, their gradients.
    ///
    /// - Parameters:
    ///   - positions: the row of the hidden states of each target.
    ///   - labels: the token to predict, one for each position.
    ///   - withGradient: whether the gradient is computed, which takes as long again.
    ///   - threads: what to compute on.
    /// - Returns: the losses, float32 `[targets]`; the gradient of their sum with respect to the hidden state of each target,
    ///   bfloat16 `[targets, hidden]`, or nil.
    /// - Throws: `TorchError` if a label is not in the vocabulary or memory does not suffice.
    /// - Memory: for each thread what 512 targets take at most: 6 KiB for each channel with gradient, 2 KiB without; a third more
    ///   where factors are float32.
    package func callAsFunction(
        positions: [Int64], labels: [Int64], withGradient: Bool,
        threads: CKernelsThreads = .libtorch
    ) throws(TorchError) -> (losses: Tensor, gradient: Tensor?) {
        let (hiddenStates, weight) = (try hiddenStates.contiguous(), try weight.contiguous())
        let (count, hiddenSize) = (positions.count, hiddenStates.shape[1])
        try check(positions, labels)
        let losses = try Tensor.empty([count])
        let gradient =
            withGradient
            ? try Tensor.empty([count, hiddenSize], dtype: .bfloat16) : nil
        let workspaceBytes = ckernels_cross_entropy_workspace_bytes(
            instructionSet.rawValue, Int64(count), Int64(hiddenSize),
            withGradient ? 1 : 0, threads.count)
        let workspace = try Tensor.empty([Int(workspaceBytes)], dtype: .uint8)
        guard !DryRun.isOn else { return (losses, gradient) }

        let outputs = [losses] + (gradient.map { [$0] } ?? [])
        Tensor.withAddresses(of: [hiddenStates, weight, workspace] + outputs) { addresses in
            let head = CKernelsLinearHead(
                hidden_size: Int64(hiddenSize), vocabulary_size: Int64(weight.shape[0]),
                hidden: numbers(addresses[0]), hidden_stride: Int64(hiddenSize),
                weight: numbers(addresses[1]),
                weight_stride: Int64(hiddenSize))
            let status = ckernels_cross_entropy(
                instructionSet.rawValue, head, Int64(count), positions, labels,
                threads,
                addresses[2], addresses[3]?.assumingMemoryBound(to: Float.self),
                withGradient ? numbers(addresses[4]) : nil)
            precondition(status == 0, "the kernel refused its arguments")
        }
        Trace.noteKernel("cross_entropy", inputs: [hiddenStates, weight], outputs: outputs)
        return (losses, gradient)
    }

    /// Refuses a label as libtorch's own cross entropy does.
    private func check(_ positions: [Int64], _ labels: [Int64]) throws(TorchError) {
        precondition(positions.count == labels.count, "one label for each position")
        let numTokens = hiddenStates.shape[0]
        precondition(
            positions.allSatisfy { $0 >= 0 && $0 < numTokens }, "a position beyond the tokens")
        let vocabularySize = weight.shape[0]
        guard let label = labels.first(where: { $0 < 0 || $0 >= vocabularySize }) else { return }
        throw TorchError(
            operation: "cross_entropy", operands: [hiddenStates.summary, weight.summary],
            message: "Target \(label) is out of bounds.")
    }
}
