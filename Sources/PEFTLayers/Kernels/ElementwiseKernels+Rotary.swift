import CKernels
package import Torch

// N tokens, H heads, D channels of a head.

extension ElementwiseKernels {
    /// `(a, b) -> (a cosine - b sine, b cosine + a sine)` for each pair of channels (i, i + D / 2).
    ///
    /// - Parameters:
    ///   - states: `[N, H, D]`, with any strides of tokens and heads.
    ///   - cosine: `[N, 1, D / 2]`, the dtype of the states.
    ///   - sine: as the cosine.
    ///   - isInverse: rotates by the opposite angle.
    /// - Returns: `[N, H, D]`, contiguous.
    /// - Throws: `TorchError` if shapes or dtypes do not fit.
    package func rotate(
        _ states: Tensor, cosine: Tensor, sine: Tensor, isInverse: Bool
    ) throws(TorchError) -> Tensor {
        let operands = [states, cosine, sine]
        let elementType = try elementType(of: operands, for: "rotary embedding")
        let shape = states.shape
        guard shape.count == 3, shape[2].isMultiple(of: 2),
            cosine.shape == [shape[0], 1, shape[2] / 2], sine.shape == cosine.shape
        else {
            throw refusal(
                of: operands, by: "rotary embedding", "expected [N, H, D] and twice [N, 1, D / 2]")
        }
        guard states.device.isHost else {
            return try DeviceLayers.rotate(
                states, cosine: cosine, sine: sine, isInverse: isInverse)
        }
        let states = states.strides[2] == 1 ? states : try states.contiguous()
        let strides = states.strides
        let output = try Tensor.empty(shape, dtype: states.dtype)
        let rotated = [states, try cosine.contiguous(), try sine.contiguous()]
        run(
            "rotary_embedding", on: rotated, to: [output], numBlocks: shape[0],
            numElements: states.numElements
        ) { addresses, tokens in
            let heads = CKernelsStates(
                data: addresses[0], token_stride: Int64(strides[0]),
                head_stride: Int64(strides[1]), num_heads: Int64(shape[1]),
                head_size: Int64(shape[2]))
            return ckernels_rotary_rotate(
                instructionSet.rawValue, elementType, heads, addresses[1], addresses[2],
                isInverse ? 1 : 0, Int64(tokens.lowerBound), Int64(tokens.upperBound),
                addresses[3])
        }
        return output
    }
}
