import CKernels
package import PEFTLayers
package import Torch

/// The two moments of an Adam in 8 bits: codes of the dynamic types, signed and unsigned, in blocks with a largest value each.
///
/// - Source: bitsandbytes 0.50.2 `backends/cpu/ops.py:_optimizer_update_8bit_blockwise_cpu`.
package struct EightBitMoments {
    /// Elements that share a largest value.
    package static let blockSize = 256

    private let codes: (first: Tensor, second: Tensor)
    private let absmax: (first: Tensor, second: Tensor)

    /// Takes moments as they are.
    ///
    /// - Parameters:
    ///   - codes: uint8, of the parameter's shape.
    ///   - absmax: float32, one a block.
    package init(codes: (Tensor, Tensor), absmax: (Tensor, Tensor)) {
        self.codes = codes
        self.absmax = absmax
    }

    /// Updates a tensor by AdamW, and its moments, in place.
    ///
    /// What is on a device is updated in host memory, and copied back.
    ///
    /// - Parameters:
    ///   - parameter: float32, without gaps.
    ///   - gradient: of the parameter's shape.
    ///   - constants: of this update.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    package func updateByAdamW(
        _ parameter: Tensor, gradient: Tensor, constants: AdamWConstants
    ) throws(TorchError) {
        let count = parameter.numElements
        let numBlocks = (count + Self.blockSize - 1) / Self.blockSize
        guard
            [parameter, gradient, codes.first, codes.second].allSatisfy({ $0.numElements == count }
            ),
            [absmax.first, absmax.second].allSatisfy({ $0.numElements == numBlocks })
        else {
            throw TorchError(
                operation: "8-bit AdamW",
                operands: [parameter, gradient, codes.first, absmax.first].map(\.summary),
                message: "expected one gradient and code an element, one absmax a block")
        }
        guard !DryRun.isOn else { return }
        let updated = [parameter, codes.first, codes.second, absmax.first, absmax.second]
        let own = try updated.map { tensor throws(TorchError) in
            try tensor.detach().to(.cpu).contiguous()
        }
        try run(own, gradient: gradient.to(.cpu).contiguous(), constants)
        for (tensor, copy) in zip(updated, own) where !tensor.device.isHost {
            try tensor.copyInPlace(from: copy)
        }
    }

    private func run(
        _ updated: [Tensor], gradient: Tensor, _ constants: AdamWConstants
    ) throws(TorchError) {
        let constants = CKernelsAdamW(
            first_weight: constants.firstWeight, second_decay: constants.secondDecay,
            second_weight: constants.secondWeight, root_scale: constants.rootScale,
            epsilon: constants.epsilon, decay: constants.decay, rate: constants.rate)
        let count = gradient.numElements
        let numBlocks = (count + Self.blockSize - 1) / Self.blockSize
        Tensor.withAddresses(of: [gradient] + updated) { addresses in
            let numbers = addresses.map { $0?.assumingMemoryBound(to: Float.self) }
            let codes = addresses.map { $0?.assumingMemoryBound(to: UInt8.self) }
            BlockParallelism.automatic.forEachRange(of: numBlocks, numElements: count) { blocks in
                withUnsafePointer(to: constants) {
                    ckernels_adamw_update_eightbit(
                        $0, DynamicMap.codebook, DynamicMap.unsignedCodebook, numbers[0],
                        Int64(count), Int64(blocks.lowerBound), Int64(blocks.upperBound),
                        numbers[1], codes[2], codes[3], numbers[4], numbers[5])
                }
            }
        }
        Trace.noteKernel("adamw_8bit", inputs: [gradient], outputs: updated)
    }
}
