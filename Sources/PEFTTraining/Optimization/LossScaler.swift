package import PEFTLayers
package import Torch

/// Keeps gradients in the range of float16: multiplies the loss's gradient, and divides what arrives at the adapters.
///
/// A dynamic scale is halved by each step whose gradients overflow, and doubled after 2000 steps in a row without one.
///
/// - Source: Micikevicius et al. 2018, "Mixed Precision Training", section 3.2; torch 2.13 `torch/amp/grad_scaler.py:GradScaler`.
///
/// Differs from torch: the gradient of the loss is scaled rather than the loss, so an infinite loss is never the scale's doing; and a
/// scale below 1 is an error, as no gradient overflows for its sake.
public final class LossScaler {
    /// What a checkpoint keeps.
    public struct State: Codable, Hashable, Sendable {
        /// The factor of the next step.
        public var scale: Double
        /// Steps without overflow since the scale last changed.
        public var growthTracker: Int

        private enum CodingKeys: String, CodingKey {
            case scale
            case growthTracker = "growth_tracker"
        }
    }

    /// The scale of the first step.
    static let initialScale = 65536.0
    /// The factor of a growing scale.
    static let growthFactor = 2.0
    /// The factor of a scale after an overflow.
    static let backoffFactor = 0.5
    /// Steps in a row without overflow that let the scale grow.
    static let growthInterval = 2000
    /// The smallest scale that is tried.
    static let minScale = 1.0

    /// Whether the scale changes.
    public let isDynamic: Bool
    /// Scale and counter as they are now.
    public private(set) var state: State

    /// Makes a scaler at its start.
    ///
    /// - Parameter scaling: nil is returned for `none`.
    public init?(_ scaling: LossScaling) {
        switch scaling {
        case .none: return nil
        case .dynamic:
            isDynamic = true
            state = State(scale: Self.initialScale, growthTracker: 0)
        case .fixed(let scale):
            isDynamic = false
            state = State(scale: scale, growthTracker: 0)
        }
    }

    /// The factor of the next step.
    public var scale: Double { state.scale }

    /// Whether a scale has become so small that gradients overflow without any.
    public var isExhausted: Bool { isDynamic && scale < Self.minScale }

    /// Goes on where a checkpoint was.
    package func restore(_ state: State) { self.state = state }

    /// Divides the gradients of a step by its scale.
    ///
    /// - Throws: `TorchError` if libtorch fails.
    package func unscale(_ parameters: [Parameter]) throws(TorchError) {
        let inverse = 1 / scale
        try withoutGrad { () throws(TorchError) in
            for parameter in parameters {
                try parameter.value.grad?.multiplyInPlace(inverse)
            }
        }
    }

    /// Takes in a step, and sets the scale of the next one.
    ///
    /// - Parameter hasOverflowed: whether its gradients were infinite or NaN.
    package func update(hasOverflowed: Bool) {
        guard isDynamic else { return }
        if hasOverflowed {
            state = State(scale: scale * Self.backoffFactor, growthTracker: 0)
            return
        }
        state.growthTracker += 1
        guard state.growthTracker == Self.growthInterval else { return }
        let grown = scale * Self.growthFactor
        state = State(scale: Float(grown).isFinite ? grown : scale, growthTracker: 0)
    }
}

/// Gradients that were too large for their dtype at a loss scale; nothing was updated, and the next step has a smaller scale.
public struct LossScaleOverflow: Error, Hashable, Sendable {
    /// The step, from 1.
    public let step: Int
    /// The scale at which they overflowed.
    public let scale: Double
    /// The scale of the next step.
    public let nextScale: Double

    /// The overflow in the words of a warning.
    public var diagnosis: Diagnosis {
        Diagnosis(
            .gradientNotFinite, at: "step \(step)",
            "gradients overflow at loss scale \(scale), so nothing was updated",
            remedy: "nothing, unless it goes on: the next steps use \(nextScale)")
    }
}
