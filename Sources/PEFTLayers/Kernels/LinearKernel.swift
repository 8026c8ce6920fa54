package import CKernels
package import Torch

/// A linear layer in one node: frozen weight of any storage, bias and low-rank term in the same sums.
///
/// `y = x W^T + b + u B^T` with `u = s x' A^T`; `dx = dy W + kept (v A)` with `v = s dy B`; `dA = v^T x'`, `dB = dy^T u`. The weight is
/// decoded a panel of 64 columns at a time, so no dense copy of it exists. Sums are float32; y, u, dx are rounded to the input's dtype once,
/// dA and dB are sums over segments (``GradientSums``). Factors are bfloat16 numbers where the processor has such products and the input is bfloat16, else float32. A
/// token's output depends on that token alone, and nothing depends on the number of threads. For few tokens without backward see
/// ``outputOfFew(_:)``.
package struct LinearKernel {
    let weight: any LinearWeight
    let bias: Tensor?
    let term: LowRankTerm?
    let dtype: DType
    let instructionSet: InstructionSet
    let threads: CKernelsThreads

    /// Describes a layer for one pass; nil where the kernel does not take it.
    ///
    /// Taken are bfloat16 and float32 inputs on a processor with fused products, a weight that supplies panels (with even sides, for products
    /// of bfloat16 numbers), a frozen bias of the input's dtype, and a term in float32.
    ///
    /// - Parameters:
    ///   - input: `[tokens, inFeatures]`.
    ///   - weight: the frozen weight.
    ///   - bias: `[outFeatures]`.
    ///   - term: what the adapter adds.
    ///   - instructionSet: the instructions to use.
    ///   - threads: the threads to use.
    /// - Throws: `TorchError` if memory does not suffice.
    package init?(
        for input: Tensor, weight: any LinearWeight, bias: Tensor?, term: LowRankTerm?,
        instructionSet: InstructionSet = .best, threads: CKernelsThreads = .libtorch
    ) throws(TorchError) {
        let (rows, columns) = (weight.outFeatures, weight.inFeatures)
        guard input.device.isHost, let elementType = input.dtype.kernelElementType,
            input.numDimensions == 2, input.shape[1] == columns, input.shape[0] > 0,
            ckernels_linear_is_supported(
                instructionSet.rawValue, elementType, Int64(rows), Int64(columns)) == 1,
            bias.map({ $0.dtype == input.dtype && !$0.requiresGrad }) ?? true,
            term.map({ $0.fits(rows: rows, columns: columns) }) ?? true
        else { return nil }
        self.weight = weight
        self.bias = bias
        self.term = term
        dtype = input.dtype
        self.instructionSet = instructionSet
        self.threads = threads
    }

    /// Whether the kernel computes with a weight and a dtype at all, to be asked before a term is made, which may draw random numbers.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    static func isPossible(
        for weight: any LinearWeight, _ dtype: DType
    ) throws(TorchError) -> Bool {
        guard let elementType = dtype.kernelElementType,
            ckernels_linear_is_supported(
                InstructionSet.best.rawValue, elementType, Int64(weight.outFeatures),
                Int64(weight.inFeatures)) == 1
        else { return false }
        return try weight.panels() != nil
    }

    /// Computes the layer's output; nil if the weight supplies no panels.
    ///
    /// - Parameters:
    ///   - recomputable: the input that the kernel was made for.
    ///   - context: has the sums that dA and dB are added to; without any autograd gets them, in float32.
    /// - Returns: `[tokens, outFeatures]`, the input's dtype, differentiable with respect to the input, A and B.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: with a term saves the input, if nothing makes it again, u (`[tokens, r]`, r rounded up to 16, the input's dtype) and the mask of
    ///   dropped elements; without one nothing.
    package func callAsFunction(
        _ recomputable: Recomputable, in context: ForwardContext? = nil
    ) throws(TorchError) -> Tensor? {
        guard let panels = try weight.panels() else { return nil }
        let input = recomputable.value
        let inputs = [input] + (term.map { [$0.a, $0.b] } ?? [])
        let outputs = try Autograd.node("linear", inputs: inputs) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let needsInputGradient = input.requiresGrad
            let (output, small) = try forward(try input.detach().contiguous(), panels)
            let saved = try term.map { _ throws(TorchError) in try recomputable.saved() }
            let numInputs = inputs.count
            let segments = segments(of: input, in: context)
            let sums = context?.gradientSums
            let pullback: Pullback = { gradients throws(TorchError) in
                guard let gradient = gradients[0] else {
                    return [Tensor?](repeating: nil, count: numInputs)
                }
                return try backward(
                    gradient, of: segments, input: saved?(), small: small,
                    needsInputGradient: needsInputGradient, sums: sums)
            }
            return ([output], pullback)
        }
        return outputs[0]
    }

    /// The lengths of the context's segments; one where the input is not all of its tokens.
    private func segments(of input: Tensor, in context: ForwardContext?) -> [Int] {
        guard let layout = context?.layout, layout.numTokens == input.shape[0] else {
            return [input.shape[0]]
        }
        return layout.segmentLengths
    }

    private func forward(
        _ input: Tensor, _ panels: WeightPanels
    ) throws(TorchError) -> (output: Tensor, small: Tensor) {
        let tokens = input.shape[0]
        let output = try Tensor.empty([tokens, weight.outFeatures], dtype: dtype)
        let small = try Tensor.empty([tokens, paddedRank], dtype: dtype)
        let operands = try Operands(term)
        let workspace = try makeWorkspace(tokens: tokens, numSegments: 0)
        let masked = try term?.kept.map { kept throws(TorchError) in
            try ElementwiseKernels().masked(input, kept: kept)
        }
        guard !DryRun.isOn else { return (output, small) }
        let bias = try self.bias?.detach().contiguous()
        let tensors = [input, output, small, workspace] + [masked, bias].compactMap { $0 }
        Tensor.withAddresses(of: tensors + operands.tensors) { addresses in
            var next = 4
            let maskedAddress = take(&next, if: masked, addresses)
            let biasAddress = take(&next, if: bias, addresses)
            withUnsafePointer(to: panels.source) { source in
                withUnsafePointer(to: operands.lowRank(addresses[next...])) { lowRank in
                    ckernels_linear_forward(
                        instructionSet.rawValue, elementType, threads, source, lowRank,
                        Int64(tokens), addresses[0], maskedAddress, biasAddress, addresses[2],
                        addresses[1], addresses[3])
                }
            }
        }
        let read = [input] + [masked, bias].compactMap { $0 } + operands.tensors
        Trace.noteKernel("linear", inputs: read, outputs: [output])
        return (output, small)
    }

    /// The gradients of the input, A and B, but for those that sums take; the input is there if there is a term.
    private func backward(
        _ gradient: Tensor, of segments: [Int], input: Tensor?, small: Tensor,
        needsInputGradient: Bool, sums: GradientSums?
    ) throws(TorchError) -> [Tensor?] {
        let tokens = gradient.shape[0]
        guard let panels = try weight.panels() else {
            preconditionFailure("\(weight.storageDescription) supplied panels in forward only")
        }
        let gradient = try gradient.contiguous()
        let operands = try Operands(term)
        let inputGradient =
            needsInputGradient
            ? try Tensor.empty([tokens, weight.inFeatures], dtype: dtype) : nil
        let totals = try (term.map { [$0.a, $0.b] } ?? []).map { matrix throws(TorchError) in
            try TotalGradient(of: matrix, in: sums)
        }
        let workspace = try makeWorkspace(tokens: tokens, numSegments: segments.count)
        let lowInput = try input.map { input throws(TorchError) in
            try term?.kept.map { kept throws(TorchError) in
                try ElementwiseKernels().masked(input, kept: kept)
            } ?? input
        }
        let outputs = totals.map(\.sum) + (inputGradient.map { [$0] } ?? [])
        if !DryRun.isOn {
            let lengths = try Tensor(segments.map(Int64.init), shape: [segments.count])
            let read = [lowInput ?? small, small, gradient] + operands.tensors
            let tensors = [lowInput ?? small, small, gradient, workspace, lengths] + outputs
            Tensor.withAddresses(of: tensors + operands.tensors) { addresses in
                var next = 5
                let gradientA = term.flatMap { _ in take(&next, if: gradient, addresses) }
                let gradientB = term.flatMap { _ in take(&next, if: gradient, addresses) }
                let gradientX = take(&next, if: inputGradient, addresses)
                withUnsafePointer(to: panels.source) { source in
                    withUnsafePointer(to: operands.lowRank(addresses[next...])) { lowRank in
                        ckernels_linear_backward(
                            instructionSet.rawValue, elementType, threads, source, lowRank,
                            CKernelsSegments(
                                count: Int64(segments.count),
                                lengths: addresses[4]?.assumingMemoryBound(to: Int64.self)),
                            addresses[0], addresses[1], addresses[2], gradientX,
                            gradientA?.assumingMemoryBound(to: Double.self),
                            gradientB?.assumingMemoryBound(to: Double.self), addresses[3])
                    }
                }
            }
            Trace.noteKernel("linear", inputs: read, outputs: outputs)
        }
        var result = [inputGradient]
        for total in totals { result.append(try total.forAutograd()) }
        return result
    }

    private var elementType: Int32 {
        guard let type = dtype.kernelElementType else {
            preconditionFailure("a kernel for \(dtype.name)")
        }
        return type
    }

    private var paddedRank: Int {
        Int(ckernels_linear_padded_rank(Int64(term?.a.shape[0] ?? 0)))
    }

    private func makeWorkspace(tokens: Int, numSegments: Int) throws(TorchError) -> Tensor {
        let bytes = ckernels_linear_workspace_bytes(
            instructionSet.rawValue, elementType, Int64(weight.outFeatures),
            Int64(weight.inFeatures), Int64(term?.a.shape[0] ?? 0),
            Int64(tokens), Int64(numSegments), threads.count)
        return try Tensor.empty([Int(bytes)], dtype: .uint8)
    }
}

/// Where the kernel adds the gradient of A or of B.
private struct TotalGradient {
    /// float64, in the matrix's shape.
    let sum: Tensor
    private let isShared: Bool

    /// The step's sum, where there is one for the matrix, else one of this pass alone.
    init(of matrix: Tensor, in sums: GradientSums?) throws(TorchError) {
        if let shared = try sums?.sum(for: matrix) {
            (sum, isShared) = (shared, true)
        } else {
            (sum, isShared) = (try Tensor.zeros(matrix.shape, dtype: .float64), false)
        }
    }

    /// The gradient that autograd gets; nil where the step's sum has it.
    func forAutograd() throws(TorchError) -> Tensor? {
        guard !isShared else { return nil }
        return try sum.to(.float32)
    }
}

/// The next address, if the list holds one for this tensor.
func take(
    _ next: inout Int, if tensor: Tensor?, _ addresses: [UnsafeMutableRawPointer?]
) -> UnsafeMutableRawPointer? {
    guard tensor != nil else { return nil }
    defer { next += 1 }
    return addresses[next]
}

extension LinearKernel {
    /// The low-rank matrices as the kernel takes them.
    struct Operands {
        /// A and B, then the mask if there is one; none without a term.
        let tensors: [Tensor]
        /// Rows of A; 0 without a term.
        let rank: Int
        private let scale: Double

        init(_ term: LowRankTerm?) throws(TorchError) {
            guard let term else {
                (tensors, rank, scale) = ([], 0, 0)
                return
            }
            tensors = try [term.a, term.b, term.kept].compactMap { $0 }.map {
                operand throws(TorchError) in
                try operand.detach().contiguous()
            }
            (rank, scale) = (term.a.shape[0], term.scale)
        }

        /// The kernel's description, from the addresses of `tensors`.
        func lowRank(_ addresses: ArraySlice<UnsafeMutableRawPointer?>) -> CKernelsLowRank {
            let addresses = Array(addresses)
            guard addresses.count >= 2 else { return CKernelsLowRank() }
            return CKernelsLowRank(
                rank: Int64(rank), scale: Float(scale),
                a: addresses[0]?.assumingMemoryBound(to: Float.self),
                b: addresses[1]?.assumingMemoryBound(to: Float.self),
                kept: addresses.count > 2 ? addresses[2]?.assumingMemoryBound(to: UInt8.self) : nil)
        }
    }
}

extension LowRankTerm {
    /// Whether both matrices are float32 and of a layer's size.
    fileprivate func fits(rows: Int, columns: Int) -> Bool {
        a.dtype == .float32 && b.dtype == .float32 && a.numDimensions == 2 && b.numDimensions == 2
            && a.shape[1] == columns && b.shape == [rows, a.shape[0]]
    }
}
