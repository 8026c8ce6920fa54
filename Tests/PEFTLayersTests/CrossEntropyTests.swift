import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct CrossEntropyTests {
    private static let vocabularySize = 13
    private static let hiddenSize = 6

    /// Hidden states, head weight and targets, some of them ignored.
    private struct Batch {
        let hidden: Tensor
        let weight: Tensor
        let targets: [Int32]

        init(numTokens: Int, ignoring: (Int) -> Bool) throws {
            hidden = try .random([numTokens, hiddenSize], seed: 1)
            weight = try .random([vocabularySize, hiddenSize], seed: 2)
            targets = (0..<numTokens).map { ignoring($0) ? -100 : Int32($0 * 5 % vocabularySize) }
        }

        /// The sum over targets of plain cross entropy on all logits.
        func reference(_ inputs: [Tensor]) throws -> Tensor {
            let positions = targets.indices.filter { targets[$0] >= 0 }
            let rows = try Tensor(positions.map { Int64($0) }, shape: [positions.count])
            let labels = try Tensor(positions.map { Int64(targets[$0]) }, shape: [positions.count])
            return try inputs[0].linear(inputs[1]).indexSelected(0, rows).crossEntropySum(labels)
        }

        func losses(_ inputs: [Tensor], isHeadTrained: Bool = true) throws -> TokenLosses {
            try CrossEntropy.losses(
                hiddenStates: inputs[0], targets: targets,
                parameters: isHeadTrained ? [inputs[1]] : []
            ) { slice throws(TorchError) in try slice.linear(inputs[1].to(slice.dtype)) }
        }
    }

    @Test(arguments: [1, 5, 128, 129, 256, 300], [1, 3])
    func lossAndGradientsAreThoseOfPlainLogits(numTokens: Int, everyNth: Int) throws {
        let batch = try Batch(numTokens: numTokens) { !$0.isMultiple(of: everyNth) }
        let inputs = [batch.hidden, batch.weight]
        let found = try Differentiated(inputs) { try batch.losses($0).sum }
        let expected = try Differentiated(inputs) { try batch.reference($0) }
        try found.expectClose(to: expected)
    }

    @Test func frozenHeadGetsNoGradient() throws {
        let batch = try Batch(numTokens: 140) { $0 == 3 }
        let inputs = [batch.hidden, batch.weight]
        let found = try Differentiated(inputs, isTrainable: [true, false]) {
            try batch.losses($0, isHeadTrained: false).sum
        }
        let expected = try Differentiated(inputs, isTrainable: [true, false]) {
            try batch.reference($0)
        }
        try found.expectClose(to: expected)
        #expect(found.gradients[1] == nil)
    }

    @Test func headTrainsOnFrozenHiddenStates() throws {
        let batch = try Batch(numTokens: 140) { $0 == 3 }
        let inputs = [batch.hidden, batch.weight]
        let found = try Differentiated(inputs, isTrainable: [false, true]) {
            try batch.losses($0).sum
        }
        let expected = try Differentiated(inputs, isTrainable: [false, true]) {
            try batch.reference($0)
        }
        try found.expectClose(to: expected)
    }

    @Test func gradientScalesWithThatOfTheLoss() throws {
        let batch = try Batch(numTokens: 131) { $0 < 2 }
        let inputs = [batch.hidden, batch.weight]
        let found = try Differentiated(inputs) { try batch.losses($0).sum * 0.125 }
        let expected = try Differentiated(inputs) { try batch.reference($0) * 0.125 }
        try found.expectClose(to: expected)
    }

    @Test func partsAreTheLossesOfTheTargetsInOrder() throws {
        let batch = try Batch(numTokens: 135) { $0.isMultiple(of: 4) }
        try batch.hidden.setRequiresGrad(true)
        let losses = try batch.losses([batch.hidden, batch.weight], isHeadTrained: false)
        let logProbabilities = try batch.hidden.detach().linear(batch.weight).logSoftmax().floats()
        let expected = batch.targets.enumerated().filter { $0.element >= 0 }.map {
            -logProbabilities[$0.offset * Self.vocabularySize + Int($0.element)]
        }
        #expect(expected.count == 101)
        try expectClose(losses.perTarget, Tensor(expected, shape: [101]))
        #expect(!losses.perTarget.requiresGrad)
        try expectClose(losses.sum.detach(), losses.perTarget.sum())
    }

    @Test func withoutTargetsTheLossIsZeroAndSoAreTheGradients() throws {
        let batch = try Batch(numTokens: 5) { _ in true }
        let inputs = [batch.hidden, batch.weight]
        let losses = try batch.losses(inputs)
        #expect(try losses.sum.item() == 0)
        #expect(losses.perTarget.shape == [0])
        let found = try Differentiated(inputs, isTrainable: [true, false]) {
            try batch.losses($0, isHeadTrained: false).sum
        }
        #expect(try found.gradients[0]?.floats() == Array(repeating: 0, count: 30))
    }

    @Test func evaluationGivesEqualNumbersAndNoGraph() throws {
        let batch = try Batch(numTokens: 130) { $0 == 7 }
        try batch.hidden.setRequiresGrad(true)
        let inputs = [batch.hidden, batch.weight]
        let trained = try batch.losses(inputs, isHeadTrained: false)
        let evaluated = try withoutGrad { try batch.losses(inputs, isHeadTrained: false) }
        #expect(trained.sum.requiresGrad)
        #expect(!evaluated.sum.requiresGrad)
        #expect(try evaluated.sum.item() == trained.sum.detach().item())
        #expect(try evaluated.perTarget.isEqual(to: trained.perTarget))
    }

    @Test func gradientHookOfTheHeadSeesTheWholeOnce() throws {
        let batch = try Batch(numTokens: 300) { _ in false }
        try batch.weight.setRequiresGrad(true)
        var numCalls = 0
        try batch.weight.addGradientHook { gradient throws(TorchError) in
            numCalls += 1
            return gradient
        }
        try batch.losses([batch.hidden, batch.weight]).sum.backward()
        #expect(numCalls == 1)
    }

    @Test func headSeesOneSliceAtATimeAndTargetsOnly() throws {
        let batch = try Batch(numTokens: 300) { $0 >= 270 }
        var seen: [Int] = []
        _ = try CrossEntropy.losses(hiddenStates: batch.hidden, targets: batch.targets) {
            slice throws(TorchError) in
            seen.append(slice.shape[0])
            return try slice.linear(batch.weight)
        }
        let length = CrossEntropy.sliceLength
        #expect(seen == [length, length, 270 - 2 * length])
    }

    /// 1 / 120 is 0.34 % off in bfloat16: were it rounded, every gradient of a mean would be.
    @Test(arguments: [InstructionSet.best, .portable])
    func theMeansGradientIsNotBiased(_ instructionSet: InstructionSet) throws {
        let numTokens = 120
        let batch = try Batch(numTokens: numTokens) { _ in false }
        let weight = try batch.weight.to(.bfloat16)
        func gradient(ofMean: Bool) throws -> Tensor {
            let found = try Differentiated([batch.hidden.to(.bfloat16)]) { leaves in
                let sum = try CrossEntropy.losses(
                    hiddenStates: leaves[0], targets: batch.targets, weight: weight,
                    instructionSet: instructionSet
                ) { slice throws(TorchError) in try slice.to(weight.dtype).linear(weight) }.sum
                return try sum * (ofMean ? 1 / Double(numTokens) : 1)
            }
            return try #require(found.gradients[0]).to(.float64)
        }
        let (mean, sum) = (try gradient(ofMean: true), try gradient(ofMean: false))
        let factor = try (mean * sum).sum().item() / (sum * sum).sum().item()
        #expect(abs(factor * Double(numTokens) - 1) < 5e-4)
    }

    @Test func bfloat16IsNearFloat32AndItsLossIsFloat32() throws {
        let batch = try Batch(numTokens: 200) { $0 == 0 }
        let inputs = [batch.hidden, batch.weight]
        let found = try Differentiated(inputs.map { try $0.to(.bfloat16) }) {
            let losses = try batch.losses($0)
            #expect(losses.perTarget.dtype == .float32)
            return losses.sum
        }
        #expect(found.output.dtype == .float32)
        #expect(found.gradients.allSatisfy { $0?.dtype == .bfloat16 })
        try found.expectClose(
            to: Differentiated(inputs) { try batch.reference($0) }, output: Tolerance.bfloat16,
            gradient: Tolerance.bfloat16)
    }

    @Test(arguments: [true, false])
    func preparedHeadIsNearFloat32AndTrains(isTrainable: Bool) throws {
        let batch = try Batch(numTokens: 200) { $0 == 0 }
        let inputs = [batch.hidden, batch.weight]
        let flags = [true, isTrainable]
        let found = try Differentiated(
            inputs.map { try $0.to(.bfloat16) }, isTrainable: flags
        ) { leaves in
            let parameter = try Parameter(path: "w", value: leaves[1], isTrainable: isTrainable)
            let head = try Linear(path: "head", weight: DenseWeight(parameter))
                .prepared(for: .bfloat16)
            return try CrossEntropy.losses(
                hiddenStates: leaves[0], targets: batch.targets,
                parameters: isTrainable ? [leaves[1]] : []
            ) { slice throws(TorchError) in
                try head(slice, context: .segment(slice.shape[0]))
            }.sum
        }
        try found.expectClose(
            to: Differentiated(inputs, isTrainable: flags) { try batch.reference($0) },
            output: Tolerance.bfloat16, gradient: Tolerance.bfloat16)
    }

    @Test(arguments: [true, false])
    func targetOutsideTheVocabularyIsAnError(isRecorded: Bool) throws {
        let hidden = try Tensor.random([2, Self.hiddenSize], seed: 1)
        let weight = try Tensor.random([Self.vocabularySize, Self.hiddenSize], seed: 2)
        try hidden.setRequiresGrad(isRecorded)
        let error = #expect(throws: TorchError.self) {
            _ = try CrossEntropy.losses(hiddenStates: hidden, targets: [0, 13]) {
                slice throws(TorchError) in try slice.linear(weight)
            }
        }
        #expect(error?.operation == "cross_entropy")
        #expect(error?.message.contains("13") == true)
    }

    @Test func errorOfTheHeadComesOut() throws {
        let hidden = try Tensor.random([2, Self.hiddenSize], seed: 1)
        let thrown = TorchError(operation: "head", message: "broken")
        let error = #expect(throws: TorchError.self) {
            _ = try CrossEntropy.losses(hiddenStates: hidden, targets: [0, 1]) {
                _ throws(TorchError) in throw thrown
            }
        }
        #expect(error == thrown)
    }

    // MARK: - A frozen product

    @Test(
        arguments: [
            (DType.bfloat16, 6, InstructionSet.avx512bf16, false),
            (.bfloat16, 6, .portable, true), (.float32, 6, .avx512bf16, true),
            (.bfloat16, 7, .avx512bf16, true), (.bfloat16, 7, .avx2, false),
            (.float16, 6, .avx2, true),
        ])
    func kernelTakesTheHeadsPlaceWhereItCan(
        dtype: DType, hiddenSize: Int, instructionSet: InstructionSet, callsHead: Bool
    ) throws {
        let hidden = try Tensor.random([5, hiddenSize], seed: 1).to(dtype)
        let weight = try Tensor.random([13, hiddenSize], seed: 2).to(dtype)
        var isCalled = false
        let losses = try CrossEntropy.losses(
            hiddenStates: hidden, targets: [1, 2, -1, 12, 0], weight: weight,
            instructionSet: instructionSet
        ) { slice throws(TorchError) in
            isCalled = true
            return try slice.to(weight.dtype).linear(weight)
        }
        #expect(isCalled == (callsHead || !instructionSet.isSupported))
        #expect(losses.perTarget.shape == [4])
    }

    @Test func frozenProductHasTheContractsOfEveryHead() throws {
        let batch = try Batch(numTokens: 135) { $0.isMultiple(of: 4) }
        let inputs = [batch.hidden, batch.weight]
        let weight = try batch.weight.to(.bfloat16)
        var losses: TokenLosses?
        let found = try Differentiated([batch.hidden.to(.bfloat16)]) { leaves in
            let result = try CrossEntropy.losses(
                hiddenStates: leaves[0], targets: batch.targets, weight: weight
            ) { slice throws(TorchError) in try slice.to(weight.dtype).linear(weight) }
            losses = result
            return try result.sum * 0.125
        }
        let expected = try Differentiated(inputs, isTrainable: [true, false]) {
            try batch.reference($0) * 0.125
        }
        let parts = try #require(losses).perTarget
        #expect(parts.shape == [101])
        #expect(!parts.requiresGrad)
        try expectClose(parts.sum() * 0.125, found.output)
        try expectClose(found.output, expected.output, Tolerance.bfloat16)
        let gradient = try #require(found.gradients[0])
        #expect(gradient.dtype == .bfloat16)
        try expectClose(gradient, #require(expected.gradients[0]), Tolerance.bfloat16)
    }

    @Test func frozenProductWithoutTargetsHasZeroGradients() throws {
        let weight = try Tensor.random([13, 6], seed: 2).to(.bfloat16)
        let found = try Differentiated([Tensor.random([5, 6], seed: 1).to(.bfloat16)]) { leaves in
            try CrossEntropy.losses(
                hiddenStates: leaves[0], targets: [-1, -1, -1, -1, -1], weight: weight
            ) { slice throws(TorchError) in try slice.to(weight.dtype).linear(weight) }.sum
        }
        #expect(try found.output.item() == 0)
        #expect(try found.gradients[0]?.floats() == Array(repeating: 0, count: 30))
    }

    @Test(arguments: [InstructionSet.portable, .best])
    func frozenProductRefusesTargetsAsEveryHeadDoes(instructionSet: InstructionSet) throws {
        let weight = try Tensor.random([13, 6], seed: 2).to(.bfloat16)
        let error = #expect(throws: TorchError.self) {
            _ = try CrossEntropy.losses(
                hiddenStates: Tensor.random([2, 6], seed: 1).to(.bfloat16), targets: [0, 13],
                weight: weight, instructionSet: instructionSet
            ) { slice throws(TorchError) in try slice.to(weight.dtype).linear(weight) }
        }
        #expect(error?.operation == "cross_entropy")
        #expect(error?.message == "Target 13 is out of bounds.")
    }

    @Test(
        .enabled(if: InstructionSet.avx2.isSupported, "the processor has no fused products"),
        arguments: HeadCase.instructionSets)
    func kernelIsPlannedAndTakesLessThanLogits(on instructionSet: InstructionSet) throws {
        func peakBytes(_ instructionSet: InstructionSet) throws -> Int {
            try DryRun.peak {
                let hidden = try Tensor.empty([256, 64], dtype: .bfloat16)
                let weight = try Tensor.empty([20_000, 64], dtype: .bfloat16)
                try hidden.setRequiresGrad(true)
                _ = try CrossEntropy.losses(
                    hiddenStates: hidden, targets: Array(repeating: 1, count: 256), weight: weight,
                    instructionSet: instructionSet
                ) { slice throws(TorchError) in try slice.linear(weight) }
            }.values.reduce(0, +)
        }
        let (planned, sliced) = (try peakBytes(instructionSet), try peakBytes(.portable))
        let weightBytes = 20_000 * 64 * 2
        #expect(sliced - weightBytes > CrossEntropy.sliceLength * 20_000 * 4)
        // The hidden states, their gradient, and the workspace of 256 targets on each thread.
        #expect(planned - weightBytes > 2 * 256 * 64 * 2)
        #expect(planned - weightBytes < sliced / 5)
    }

    @Test(.enabled(if: InstructionSet.best != .portable, "the processor has no fused products"))
    func kernelIsTraced() throws {
        let hidden = try Tensor.random([5, 6], seed: 1).to(.bfloat16)
        let weight = try Tensor.random([13, 6], seed: 2).to(.bfloat16)
        try hidden.fillInPlace(.infinity)
        var sawLosses = false
        let note = { (event: TraceEvent) in
            guard event.name == "cross_entropy" else { return }
            sawLosses = event.outputs.contains { (try? $0.tensor.allFinite()) == false }
        }
        try Trace.run(onEvent: note) {
            _ = try CrossEntropy.losses(
                hiddenStates: hidden, targets: [0, 1, 2, 3, 4], weight: weight
            ) { slice throws(TorchError) in try slice.linear(weight) }
        }
        #expect(sawLosses)
    }
}
