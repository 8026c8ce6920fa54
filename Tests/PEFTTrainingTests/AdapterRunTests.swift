import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// Adapters from configuration to folder and back.
@Suite struct AdapterRunTests {
    /// A choice of targets and what it adapts in the model `tied`.
    struct Choice: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let change: @Sendable (inout FineTuneConfig) -> Void
        /// Layer paths below `model.layers.` with rank.
        let expected: [String: Int]

        static let linears = [
            "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
            "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
        ]

        static func ranks(_ names: [String], _ layers: [Int] = [0, 1]) -> [String: Int] {
            let paths = layers.flatMap { layer in names.map { "\(layer).\($0)" } }
            return Dictionary(uniqueKeysWithValues: paths.map { ($0, 4) })
        }

        static let all = [
            Choice(testDescription: "all-linear", change: { _ in }, expected: ranks(linears)),
            Choice(
                testDescription: "list",
                change: { $0.targetModules = .names(["q_proj", "down_proj"]) },
                expected: ranks(["self_attn.q_proj", "mlp.down_proj"])),
            Choice(
                testDescription: "regex",
                change: { $0.targetModules = .pattern(#".*\.1\.mlp\.(up|gate)_proj"#) },
                expected: ranks(["mlp.up_proj", "mlp.gate_proj"], [1])),
            Choice(
                testDescription: "exclude",
                change: { $0.excludeModules = .names(["q_proj", "k_proj", "v_proj", "o_proj"]) },
                expected: ranks(Array(linears[4...]))),
            Choice(
                testDescription: "layers",
                change: {
                    $0.targetModules = .names(["o_proj"])
                    $0.layersToTransform = [1]
                }, expected: ranks(["self_attn.o_proj"], [1])),
            Choice(
                testDescription: "rank pattern",
                change: {
                    $0.targetModules = .names(["q_proj", "v_proj"])
                    $0.rankPattern = ["v_proj": 2, "layers.1.self_attn.q_proj": 6]
                },
                expected: [
                    "0.self_attn.q_proj": 4, "0.self_attn.v_proj": 2, "1.self_attn.q_proj": 6,
                    "1.self_attn.v_proj": 2,
                ]),
            Choice(
                testDescription: "alpha pattern and rsLoRA",
                change: {
                    $0.targetModules = .names(["q_proj", "v_proj"])
                    $0.alphaPattern = ["v_proj": 32]
                    $0.useRslora = true
                }, expected: ranks(["self_attn.q_proj", "self_attn.v_proj"])),
        ]
    }

    @Test(arguments: Choice.all)
    func folderHoldsWhatTheConfigAsksForAndScoresTheSame(choice: Choice) throws {
        var run = try TinyRun(steps: 3)
        choice.change(&run.config)
        run.config.evalData = run.config.data
        let events = try run.run()
        #expect(
            try RunFiles.names(in: run.config.outputDir) == [
                "README.md", "adapter_config.json", "adapter_model.safetensors", "checkpoint-3",
                "metrics.jsonl",
            ])
        let file = try SafetensorsFile(
            URL(filePath: run.config.outputDir + "/adapter_model.safetensors"))
        let found = file.entries.filter { $0.name.hasSuffix("lora_A.weight") }.map { entry in
            let path = entry.name.dropFirst("base_model.model.model.layers.".count)
            return (String(path.dropLast(".lora_A.weight".count)), entry.shape[0])
        }
        #expect(Dictionary(uniqueKeysWithValues: found) == choice.expected)
        #expect(file.entries.count == 2 * choice.expected.count)
        // What was in memory at the end and what is read from the folder give the same losses.
        guard case .finished(let summary) = events.last else {
            Issue.record("the run did not finish")
            return
        }
        #expect(try score(run, adapter: run.config.outputDir).loss == summary.lastEvalLoss)
        #expect(try score(run, adapter: nil).loss != summary.lastEvalLoss)
    }

    private func score(_ run: TinyRun, adapter: String?) throws -> ScoreReport {
        var options = ScoreOptions()
        options.model = run.config.model
        options.adapter = AdapterFolders([adapter].compactMap(\.self))
        options.quantize = .none
        options.dtype = .float32
        options.data = run.config.data
        return try Score.run(options)
    }

    @Test func alphaPatternAndRsLoRAScaleTheUpdate() throws {
        // The second loss shows the first update, whose size follows the scaling.
        func losses(_ name: String, _ change: (inout FineTuneConfig) -> Void) throws -> [Double] {
            let run = try TinyRun(steps: 2).writing(to: name, change)
            try run.run()
            return try run.losses
        }
        let plain = try losses("plain") { _ in }
        let doubled = try losses("doubled") { $0.loraAlpha = 16 }
        let stabilized = try losses("stabilized") { $0.useRslora = true }
        let patterned = try losses("patterned") {
            $0.alphaPattern = Dictionary(
                uniqueKeysWithValues: Choice.linears.map {
                    (String($0.split(separator: ".")[1]), 16.0)
                })
        }
        #expect(plain[0] == doubled[0])
        #expect(plain[1] != doubled[1])
        #expect(doubled[1] == stabilized[1], "rank 4: alpha / sqrt(r) is twice alpha / r")
        #expect(doubled[1] == patterned[1])
    }

    @Test func twoRunsWriteTheSameBytes() throws {
        let first = try TinyRun(steps: 3)
        let second = first.writing(to: "second")
        try first.run()
        try second.run()
        for name in ["adapter_model.safetensors", "adapter_config.json", "README.md"] {
            #expect(
                try RunFiles.bytes("\(first.config.outputDir)/\(name)")
                    == RunFiles.bytes("\(second.config.outputDir)/\(name)"), "\(name)")
        }
    }

    @Test func trainingStartsFromAnAdapter() throws {
        let rows = TinyRows.make(8)
        let first = try TinyRun(rows: rows, steps: 5).writing(to: "first") {
            $0.perDeviceTrainBatchSize = 8
            $0.shuffle = false
        }
        try first.run()
        let second = first.writing(to: "second") { $0.adapter = first.config.outputDir }
        try second.run()
        let expected = try score(first, adapter: first.config.outputDir).loss
        let loss = try #require(try second.losses.first)
        #expect(abs(loss - expected) <= Tolerance.trainingLoss * expected)
        #expect(try second.adapter != first.adapter)
        let configs = try [first, second].map {
            try RunFiles.bytes($0.config.outputDir + "/adapter_config.json")
        }
        #expect(configs[0] == configs[1])
    }

    @Test func adapterOfAnotherModelIsRefusedWithEveryTensor() throws {
        let other = try TinyRun(model: TinyModel.grouped, steps: 1)
        try other.run()
        let run = try TinyRun().writing(to: "out") {
            $0.adapter = other.config.outputDir
            $0.ignoreBaseFingerprint = true
        }
        let error = #expect(throws: CheckpointError.self) { try run.run() }
        guard case .tensors(_, let problems) = error else {
            Issue.record("found \(String(describing: error))")
            return
        }
        #expect(problems.count == 28)
        #expect(
            problems.contains(
                .shape(
                    name: "base_model.model.model.layers.1.mlp.down_proj.lora_A.weight",
                    expected: [4, 40], found: [4, 37])))
    }

    @Test func targetThatMatchesNothingIsRefusedWithTheNearestName() throws {
        let run = try TinyRun().writing(to: "out") {
            $0.targetModules = .names(["q_prj", "v_proj"])
        }
        let error = #expect(throws: AdapterError.self) { try run.run() }
        #expect(
            error?.description == """
                The adapter configuration does not fit the model:
                - target_modules "q_prj": matches no linear layer; the nearest name is "q_proj"
                Correct or remove each: it would be without effect, silently.
                """)
    }
}
