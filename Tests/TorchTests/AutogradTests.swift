import Testing
import Torch

@Suite struct AutogradTests {
    private func leaf(_ values: [Float], _ shape: [Int]) throws -> Tensor {
        let tensor = try Tensor(values, shape: shape)
        try tensor.setRequiresGrad(true)
        return tensor
    }

    @Test func gradientOfAProductIsTheOtherFactor() throws {
        let x = try leaf([1, 2, 3], [3])
        let y = try leaf([4, 5, 6], [3])
        try (x * y).sum().backward()
        #expect(try x.grad?.floats() == [4, 5, 6])
        #expect(try y.grad?.floats() == [1, 2, 3])
    }

    @Test func gradientsLeaveGradAlone() throws {
        let x = try leaf([2], [1])
        let unused = try leaf([1], [1])
        let gradients = try Autograd.gradients(of: [(x * x).sum()], withRespectTo: [x, unused])
        #expect(try gradients[0]?.floats() == [4])
        #expect(gradients[1] == nil)
        #expect(x.grad == nil)
    }

    @Test func nodeWithSwiftPullbackEqualsTheOperationItself() throws {
        let x = try leaf([-1, 0.5, 2], [3])
        let outputs = try Autograd.node("cube", inputs: [x]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            let input = try x.detach()
            return (
                [try input.power(3)],
                { gradients throws(TorchError) in
                    guard let gradient = gradients[0] else { return [nil] }
                    return [try (input.power(2) * 3) * gradient]
                }
            )
        }
        try outputs[0].sum().backward()
        #expect(try x.grad?.floats() == [3, 0.75, 12])
    }

    @Test func pullbackIsDroppedWhereNothingRequiresGrad() throws {
        let before = TorchRuntime.numLiveContexts
        let x = try Tensor([1] as [Float], shape: [1])
        let outputs = try Autograd.node("identity", inputs: [x]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            ([try x.clone()], { $0 })
        }
        #expect(!outputs[0].requiresGrad)
        #expect(TorchRuntime.numLiveContexts == before)
    }

    @Test func errorOfAPullbackComesOutOfBackward() throws {
        let x = try leaf([1], [1])
        let outputs = try Autograd.node("broken", inputs: [x]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            (
                [try x.detach().clone()],
                { _ throws(TorchError) in
                    throw TorchError(operation: "broken", message: "no gradient today")
                }
            )
        }
        let error = #expect(throws: TorchError.self) { try outputs[0].sum().backward() }
        #expect(error?.message.contains("no gradient today") == true)
    }

    @Test func wrongNumberOfGradientsIsAnError() throws {
        let x = try leaf([1], [1])
        let outputs = try Autograd.node("short", inputs: [x]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            ([try x.detach().clone()], { _ in [] })
        }
        let error = #expect(throws: TorchError.self) { try outputs[0].sum().backward() }
        #expect(error?.message.contains("0 gradients for 1 inputs") == true)
    }

    @Test func secondBackwardSaysWhatToDo() throws {
        let x = try leaf([1], [1])
        let outputs = try Autograd.node("once", inputs: [x]) {
            () throws(TorchError) -> (outputs: [Tensor], pullback: Pullback) in
            ([try x.detach().clone()], { $0 })
        }
        let sum = try outputs[0].sum()
        try sum.backward()
        let error = #expect(throws: TorchError.self) { try sum.backward() }
        #expect(error?.message.contains("second time") == true)
    }

    @Test func backwardWithoutGraphGivesOurError() throws {
        let frozen = try Tensor([1] as [Float], shape: [1])
        let error = #expect(throws: TorchError.self) { try frozen.sum().backward() }
        #expect(error?.message.contains("does not depend on any tensor that requires grad") == true)
        #expect(error?.message.contains("element 0 of tensors") == false)
    }

    @Test func recordingIsOffInsideWithoutGradAndOnAgainAfter() throws {
        let x = try leaf([1], [1])
        let product = try withoutGrad { try x * 2 }
        #expect(!product.requiresGrad)
        #expect(Autograd.isEnabled)
        #expect(try (x * 2).requiresGrad)
    }

    @Test func recordingIsRestoredAfterAnError() throws {
        #expect(throws: TorchError.self) {
            try withoutGrad { () throws(TorchError) in
                throw TorchError(operation: "test", message: "thrown")
            }
        }
        #expect(Autograd.isEnabled)
    }
}

@Suite struct RecomputationTests {
    /// `sum(silu(x w)^2)` with and without recomputation; w is captured, x may be frozen.
    private func run(recomputed: Bool, inputRequiresGrad: Bool) throws -> (Tensor?, Tensor?, Int) {
        let generator = try Generator(seed: 1)
        let x = try Tensor.normal([5, 3], generator: generator)
        let w = try Tensor.normal([4, 3], generator: generator)
        try x.setRequiresGrad(inputRequiresGrad)
        try w.setRequiresGrad(true)
        var numRuns = 0
        let body: (Tensor) throws(TorchError) -> Tensor = { input throws(TorchError) in
            numRuns += 1
            return try input.linear(w).silu().power(2)
        }
        let output =
            recomputed
            ? try Autograd.recomputed(input: x, parameters: [w], body) : try body(x)
        try output.sum().backward()
        return (x.grad, w.grad, numRuns)
    }

    @Test(arguments: [true, false])
    func gradientsEqualThoseWithoutRecomputation(inputRequiresGrad: Bool) throws {
        let plain = try run(recomputed: false, inputRequiresGrad: inputRequiresGrad)
        let again = try run(recomputed: true, inputRequiresGrad: inputRequiresGrad)
        #expect(try plain.0?.floats() == again.0?.floats())
        #expect(try plain.1?.floats() == again.1?.floats())
        #expect(again.1 != nil, "a frozen input must not cut the graph")
        #expect(plain.2 == 1)
        #expect(again.2 == 2)
    }

    @Test func nestsInItself() throws {
        let x = try Tensor([1, 2] as [Float], shape: [2])
        let w = try Tensor([3, 4] as [Float], shape: [2])
        try w.setRequiresGrad(true)
        let output = try Autograd.recomputed(input: x, parameters: [w]) {
            outer throws(TorchError) in
            try Autograd.recomputed(input: outer, parameters: [w]) { inner throws(TorchError) in
                try inner * w
            }
        }
        try output.sum().backward()
        #expect(try w.grad?.floats() == [1, 2])
    }
}

@Suite struct FlashAttentionTests {
    @Test(arguments: [[1, 3, 4, 4], [2, 2, 4, 4], [1, 2, 4, 6], [2, 4, 4]])
    func shapesThatDoNotFitAreAnError(shape: [Int]) throws {
        let query = try Tensor.ones([1, 2, 4, 4])
        let other = try Tensor.ones(shape)
        let error = #expect(throws: TorchError.self) {
            _ = try FlashAttention(
                query: query, key: other, value: other, isCausal: true, scale: 1)
        }
        #expect(error?.operation == "attention")
        #expect(throws: TorchError.self) {
            _ = try FlashAttention(
                query: query, key: query, value: other, isCausal: true, scale: 1)
        }
    }
}

@Suite struct HookTests {
    @Test func gradientHookSeesAndReplaces() throws {
        let x = try Tensor([1, 2] as [Float], shape: [2])
        try x.setRequiresGrad(true)
        var seen: [Float] = []
        let token = try x.addGradientHook { gradient throws(TorchError) in
            seen = try gradient.floats()
            return try gradient * 10
        }
        try (x * 3).sum().backward()
        #expect(seen == [3, 3])
        #expect(try x.grad?.floats() == [30, 30])
        try x.removeGradientHook(token)
        try x.setGrad(nil)
        try (x * 3).sum().backward()
        #expect(try x.grad?.floats() == [3, 3])
    }

    /// The inner backward of a recomputed block must not run it on its own.
    @Test func gradientHookRunsOnceUnderRecomputation() throws {
        let x = try Tensor([1, 2] as [Float], shape: [2])
        let w = try Tensor([3, 4] as [Float], shape: [2])
        try w.setRequiresGrad(true)
        var numCalls = 0
        try w.addGradientHook { gradient throws(TorchError) in
            numCalls += 1
            return try gradient * 10
        }
        let output = try Autograd.recomputed(input: x, parameters: [w]) {
            outer throws(TorchError) in
            try Autograd.recomputed(input: outer, parameters: [w]) { inner throws(TorchError) in
                try inner * w
            }
        }
        try output.sum().backward()
        #expect(numCalls == 1)
        #expect(try w.grad?.floats() == [10, 20])
        // The hook is there again for gradients that are asked for.
        let gradients = try Autograd.gradients(of: [(x * w).sum()], withRespectTo: [w])
        #expect(try gradients[0]?.floats() == [10, 20])
    }

    @Test func accumulateHookRunsAfterTheGradientIsThere() throws {
        let x = try Tensor([1] as [Float], shape: [1])
        try x.setRequiresGrad(true)
        var numCalls = 0
        try x.setAccumulateHook { parameter throws(TorchError) in
            numCalls += 1
            let gradient = try parameter.grad?.floats()
            guard gradient == [2] else {
                throw TorchError(operation: "hook", message: "no gradient yet")
            }
            try parameter.setGrad(nil)
        }
        try (x * 2).sum().backward()
        try (x * 2).sum().backward()
        #expect(numCalls == 2)
        #expect(x.grad == nil)
    }
}
