import Foundation
package import PEFTLayers
public import Torch

/// Adam with decoupled weight decay; state and update in float32.
///
/// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`,
/// `p = p (1 - lr wd) - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)`.
///
/// - Source: Loshchilov and Hutter 2019, algorithm 2; torch 2.13 `torch/optim/adamw.py`, whose order of operations this
///   follows.
public final class AdamW {
    /// The constants of the update.
    public struct Configuration: Sendable, Hashable {
        /// Decay of the first moment.
        public var beta1 = 0.9
        /// Decay of the second moment.
        public var beta2 = 0.999
        /// Added to the root of the second moment.
        public var epsilon = 1e-8
        /// Share of the parameter that decays at learning rate one.
        public var weightDecay = 0.0

        /// Makes torch's defaults, but for a weight decay of zero.
        public init() {}
    }

    /// The tensors that it updates.
    package let parameters: [Parameter]
    /// Two of each parameter, one after the other.
    private let moments: MomentMemory
    private let configuration: Configuration
    /// Updates done so far.
    public private(set) var step = 0

    /// Makes zero moments for every trainable tensor of a ready model.
    ///
    /// - Parameters:
    ///   - ready: the model whose tensors are updated.
    ///   - configuration: the constants.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: eight bytes an element.
    public convenience init(_ ready: ReadyModel, configuration: Configuration) throws {
        try self.init(ready.trainableParameters, configuration: configuration)
    }

    /// Makes zero moments for tensors that belong to no ready model.
    ///
    /// - Parameters:
    ///   - parameters: the whole trainable set, float32.
    ///   - configuration: the constants.
    ///   - offloadFolder: on whose disk the moments are kept, so that they take no memory between updates; nil for memory. Those of tensors on a
    ///     device go to page-locked host memory instead.
    /// - Throws: `TorchError` if memory does not suffice, `OffloadFile.Failure` if the disk does not.
    package init(
        _ parameters: [Parameter], configuration: Configuration, offloadFolder: String? = nil
    ) throws {
        self.parameters = parameters
        self.configuration = configuration
        for parameter in parameters {
            precondition(parameter.isTrainable, "\(parameter.path) is frozen")
        }
        moments = try MomentMemory(
            of: parameters.flatMap { [$0.value, $0.value] }, folder: offloadFolder)
    }

    /// Updates every parameter by its accumulated gradient; one without gradient stays.
    ///
    /// - Parameter learningRate: of this update.
    /// - Throws: `TorchError` if a gradient's shape does not fit.
    public func update(learningRate: Double) throws(TorchError) {
        step += 1
        let constants = constants(learningRate: learningRate)
        let kernels = ElementwiseKernels()
        try withoutGrad { () throws(TorchError) in
            for (index, parameter) in parameters.enumerated() {
                guard let gradient = parameter.value.grad else { continue }
                try moments.using(2 * index..<2 * index + 2) { moments throws(TorchError) in
                    try kernels.updateByAdamW(
                        parameter.value, gradient: gradient, moments: (moments[0], moments[1]),
                        constants: constants)
                }
            }
        }
    }

    private func constants(learningRate: Double) -> AdamWConstants {
        let correction1 = 1 - pow(configuration.beta1, Double(step))
        let correction2 = 1 - pow(configuration.beta2, Double(step))
        return AdamWConstants(
            firstWeight: Float(1 - configuration.beta1), secondDecay: Float(configuration.beta2),
            secondWeight: Float(1 - configuration.beta2),
            rootScale: Float(1 / correction2.squareRoot()), epsilon: Float(configuration.epsilon),
            decay: Float(1 - learningRate * configuration.weightDecay),
            rate: Float(learningRate / correction1))
    }

    /// Clears the gradients of all parameters.
    ///
    /// - Throws: `TorchError` if libtorch refuses.
    public func clearGradients() throws(TorchError) {
        for parameter in parameters {
            try parameter.value.setGrad(nil)
        }
    }
}

// MARK: - State

extension AdamW {
    /// The names of the state, in its order: `<parameter>.exp_avg` and `<parameter>.exp_avg_sq`.
    private var stateNames: [String] {
        parameters.flatMap { [$0.path + ".exp_avg", $0.path + ".exp_avg_sq"] }
    }

    /// The state by name: `<parameter>.exp_avg` and `<parameter>.exp_avg_sq`, float32.
    public var state: [(name: String, tensor: Tensor)] {
        Array(zip(stateNames, moments.tensors))
    }

    /// The shape of each tensor of ``state``, for strict reading.
    public var stateShapes: [String: [Int]] {
        Dictionary(uniqueKeysWithValues: state.map { ($0.name, $0.tensor.shape) })
    }

    /// Runs what reads a tensor of the state; one that is offloaded leaves memory after it.
    package func reading<Result>(
        _ position: Int, _ body: (Tensor) throws -> Result
    ) throws -> Result {
        try moments.reading(position, body)
    }

    /// Takes over a saved state.
    ///
    /// - Parameters:
    ///   - tensors: exactly the names and shapes of ``stateShapes``.
    ///   - step: updates that the state has seen.
    /// - Throws: `TorchError` if a shape does not fit.
    public func restore(_ tensors: [String: Tensor], step: Int) throws {
        for (position, name) in stateNames.enumerated() {
            guard let saved = tensors[name] else {
                throw TorchError(operation: "AdamW.restore", message: "\(name) is missing")
            }
            try reading(position) { try $0.copyInPlace(from: saved) }
        }
        self.step = step
    }
}

// MARK: - Whose tensors they are

extension AdamW {
    /// Refuses an optimizer that updates other tensors than those that are trained.
    ///
    /// Tensors are compared by identity: a copy has its own memory, so updating it trains nothing.
    ///
    /// - Parameter trainable: the trainable tensors of the ready model.
    /// - Throws: `Diagnosis` of ``DiagnosisCode/optimizerHoldsOthers`` that names the first difference.
    package func requireHolds(exactly trainable: [Parameter]) throws(Diagnosis) {
        for parameter in trainable
        where !parameters.contains(where: { $0.value.isSame(as: parameter.value) }) {
            let hasCopy = parameters.contains { $0.path == parameter.path }
            throw Self.difference(
                at: parameter.path,
                hasCopy
                    ? "the optimizer holds another tensor of this name, such as a stale copy"
                    : "the optimizer does not hold this trainable tensor")
        }
        for (index, parameter) in parameters.enumerated() {
            guard trainable.contains(where: { $0.value.isSame(as: parameter.value) }) else {
                throw Self.difference(
                    at: parameter.path, "the optimizer holds it, but it is not trained")
            }
            guard !parameters[..<index].contains(where: { $0.value.isSame(as: parameter.value) })
            else {
                throw Self.difference(at: parameter.path, "the optimizer holds it twice")
            }
        }
    }

    private static func difference(at path: String, _ reason: String) -> Diagnosis {
        Diagnosis(
            .optimizerHoldsOthers, at: path, reason,
            remedy: "make the optimizer from the model that is trained: "
                + "AdamW(ready, configuration:)")
    }
}
