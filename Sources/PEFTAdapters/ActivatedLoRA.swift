public import PEFTLayers
public import Torch

/// A LoRA that acts on a row only from its invocation on (aLoRA): `y = W x + m s B A dropout(x)`.
///
/// m is 1 for the tokens from the first one of the last occurrence of ``invocation`` in their row, else 0; for a row without
/// it m is 0 throughout. Keys and values before the invocation are those of the base. What is not activated costs nothing.
///
/// - Source: Greenewald et al. 2025, "Activated LoRA"; peft 0.21.2 `tuners/lora/variants.py:ALoraLinearVariant`.
public final class ActivatedLoRA: LinearAdapter {
    /// The update where it acts.
    public let lora: LoRA
    private let tokens: InvocationTokens

    /// The tokens that activate the update.
    public var invocation: InvocationTokens? { tokens }

    /// A and B.
    public var parameters: [Parameter] { lora.parameters }

    /// Limits a LoRA to what follows some tokens.
    public init(_ lora: LoRA, invocation: InvocationTokens) {
        self.lora = lora
        tokens = invocation
    }

    /// Adds the update to the base's output of active tokens.
    ///
    /// - Throws: `TorchError` if the tokens of the pass are not known, or the layer is not called with all of them.
    /// - Memory: as ``LoRA/apply(to:baseOutput:weight:context:)`` for the active tokens, and a copy of their inputs.
    public func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        guard let active = context.activeTokens(by: tokens),
            input.shape[0] == context.layout.numTokens
        else {
            throw TorchError(
                operation: lora.target.path, operands: [],
                message:
                    "the adapter acts from its invocation tokens on, and which tokens these outputs are of is not "
                    + "known; give the tokens by ForwardContext.reading, with one adapter for all rows and "
                    + "no shared prefixes")
        }
        if active.count == input.shape[0] {
            return try lora.apply(
                to: input, baseOutput: baseOutput, weight: weight, context: context)
        }
        // A and B stay connected to the loss by no rows: their gradients are then zero.
        let rows = try Tensor(active, shape: [active.count]).to(input.device)
        let activeInput = try input.indexSelected(0, rows)
        let mask =
            active.isEmpty ? nil : try lora.dropoutMask(for: activeInput, key: context.dropout)
        let update = try lora.update(
            of: activeInput, mask: mask, addedTo: nil, dtype: baseOutput.dtype)
        return try baseOutput.indexAdded(0, rows, update).to(input.dtype)
    }

    /// Whether every element of B is zero.
    public func changesNothing() throws(TorchError) -> Bool { try lora.changesNothing() }
}
