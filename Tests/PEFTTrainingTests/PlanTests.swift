import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

@Suite struct PlanTests {
    /// A run of the grouped model, of whose files only `config.json` is there.
    private func options(_ change: (inout PlanOptions) -> Void = { _ in }) throws -> PlanOptions {
        var options = PlanOptions()
        options.config = FineTuneConfig(
            model: TinyModel.grouped + "/config.json", data: "/no/such/rows.jsonl",
            outputDir: "/no/such/out")
        options.config.maxLength = 256
        options.config.loraR = 4
        options.config.quantBlockSize = 32
        change(&options)
        return options
    }

    private func plan(_ change: (inout PlanOptions) -> Void = { _ in }) throws -> RunPlan {
        try Plan.run(options(change)).plan
    }

    private func bytes(_ part: String, _ plan: RunPlan) -> Int {
        plan.parts.first { $0.name == part }?.sizeBytes ?? 0
    }

    @Test func withoutRowsTheyAreAsLongAsTheyMayBe() throws {
        let report = try Plan.run(options())
        #expect(report.plan.numTokens == 8 * 256)
        #expect(report.assumptions.count == 1)
        #expect(report.assumptions[0].hasPrefix("/no/such/rows.jsonl is not there"))
        #expect(report.plan.sentBytesPerStep == 0)
        #expect(report.fits == nil)
    }

    @Test func rowsThatAreThereDecideTheLargestMicroBatch() throws {
        let workspace = try Workspace()
        let rows = [4, 9, 3, 7].map { Array(repeating: 1, count: $0) }
        let path = try workspace.write(rows: rows)
        let plan = try plan {
            $0.config.data = path
            $0.config.perDeviceTrainBatchSize = 2
            $0.config.shuffle = false
        }
        #expect(plan.numTokens == 13)
    }

    /// A dry run takes what a real model of the same files takes.
    @Test func adapterAndOptimizerAreThoseOfTheModel() throws {
        let base = try BaseModel(
            at: URL(filePath: TinyModel.grouped),
            options: BaseModelOptions(
                quantization: QuantizationConfig(blockSize: 32), computeDType: .bfloat16))
        let baseBytes = base.registry.sizeBytes
        var lora = LoRAConfig()
        lora.r = 4
        lora.targetModules = .allLinear
        let adapted = try AdaptedModel(base, adapter: lora, seed: 1)
        let adapter = adapted.trainableParameters.reduce(0) {
            $0 + ($1.value.sizeBytes + 63) / 64 * 64
        }
        let plan = try plan()
        #expect(bytes("adapter", plan) == adapter)
        #expect(bytes("optimizer", plan) == 2 * adapter)
        // The codebook of each weight and the rounding to 64 bytes come on top.
        #expect((baseBytes..<2 * baseBytes + 64 * 1024).contains(bytes("base", plan)))
    }

    @Test func recomputingEverySecondBlockLiesBetween() throws {
        let workspace = try Workspace()
        let two = try String(contentsOfFile: TinyModel.grouped + "/config.json", encoding: .utf8)
        let six = two.replacing("\"num_hidden_layers\": 2", with: "\"num_hidden_layers\": 6")
        let model = try workspace.write(six, as: "config.json")
        func activations(_ interval: Int?) throws -> Int {
            try bytes(
                "activations_and_gradients",
                plan {
                    $0.config.model = model
                    $0.config.gradientCheckpointing = interval != nil
                    $0.config.gradientCheckpointingInterval = interval ?? 1
                })
        }
        #expect(try activations(1) < activations(2))
        #expect(try activations(2) < activations(nil))
    }

    @Test func eachOptionChangesItsPart() throws {
        let plain = try plan()
        let recomputed = try plan { $0.config.gradientCheckpointing = true }
        let activations = "activations_and_gradients"
        #expect(bytes(activations, recomputed) < bytes(activations, plain))
        #expect(bytes("base", recomputed) == bytes("base", plain))
        let halved = try plan { $0.config.perDeviceTrainBatchSize = 4 }
        // What kernels work in does not halve with the tokens of so small a model.
        #expect(bytes(activations, halved) < bytes(activations, plain) * 7 / 10)
        let dense = try plan { $0.config.quantize = .none }
        #expect(bytes("base", dense) > bytes("base", plain))
        let offloaded = try plan { $0.config.offload = .base }
        #expect(bytes("base", offloaded) < bytes("base", plain) / 2)
        #expect(bytes("gathered_units", offloaded) > 0)
        #expect(bytes("gathered_units", plain) == 0)
        // What an update takes for the moment is not the moments'.
        let moments = try plan { $0.config.offload = .optimizer }
        #expect(bytes("optimizer", moments) < bytes("optimizer", plain) / 4)
        #expect(bytes("base", moments) == bytes("base", plain))
    }

    @Test func processesDivideWhatTheStrategySays() throws {
        let one = try plan()
        let full = try plan { $0.world = 4 }
        #expect(bytes("base", full) < bytes("base", one) * 2 / 3)
        #expect(bytes("optimizer", full) < bytes("optimizer", one) / 2)
        #expect(full.sentBytesPerStep > 0)
        let gradOp = try plan {
            $0.world = 4
            $0.config.sharding = .gradOp
        }
        #expect(bytes("base", gradOp) == bytes("base", one))
        #expect(bytes("optimizer", gradOp) == bytes("optimizer", full))
        #expect(gradOp.sentBytesPerStep < full.sentBytesPerStep)
        let whole = try plan {
            $0.world = 4
            $0.config.sharding = .none
        }
        #expect(bytes("optimizer", whole) == bytes("optimizer", one))
        // Three quarters of a gradient each way, of float64.
        let adapter = bytes("adapter", one)
        #expect((adapter * 2..<adapter * 4).contains(whole.sentBytesPerStep))
        let uneven = try options {
            $0.world = 4
            $0.config.sharding = .hybrid(ranksPerGroup: 3)
        }
        #expect(throws: TrainingError.self) { _ = try Plan.run(uneven) }
    }

    // MARK: - Proposals

    /// Tokens of rows beside which it does not count that this process grows between two plans.
    private static let longRows = 16_384

    @Test func whatDoesNotFitIsMadeSmaller() throws {
        func peak(rows: Int, recomputes: Bool) throws -> Int {
            try plan {
                $0.config.maxLength = Self.longRows
                $0.config.perDeviceTrainBatchSize = rows
                $0.config.gradientCheckpointing = recomputes
            }.peakMemoryBytes
        }
        func proposals(within limit: Int) throws -> [PlanProposal] {
            let report = try Plan.run(
                options {
                    $0.config.maxLength = Self.longRows
                    $0.memory = ByteCount(limit)
                })
            #expect(report.fits == false)
            for proposal in report.proposals {
                #expect(proposal.plan.peakMemoryBytes <= limit, "\(proposal.changes)")
            }
            return report.proposals
        }
        // Fewer rows at a time do, and cost the least.
        let (whole, halved) = try (
            peak(rows: 8, recomputes: false), peak(rows: 4, recomputes: false)
        )
        let half = try proposals(within: (whole + halved) / 2)
        #expect(
            half.first?.changes == [
                "--per-device-train-batch-size 4", "--gradient-accumulation-steps 2",
            ])
        // One row at a time does not: blocks are computed again.
        let single = try (peak(rows: 1, recomputes: false), peak(rows: 1, recomputes: true))
        let both = try proposals(within: (single.0 + single.1) / 2)
        #expect(both.first?.changes.contains("--gradient-checkpointing") == true)
        #expect(try proposals(within: 1).isEmpty)
    }

    @Test func whatFitsIsMadeFaster() throws {
        let report = try Plan.run(
            options {
                $0.memory = ByteCount(64_000_000_000)
                $0.config.gradientCheckpointing = true
                $0.config.gradientAccumulationSteps = 4
            })
        #expect(report.fits == true)
        #expect(
            report.proposals.map(\.changes) == [
                [
                    "--per-device-train-batch-size 32", "--gradient-accumulation-steps 1",
                    "--no-gradient-checkpointing",
                ]
            ])
    }

    @Test func bandwidthGivesSeconds() throws {
        let report = try Plan.run(
            options {
                $0.world = 2
                $0.bandwidth = ByteCount(1000)
            })
        #expect(report.trafficSeconds == Double(report.plan.sentBytesPerStep) / 1000)
    }

    @Test(
        arguments: [
            ("24GB", 24_000_000_000), ("1.5 GiB", 1_610_612_736), ("800 mb", 800_000_000),
            ("12", 12), ("7B", 7), ("GB", nil), ("-1GB", nil), ("1 XB", nil), ("1e30TB", nil),
        ] as [(String, Int?)])
    func byteCountsAreRead(text: String, expected: Int?) {
        #expect(ByteCount(text)?.bytes == expected)
    }
}
