import Foundation
import PEFT
import PEFTSharding
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Losses of preferences on logits that are given, compared with TRL's trainers.
@Suite struct PreferenceTests {
    /// A call of TRL's loss.
    struct Golden: Decodable, Sendable, CustomTestStringConvertible {
        struct Row: Decodable, Sendable {
            let tokens: [Int32]
            let prompt: Int
            let label: Bool?
        }

        let lossType: LossType
        let beta: Double
        let desirableWeight: Double
        let undesirableWeight: Double
        let rows: [Row]
        let loss: Double
        let rewards: [Double?]

        var testDescription: String { lossType.rawValue }

        static let all: [Golden] = {
            do {
                let decoder = JSONDecoder()
                decoder.keyDecodingStrategy = .convertFromSnakeCase
                return try decoder.decode(
                    [Golden].self,
                    from: Data(contentsOf: Checkout.fixture("preferences/cases.json")))
            } catch {
                preconditionFailure("the fixture preferences/cases.json does not read: \(error)")
            }
        }()

        var config: FineTuneConfig {
            var config = FineTuneConfig(model: "m", data: "d", outputDir: "o")
            config.lossType = lossType
            config.beta = beta
            config.desirableWeight = desirableWeight
            config.undesirableWeight = undesirableWeight
            return config
        }

        var batch: TokenBatch {
            TokenBatch(
                rows.enumerated().map { index, row in
                    TokenSequence(
                        tokens: row.tokens,
                        isTarget: row.tokens.indices.map { $0 >= row.prompt }, row: index,
                        isDesirable: row.label)
                })
        }

        var share: BatchSchedule.Share {
            BatchSchedule.Share(
                microBatches: [batch], firstIndex: 0, numTargetTokens: batch.numTargetTokens,
                numTokens: batch.tokens.count, rowLengths: batch.segmentLengths)
        }

        /// The logits of a kind, row after row, `[tokens, vocabulary]`.
        func tensor(_ name: String) throws -> Tensor {
            let file = try SafetensorsFile(
                Checkout.fixture("preferences/\(lossType.rawValue).safetensors"))
            return try .concatenated(
                try rows.indices.map { index in
                    try file.tensor(#require(file.entry("\(name).\(index)"))).clone()
                })
        }
    }

    @Test(arguments: Golden.all)
    func lossAndGradientsAreThoseOfTRL(golden: Golden) throws {
        let policy = try golden.tensor("policy")
        try policy.setRequiresGrad(true)
        // In the order in which they are asked for; each once.
        var answers = [policy]
        if golden.lossType.hasReference { answers.insert(try golden.tensor("reference"), at: 0) }
        if golden.lossType == .kto {
            answers.insert(try golden.tensor("kl_policy"), at: 1)
            answers.insert(try golden.tensor("kl_reference"), at: 2)
        }
        var uses: [Bool] = []
        let forward = ForwardPass(
            losses: { batch, usesAdapters throws(TorchError) in
                uses.append(usesAdapters)
                return try CrossEntropy.losses(
                    hiddenStates: answers.removeFirst(), targets: batch.targets
                ) { slice throws(TorchError) in slice }
            }, ranks: RankGroup())
        let value = try golden.config.objective(golden.batch, of: golden.share, forward)
        #expect(answers.isEmpty)
        #expect(uses.last == true)
        let loss = try #require(value.loss)
        #expect(abs(loss - golden.loss) <= Double(Tolerance.float32) * abs(golden.loss) * 10)
        let gradient = try #require(value.gradient)
        try value.output.backward(gradient: gradient)
        let found = try #require(policy.grad).floats()
        let expected = try golden.tensor("gradient").floats()
        #expect(Tolerance.relativeError(found, expected) <= Tolerance.gradient)
        #expect(expected.contains { $0 != 0 })
        let means = try #require(value.rewards).means
        for (found, expected) in zip(
            [means.chosen, means.rejected, means.accuracy], golden.rewards)
        {
            #expect((found == nil) == (expected == nil))
            #expect(abs((found ?? 0) - (expected ?? 0)) <= 1e-5)
        }
    }

    /// The micro-batches of a step add up to what one micro-batch of all rows gives.
    @Test(arguments: Golden.all.filter { $0.lossType != .kto })
    func microBatchesAddUp(golden: Golden) throws {
        func value(_ rows: Range<Int>) throws -> Double {
            let starts = golden.batch.segmentLengths.reduce(into: [0]) {
                $0.append($0[$0.count - 1] + $1)
            }
            let tokens = starts[rows.lowerBound]..<starts[rows.upperBound]
            let batch = TokenBatch(
                rows.map { index in
                    TokenSequence(
                        tokens: golden.rows[index].tokens,
                        isTarget: golden.rows[index].tokens.indices.map {
                            $0 >= golden.rows[index].prompt
                        }, row: index)
                })
            let forward = ForwardPass(
                losses: { batch, usesAdapters throws(TorchError) in
                    let name = usesAdapters ? "policy" : "reference"
                    let logits: Tensor
                    do { logits = try golden.tensor(name) } catch {
                        throw TorchError(operation: "fixture", message: "\(error)")
                    }
                    return try CrossEntropy.losses(
                        hiddenStates: logits.narrow(0, tokens.lowerBound, tokens.count),
                        targets: batch.targets
                    ) { slice throws(TorchError) in slice }
                }, ranks: RankGroup())
            return try #require(
                try golden.config.objective(batch, of: golden.share, forward).loss)
        }
        let whole = try value(0..<6)
        let parts = try value(0..<2) + value(2..<6)
        #expect(abs(whole - parts) <= 1e-6 * abs(whole))
    }

    // MARK: - Runs

    /// Pairs of token rows are no rows of TRL, so a run needs a model with a tokenizer.
    private func makeRun(
        _ lossType: LossType, steps: Int = 12, prompt: String = "colour"
    ) throws -> TinyRun {
        var run = try TinyRun(steps: steps)
        run.config.model = try TinyModel.write(to: run.workspace.url.appending(path: "model"))
        let words = ["red", "green", "blue", "black", "white", "grey"]
        let rows = (0..<12).map { row -> String in
            let (good, bad) = (words[row % 3], words[3 + row % 3])
            if lossType == .kto {
                let isGood = row.isMultiple(of: 2)
                return
                    #"{"prompt": "\#(prompt) \#(row % 4):", "completion": " \#(isGood ? good : bad)", "label": \#(isGood)}"#
            }
            return
                #"{"prompt": "\#(prompt) \#(row % 4):", "chosen": " \#(good)", "rejected": " \#(bad)"}"#
        }
        run.config.data = try run.workspace.write(rows.joined(separator: "\n"), as: "pairs.jsonl")
        run.config.evalData = run.config.data
        run.config.evalOnStart = true
        run.config.lossType = lossType
        run.config.learningRate = 2e-2
        run.config.perDeviceTrainBatchSize = 4
        return run
    }

    @Test(arguments: LossType.allCases.filter { $0 != .nll })
    func aRunLearnsToPrefer(lossType: LossType) throws {
        let run = try makeRun(lossType)
        try run.run()
        let metrics = try RunFiles.metrics(in: run.config.outputDir)
        let evaluations = metrics.filter { $0["eval_loss"] != nil }
        let (first, last) = (try #require(evaluations.first), try #require(evaluations.last))
        #expect(
            try #require(last["eval_loss"]?.doubleValue) < #require(first["eval_loss"]?.doubleValue)
        )
        #expect(last["eval_perplexity"] == nil)
        let margin = try #require(last["eval_rewards/margins"]?.doubleValue)
        let before = try #require(first["eval_rewards/margins"]?.doubleValue)
        #expect(margin > before)
        if lossType != .kto {
            #expect(last["eval_rewards/accuracies"]?.doubleValue == 1)
        }
        if lossType.hasReference {
            // The adapter is the base at first, so nothing is preferred.
            #expect(before == 0)
        }
        if lossType == .sigmoid {
            let loss = try #require(first["eval_loss"]?.doubleValue)
            #expect(abs(loss - M_LN2) < 1e-6)
        }
        #expect(metrics.contains { $0["rewards/margins"] != nil })
    }

    /// Both rows of a pair begin with the prompt, and all prompts alike.
    @Test(arguments: LossType.allCases.filter { $0 != .nll })
    func sharedPromptsChangeNothing(lossType: LossType) throws {
        let prompt = "of these many things on the table, name the colour of number"
        var run = try makeRun(lossType, steps: 3, prompt: prompt).writing(to: "each")
        run.config.dtype = .float32
        run.config.learningRate = 1e-3
        try run.run()
        let shared = run.writing(to: "shared") { $0.sharePrefixes = true }
        try shared.run()
        let expected = try RunFiles.metrics(in: run.config.outputDir)
        let found = try RunFiles.metrics(in: shared.config.outputDir)
        #expect(found.count == expected.count)
        for (found, expected) in zip(found, expected) {
            for key in ["loss", "grad_norm", "rewards/margins"] {
                guard let value = expected[key]?.doubleValue else { continue }
                let difference = abs(try #require(found[key]?.doubleValue) - value)
                #expect(difference <= Tolerance.trainedAdapter * max(1e-2, abs(value)), "\(key)")
            }
        }
        // Sums are taken in another order: the option was followed.
        #expect(try shared.adapterBytes != run.adapterBytes)
    }

    @Test(arguments: LossType.allCases.filter { $0 != .nll })
    func aReferenceIsTheWholeBase(lossType: LossType) throws {
        var run = try makeRun(lossType, steps: 1)
        run.config.initLoraWeights = .pissa
        run.config.loraR = 2
        guard lossType.hasReference else {
            try run.run()
            return
        }
        let error = #expect(throws: TrainingError.self) { try run.run() }
        #expect(
            error == .baseIsDivided(start: "init_lora_weights pissa", lossType: lossType.rawValue))
    }

    @Test func aStoppedRunGoesOnBitExactly() throws {
        let whole = try makeRun(.sigmoid, steps: 6).writing(to: "whole")
        try whole.run()
        let stopped = whole.writing(to: "stopped")
        try stopped.run(stopAfter: 2)
        let resumed = stopped.writing(to: "stopped") { $0.resume = true }
        try resumed.run()
        #expect(try resumed.adapterBytes == whole.adapterBytes)
    }

    @Test func accumulationChangesNothing() throws {
        let whole = try makeRun(.ipo, steps: 3).writing(to: "whole")
        try whole.run()
        let divided = whole.writing(to: "divided") {
            $0.perDeviceTrainBatchSize = 2
            $0.gradientAccumulationSteps = 2
            $0.gradientCheckpointing = true
        }
        try divided.run()
        for (first, second) in zip(try whole.losses, try divided.losses) {
            #expect(abs(first - second) <= Tolerance.trainingLoss * abs(first))
        }
    }

    @Test func rowsOfAnotherKindAreRefused() throws {
        let run = try makeRun(.sigmoid)
        try run.workspace.write(#"{"prompt": "a", "completion": "b"}"#, as: "pairs.jsonl")
        let error = #expect(throws: DatasetError.self) { try run.run() }
        #expect(
            error?.description.hasSuffix(
                "pairs.jsonl:1: the column \"chosen\" is missing; this loss_type learns from rows of "
                    + "prompt, chosen and rejected") == true)
    }
}
