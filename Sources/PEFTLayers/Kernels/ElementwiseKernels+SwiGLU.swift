import CKernels
package import Torch

extension ElementwiseKernels {
    /// `gate / (1 + exp(-gate)) * up`, element by element.
    ///
    /// - Parameters:
    ///   - gate: any shape.
    ///   - up: as the gate.
    /// - Returns: as the gate.
    /// - Throws: `TorchError` if shapes or dtypes differ.
    package func swiGLU(gate: Tensor, up: Tensor) throws(TorchError) -> Tensor {
        let elementType = try elementType(of: [gate, up], for: "SwiGLU")
        guard gate.shape == up.shape else {
            throw refusal(of: [gate, up], by: "SwiGLU", "expected gate and up of one shape")
        }
        guard gate.device.isHost else { return try DeviceLayers.swiGLU(gate: gate, up: up) }
        let (gate, up) = (try gate.contiguous(), try up.contiguous())
        let output = try Tensor.empty(gate.shape, dtype: gate.dtype)
        run(
            "swiglu", on: [gate, up], to: [output], numBlocks: gate.numElements,
            numElements: gate.numElements
        ) { addresses, elements in
            ckernels_swiglu_forward(
                instructionSet.rawValue, elementType, addresses[0], addresses[1],
                Int64(elements.lowerBound), Int64(elements.upperBound), addresses[2])
        }
        return output
    }

    /// `(dy u s (1 + g (1 - s)), dy g s)` with g the gate, u up, dy the output's gradient and `s = sigmoid(g)`.
    ///
    /// - Parameters:
    ///   - outputGradient: as the gate.
    ///   - gate: of the forward pass.
    ///   - up: of the forward pass.
    /// - Returns: the gradients of gate and up, as the gate.
    /// - Throws: `TorchError` if dtypes differ or libtorch cannot allocate.
    package func swiGLUGradients(
        outputGradient: Tensor, gate: Tensor, up: Tensor
    ) throws(TorchError) -> (gate: Tensor, up: Tensor) {
        let elementType = try elementType(of: [outputGradient, gate, up], for: "SwiGLU")
        precondition(outputGradient.shape == gate.shape, "a gradient of another shape")
        guard gate.device.isHost else {
            return try DeviceLayers.swiGLUGradients(
                outputGradient: outputGradient, gate: gate, up: up)
        }
        let gateGradient = try Tensor.empty(gate.shape, dtype: gate.dtype)
        let upGradient = try Tensor.empty(gate.shape, dtype: gate.dtype)
        let operands = [
            try outputGradient.contiguous(), try gate.contiguous(), try up.contiguous(),
        ]
        run(
            "swiglu", on: operands, to: [gateGradient, upGradient], numBlocks: gate.numElements,
            numElements: gate.numElements
        ) { addresses, elements in
            ckernels_swiglu_backward(
                instructionSet.rawValue, elementType, addresses[0], addresses[1], addresses[2],
                Int64(elements.lowerBound), Int64(elements.upperBound), addresses[3],
                addresses[4])
        }
        return (gateGradient, upGradient)
    }
}
