import CKernels
public import Torch

/// Answers: how is the weight of this linear stored.
///
/// A frozen storage differentiates only with respect to the input. It knows nothing of adapters.
public protocol LinearWeight: AnyObject {
    /// Rows of the weight.
    var outFeatures: Int { get }
    /// Columns of the weight.
    var inFeatures: Int { get }
    /// The storage in words: `nf4, block 64, double quantized`.
    var storageDescription: String { get }
    /// Bytes in memory, with everything that decoding needs.
    var sizeBytes: Int { get }
    /// The floating-point tensors of the storage, which must get no gradient; none where weights are codes.
    var parameters: [Parameter] { get }
    /// The integer tensors of the storage, packed codes; none where weights are numbers.
    var codes: [Tensor] { get }
    /// The elements as they lie in memory, `[outFeatures, inFeatures]`, if `y = x W^T` is computed with just them; nil where weights
    /// are codes.
    var dense: Tensor? { get }

    /// The weight as a parameter that an adapter can train as a whole; nil where weights are codes.
    var replaceable: Parameter? { get }

    /// Where the weight is.
    var device: Device { get }

    /// The weight on a device; self if it is there.
    ///
    /// - Throws: `TorchError` if the device cannot be used or its memory does not suffice.
    /// - Memory: a copy of the storage as it is, without decoding it.
    func moved(to device: Device) throws(TorchError) -> any LinearWeight

    /// `y = x W^T`, differentiable with respect to x.
    ///
    /// - Parameters:
    ///   - input: `[..., inFeatures]`, the compute dtype.
    ///   - outputDType: the input's dtype, or float32 if the sums are not to be rounded, because more is added to them.
    /// - Returns: `[..., outFeatures]` in that dtype.
    /// - Throws: `TorchError` if the shapes do not fit.
    func apply(to input: Tensor, outputDType: DType) throws(TorchError) -> Tensor

    /// Some rows of the weight over the same memory, such as those of one expert of several.
    ///
    /// - Parameter range: within `0..<outFeatures`.
    /// - Returns: a weight of `range.count` output features in the same storage; gradients of elements reach the whole.
    /// - Throws: `TorchError` if libtorch refuses the range.
    func rows(_ range: Range<Int>) throws(TorchError) -> any LinearWeight

    /// The weight as float32, `[outFeatures, inFeatures]`.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: a new tensor of four bytes an element.
    func dequantized() throws(TorchError) -> Tensor

    /// The weight made ready for many products in a row, such as the head's over slices of the tokens.
    ///
    /// - Parameter dtype: of the inputs to come.
    /// - Returns: a weight that decodes nothing when it is applied; self if that is so already.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: a dense copy in ``DType/forProducts`` for as long as the result lives, where one is needed.
    func prepared(for dtype: DType) throws(TorchError) -> any LinearWeight

    /// The weight as kernels of products read it, if it is frozen and they can.
    ///
    /// A storage that supplies its panels is fast with every adapter.
    ///
    /// - Returns: nil where products go through ``apply(to:outputDType:)``.
    /// - Throws: `TorchError` if memory does not suffice.
    func panels() throws(TorchError) -> WeightPanels?
}

extension LinearWeight {
    /// `y = x W^T` in the dtype of x.
    ///
    /// - Throws: `TorchError` if the shapes do not fit.
    public func apply(to input: Tensor) throws(TorchError) -> Tensor {
        try apply(to: input, outputDType: input.dtype)
    }

    /// None: codes and their constants are no parameters.
    public var parameters: [Parameter] { [] }

    /// None: the weight is numbers.
    public var codes: [Tensor] { [] }

    /// None: products go through ``apply(to:outputDType:)``.
    public func panels() throws(TorchError) -> WeightPanels? { nil }

    /// Nil: the weight has no elements as they are computed with.
    public var dense: Tensor? { nil }

    /// Nil: codes are not trained.
    public var replaceable: Parameter? { nil }

    /// The storage's decoded weight.
    public func prepared(for dtype: DType) throws(TorchError) -> any LinearWeight {
        let wide = try dequantized()
        let value = try wide.to(dtype.forProducts(on: wide.device))
        return DenseWeight(try Parameter(path: "", value: value, isTrainable: false))
    }
}

/// A weight stored as it is computed with.
public final class DenseWeight: LinearWeight {
    /// The weight, `[outFeatures, inFeatures]`.
    public let parameter: Parameter

    /// Stores a parameter of two dimensions.
    public init(_ parameter: Parameter) {
        precondition(parameter.value.numDimensions == 2, "a linear weight has two dimensions")
        self.parameter = parameter
    }

    /// Rows of the weight.
    public var outFeatures: Int { parameter.original.shape[0] }
    /// Columns of the weight.
    public var inFeatures: Int { parameter.original.shape[1] }
    /// The weight.
    public var parameters: [Parameter] { [parameter] }
    /// The weight.
    public var replaceable: Parameter? { parameter }
    /// The weight's elements.
    public var dense: Tensor? { parameter.value }
    /// The dtype's name.
    public var storageDescription: String { parameter.original.dtype.name }
    /// Bytes of the elements.
    public var sizeBytes: Int { parameter.original.sizeBytes }

    /// `y = x W^T`; input or weight may already be in the dtype that the other's products are computed in.
    public func apply(to input: Tensor, outputDType: DType) throws(TorchError) -> Tensor {
        let (value, product) = (try parameter.computed(), input.productDType(into: outputDType))
        guard value.productDType(into: outputDType) == product else {
            return try input.linear(value)
        }
        return try input.to(product).linear(value.to(product)).to(outputDType)
    }

    /// The weight in the dtype of products; a trainable one stays, since its gradient must reach it.
    public func prepared(for dtype: DType) throws(TorchError) -> any LinearWeight {
        let value = parameter.value
        let product = dtype.forProducts(on: value.device)
        guard value.dtype != product, !value.requiresGrad else { return self }
        let wide = try value.to(product)
        return DenseWeight(
            try Parameter(path: parameter.path, value: wide, isTrainable: false))
    }

    /// A view of the rows.
    public func rows(_ range: Range<Int>) throws(TorchError) -> any LinearWeight {
        let view = try parameter.value.narrow(0, range.lowerBound, range.count)
        return DenseWeight(try Parameter(path: parameter.path, value: view, isTrainable: false))
    }

    /// Where the elements are.
    public var device: Device { parameter.original.device }

    /// The same numbers on a device.
    public func moved(to device: Device) throws(TorchError) -> any LinearWeight {
        guard self.device != device else { return self }
        return DenseWeight(try parameter.moved(to: device))
    }

    /// The elements, if they are frozen bfloat16 numbers in host memory.
    public func panels() throws(TorchError) -> WeightPanels? {
        let value = parameter.value
        guard value.device.isHost, value.dtype == .bfloat16, !value.requiresGrad, value.isContiguous
        else { return nil }
        return WeightPanels(owners: [value]) { addresses in
            ckernels_panels_bfloat16(addresses[0], Int64(outFeatures), Int64(inFeatures))
        }
    }

    /// The weight as float32.
    public func dequantized() throws(TorchError) -> Tensor {
        try parameter.value.detach().to(.float32)
    }
}
