import PEFTLayers
import TestSupport
import Testing
import Torch

/// Counts how often a block's body runs.
private final class CountingExecution: BlockExecution {
    private(set) var numRuns = 0

    func run(
        _ unit: ModuleUnit, _ hiddenStates: Tensor,
        _ body: @escaping (Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        numRuns += 1
        return try body(hiddenStates)
    }
}

/// `silu(proj(norm(h)))`, with an adapter on the projection.
private struct Block {
    let norm: RMSNorm
    let projection: Linear
    let unit: ModuleUnit

    init(isAdapted: Bool = true) throws {
        let source = RandomSource(seed: 1, standardDeviation: 0.5)
        let root = Scope(registry: ModuleRegistry(), source: source)
        let made = try root.unit("block") { scope in
            let norm = try RMSNorm(hiddenSize: 6, epsilon: 1e-5, scope / "norm")
            return (norm, try scope.linear("proj", inFeatures: 6, outFeatures: 6, bias: true))
        }
        (norm, projection) = made.block
        unit = made.unit
        if isAdapted {
            projection.attach(try RowSumAdapter(path: projection.path))
        }
    }

    func run(_ execution: any BlockExecution, _ input: Tensor) throws(TorchError) -> Tensor {
        let context = ForwardContext.segment(input.shape[0])
        return try execution.run(unit, input) { [norm, projection] input throws(TorchError) in
            try projection(norm(input), context: context).silu()
        }
    }
}

@Suite struct BlockExecutionTests {
    /// Runs a fresh block twice in a row, as two layers share weights, and returns all gradients.
    private func differentiate(
        _ execution: any BlockExecution, inputRequiresGrad: Bool
    ) throws -> (Differentiated, factorGradient: Tensor) {
        let block = try Block()
        let result = try Differentiated(
            [.random([5, 6], seed: 2)], isTrainable: [inputRequiresGrad]
        ) { inputs in
            try block.run(execution, block.run(execution, inputs[0]))
        }
        let factor = try #require(block.unit.trainableParameters.first).value
        return (result, try #require(factor.grad, "the adapter's gradient"))
    }

    @Test(arguments: [true, false], [1, 2, 3])
    func recomputedEqualsResident(inputRequiresGrad: Bool, depth: Int) throws {
        var execution: any BlockExecution = ResidentExecution()
        for _ in 0..<depth { execution = RecomputedExecution(execution) }
        let found = try differentiate(execution, inputRequiresGrad: inputRequiresGrad)
        let expected = try differentiate(
            ResidentExecution(), inputRequiresGrad: inputRequiresGrad)
        #expect(try found.0.output.isEqual(to: expected.0.output))
        #expect(try found.factorGradient.isEqual(to: expected.factorGradient))
        #expect((found.0.gradients[0] != nil) == inputRequiresGrad)
        if let gradient = found.0.gradients[0] {
            #expect(try gradient.isEqual(to: #require(expected.0.gradients[0])))
        }
    }

    @Test func blockRunsNowAndOnceMoreInBackward() throws {
        let counter = CountingExecution()
        let output = try Block().run(
            RecomputedExecution(counter), .random([5, 6], seed: 2))
        #expect(counter.numRuns == 1)
        try output.sum().backward()
        #expect(counter.numRuns == 2)
    }

    @Test func withoutGradTheBlockRunsOnce() throws {
        let counter = CountingExecution()
        let output = try withoutGrad {
            try Block().run(RecomputedExecution(counter), .random([5, 6], seed: 2))
        }
        #expect(!output.requiresGrad)
        #expect(counter.numRuns == 1)
    }

    @Test func frozenBlockIsNotRecorded() throws {
        let contexts = TorchRuntime.numLiveContexts
        let output = try Block(isAdapted: false).run(
            RecomputedExecution(), .random([5, 6], seed: 2))
        #expect(!output.requiresGrad)
        #expect(TorchRuntime.numLiveContexts == contexts)
    }

    /// What recomputation is for: intermediate tensors die with the forward pass.
    @Test func onlyInputAndOutputStayAlive() throws {
        let block = try Block()
        let input = try Tensor.random([5, 6], seed: 2)
        let resident = try block.run(ResidentExecution(), input)
        let residentContexts = TorchRuntime.numLiveContexts
        let recomputed = try block.run(RecomputedExecution(), input)
        #expect(TorchRuntime.numLiveContexts == residentContexts + 1)
        #expect(try resident.detach().isEqual(to: recomputed.detach()))
    }

    /// The output would be the node's own input, which must not keep the node alive.
    @Test func bodyThatReturnsItsInputDoesNotLeak() throws {
        let block = try Block()
        let tensors = TorchRuntime.numLiveTensors
        let contexts = TorchRuntime.numLiveContexts
        do {
            let input = try Tensor.random([2, 6], seed: 3)
            let output = try RecomputedExecution().run(block.unit, input) { $0 }
            #expect(output.requiresGrad)
        }
        #expect(TorchRuntime.numLiveTensors == tensors)
        #expect(TorchRuntime.numLiveContexts == contexts)
    }

    @Test func errorWhileRecomputingComesOutOfBackward() throws {
        let block = try Block()
        var numRuns = 0
        let output = try RecomputedExecution().run(block.unit, .random([2, 6], seed: 3)) {
            input throws(TorchError) in
            numRuns += 1
            guard numRuns == 1 else { throw TorchError(operation: "block", message: "gone") }
            return try input * 2
        }
        let error = #expect(throws: TorchError.self) { try output.sum().backward() }
        #expect(error?.message.contains("block(): gone") == true)
        #expect(Autograd.isEnabled)
    }

    /// A later node may have no gradient for this one's output: then there is none for its inputs either.
    @Test func missingOutputGradientGivesNone() throws {
        let block = try Block()
        let input = try Tensor.random([2, 6], seed: 3)
        try input.setRequiresGrad(true)
        let output = try block.run(RecomputedExecution(), input)
        let dropped = try Autograd.node("drop", inputs: [output]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            ([try output.detach().clone()], { _ in [nil] })
        }
        try dropped[0].sum().backward()
        #expect(try input.grad.map { try $0.floats().allSatisfy { $0 == 0 } } ?? true)
    }
}
