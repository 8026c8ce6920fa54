package import Torch

/// The gradients of a step's trained matrices, added in float64 instead of by autograd.
///
/// `sum = Σ over segments of (a segment's part in float32)`. A segment's part depends on that segment alone, and the order in which parts are
/// added does not show once the sum is rounded to float32. So a step's gradients, and the run, are the same bit for bit however its rows
/// are cut into micro-batches and divided among processes. Autograd by itself adds float32 numbers in the order in which they come.
///
/// Layers that know their segments add to these sums in backward, if the pass's ``ForwardContext`` has any, and give autograd
/// nothing; all others give autograd their gradients.
///
/// - Memory: 8 bytes an element from a tensor's first part until it is taken.
public final class GradientSums {
    private var sums: [ObjectIdentifier: Tensor] = [:]
    private let penaltyFactor: Double
    private var penalized: Set<ObjectIdentifier> = []

    /// Sums of nothing.
    ///
    /// - Parameter penaltyFactor: of adapters' own penalties, in the process that adds them; 0 in all others.
    public init(penaltyFactor: Double = 0) { self.penaltyFactor = penaltyFactor }

    /// By what the gradient of an adapter's own penalty is multiplied that is about to be given to autograd: once a step, whatever
    /// the number of passes and processes.
    ///
    /// - Parameter tensor: one of the adapter's.
    /// - Returns: 0 where it was given already, or is another process's.
    package func takePenaltyFactor(of tensor: Tensor) -> Double {
        penalized.insert(ObjectIdentifier(tensor)).inserted ? penaltyFactor : 0
    }

    /// What a layer adds its parts for a trained tensor to: float64 in its shape, zeros at first.
    ///
    /// - Returns: nil for a tensor that autograd must go on from, or that gets no gradient.
    /// - Throws: `TorchError` if memory does not suffice.
    package func sum(for tensor: Tensor) throws(TorchError) -> Tensor? {
        guard tensor.requiresGrad, !tensor.hasGraph else { return nil }
        let key = ObjectIdentifier(tensor)
        if let sum = sums[key] { return sum }
        let sum = try Tensor.zeros(tensor.shape, dtype: .float64, on: tensor.device)
        sums[key] = sum
        return sum
    }

    /// Takes the whole gradient of a tensor out, from here and from autograd.
    ///
    /// - Returns: float64, or float32 if all of it is autograd's; nil if there is none.
    /// - Throws: `TorchError` if memory does not suffice.
    package func take(_ parameter: Parameter) throws(TorchError) -> Tensor? {
        let gradient = parameter.value.grad
        if gradient != nil { try parameter.value.setGrad(nil) }
        guard let sum = sums.removeValue(forKey: ObjectIdentifier(parameter.value)) else {
            return gradient
        }
        if let gradient {
            try withoutGrad { () throws(TorchError) in try sum.addInPlace(gradient) }
        }
        return sum
    }

    /// Gives the tensors their gradients, rounded to float32 once.
    ///
    /// - Throws: `TorchError` if memory does not suffice.
    package func handOver(to parameters: [Parameter]) throws(TorchError) {
        for parameter in parameters {
            try parameter.value.setGrad(try take(parameter)?.to(.float32))
        }
    }
}
