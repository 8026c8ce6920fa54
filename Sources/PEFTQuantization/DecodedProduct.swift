import PEFTLayers
import Torch

/// `y = x W^T` with a frozen weight that is stored in codes, differentiable with respect to x.
///
/// The weight is decoded for the product and freed after it; `dx = dy W`, with the weight decoded again. Nothing of the weight's size is
/// kept for backward, and nothing but x gets a gradient.
///
/// - Parameters:
///   - name: of the operation, for traces.
///   - input: `[..., inFeatures]`; float32, bfloat16 or float16.
///   - outputDType: the input's dtype, or float32 for sums that are not rounded.
///   - decode: the weight, `[outFeatures, inFeatures]` in a dtype.
/// - Returns: `[..., outFeatures]` in that dtype.
/// - Throws: `TorchError` if the shapes do not fit.
/// - Memory: the weight in `Tensor.productDType(into:)` during the product, in `Tensor.productDType` in backward.
func decodedProduct(
    _ name: String, of input: Tensor, outputDType: DType,
    decode: @escaping (DType) throws(TorchError) -> Tensor
) throws(TorchError) -> Tensor {
    let (dtype, product) = (input.dtype, input.productDType)
    let outputs = try Autograd.node(name, inputs: [input]) {
        () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
        let wide = input.productDType(into: outputDType)
        let output = try input.to(wide).linear(decode(wide))
        let pullback: Pullback = { gradients throws(TorchError) in
            guard let gradient = gradients[0] else { return [nil] }
            let inputGradient = try gradient.to(product).matmul(decode(product))
            return [try inputGradient.to(dtype)]
        }
        return ([try output.to(outputDType)], pullback)
    }
    return outputs[0]
}
