import Torch

/// Layers without products, each in one pass over its tensors: RMSNorm, SwiGLU, rotary embedding.
///
/// Computed in float32 and rounded once to the dtype, with the same bits on every instruction set and any number of threads; a row's
/// result does not depend on the other rows. In a dry run results are allocated and nothing is computed. What is not in host memory
/// goes through libtorch's operations on its device: ``DeviceLayers``.
package struct ElementwiseKernels: Sendable {
    let instructionSet: InstructionSet
    private let parallelism: BlockParallelism

    /// Chooses instructions and threads.
    ///
    /// - Precondition: this machine runs the instruction set.
    package init(
        instructionSet: InstructionSet = .best, parallelism: BlockParallelism = .automatic
    ) {
        precondition(instructionSet.isSupported, "\(instructionSet) is not of this machine")
        self.instructionSet = instructionSet
        self.parallelism = parallelism
    }

    /// The kernels' number of the dtype that tensors have in common.
    ///
    /// - Throws: `TorchError` if they do not share one, or not float32, bfloat16 or float16.
    func elementType(of tensors: [Tensor], for operation: String) throws(TorchError) -> Int32 {
        let dtype = tensors[0].dtype
        guard let type = dtype.kernelElementType, tensors.allSatisfy({ $0.dtype == dtype }) else {
            throw refusal(
                of: tensors, by: operation,
                "expected one dtype for all, float32, bfloat16 or float16")
        }
        return type
    }

    /// The error for tensors that do not fit.
    func refusal(of tensors: [Tensor], by operation: String, _ message: String) -> TorchError {
        TorchError(operation: operation, operands: tensors.map(\.summary), message: message)
    }

    /// Calls a kernel on disjoint ranges that cover `0..<numBlocks`, on as many threads as pay off; tells a running trace.
    ///
    /// - Parameters:
    ///   - name: what a trace calls it.
    ///   - inputs: what the kernel reads.
    ///   - outputs: what it writes.
    ///   - numBlocks: rows, or whatever a range counts.
    ///   - numElements: what all ranges compute.
    ///   - body: gets the addresses of inputs and outputs, and a range; returns the kernel's status.
    func run(
        _ name: String, on inputs: [Tensor], to outputs: [Tensor], numBlocks: Int, numElements: Int,
        _ body: (_ addresses: [UnsafeMutableRawPointer?], _ range: Range<Int>) -> Int32
    ) {
        guard !DryRun.isOn else { return }
        Tensor.withAddresses(of: inputs + outputs) { addresses in
            parallelism.forEachRange(of: numBlocks, numElements: numElements) { range in
                precondition(body(addresses, range) == 0, "the kernel refused its arguments")
            }
        }
        Trace.noteKernel(name, inputs: inputs, outputs: outputs)
    }
}
