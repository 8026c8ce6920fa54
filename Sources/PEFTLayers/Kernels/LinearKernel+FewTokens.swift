import CKernels
package import Torch

extension LinearKernel {
    /// The most tokens that ``outputOfFew(_:)`` takes; beyond, products of panels are as fast.
    package static let mostFewTokens = Int(CKERNELS_PANELS_MOST_TOKENS)

    /// Computes the output of a few tokens, for generation; nil if there are too many, the term drops elements, or the
    /// processor has no products of bfloat16 numbers.
    ///
    /// `y = x W^T + b + u B^T` with `u = s x A^T`. The storage multiplies what it has just decoded in registers: every code is read
    /// once and no panel is packed. Rounds what ``callAsFunction(_:)`` rounds, but adds in another order, so the last bit of an output may
    /// differ from that of a batch. A token's output depends on neither the other tokens nor the number of threads. Records nothing
    /// for backward.
    ///
    /// - Parameter input: the input that the kernel was made for, `[tokens, inFeatures]`.
    /// - Returns: bfloat16 `[tokens, outFeatures]`.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: the input once more, for a storage that takes it in another order; nothing is saved.
    package func outputOfFew(_ input: Tensor) throws(TorchError) -> Tensor? {
        let tokens = input.shape[0]
        guard instructionSet == .avx512bf16, dtype == .bfloat16, tokens <= Self.mostFewTokens,
            term?.kept == nil, let panels = try weight.panels()
        else { return nil }
        let input = try input.contiguous()
        let output = try Tensor.empty([tokens, weight.outFeatures], dtype: .bfloat16)
        guard !DryRun.isOn else { return output }
        let operands = try Operands(term)
        let bias = try self.bias?.contiguous()
        let bytes = withUnsafePointer(to: panels.source) {
            ckernels_linear_few_workspace_bytes($0, Int64(operands.rank), Int64(tokens))
        }
        let workspace = try Tensor.empty([Int(bytes)], dtype: .uint8)
        let tensors = [input, output, workspace] + (bias.map { [$0] } ?? []) + operands.tensors
        Tensor.withAddresses(of: tensors) { addresses in
            var next = 3
            let biasAddress = take(&next, if: bias, addresses)
            withUnsafePointer(to: panels.source) { source in
                withUnsafePointer(to: operands.lowRank(addresses[next...])) { lowRank in
                    ckernels_linear_forward_few(
                        threads, source, lowRank, Int64(tokens), numbers(addresses[0]),
                        numbers(biasAddress), numbers(addresses[1]), addresses[2])
                }
            }
        }
        return output
    }
}

/// The address of bfloat16 numbers.
func numbers(_ address: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<UInt16>? {
    address?.assumingMemoryBound(to: UInt16.self)
}
