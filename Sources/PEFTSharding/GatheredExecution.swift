package import PEFTLayers
package import Torch

/// Runs blocks whose tensors are divided over the ranks: gathers a block before forward, and again before its backward.
///
/// Inside of recomputation one gather serves both the recomputed forward and the backward that follows it.
package final class GatheredExecution: BlockExecution {
    private let shards: ModelShards
    private let inner: any BlockExecution

    /// Gathers for another execution.
    package init(_ shards: ModelShards, _ inner: any BlockExecution = ResidentExecution()) {
        self.shards = shards
        self.inner = inner
    }

    /// Runs the block with its tensors in memory; the first node of its backward brings them there again.
    package func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        guard let position = shards.position(of: unit.path) else {
            preconditionFailure("\(unit.path) is no unit of the shards")
        }
        let shards = shards
        try shards.gathering { try shards.require(position) }
        let output = try inner.run(unit, hiddenStates, body)
        guard Autograd.isEnabled, output.requiresGrad else { return output }
        let outputs = try Autograd.node("gathered", inputs: [output]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let pullback: Pullback = { gradients throws(TorchError) in
                try shards.gathering { try shards.require(position) }
                return gradients
            }
            return ([try output.detach()], pullback)
        }
        return outputs[0]
    }

    /// Runs an end of the model with its tensors in memory, and frees them.
    package func atEnd<Result>(
        _ end: ModelEnd, _ body: () throws(TorchError) -> Result
    ) throws(TorchError) -> Result {
        let shards = shards
        try shards.gathering { try shards.require(shards.position(of: end)) }
        let result = try inner.atEnd(end, body)
        try shards.gathering { try shards.release(end) }
        return result
    }
}
