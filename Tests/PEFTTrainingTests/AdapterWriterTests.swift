import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// What is done about an adapter after training: it is read back, and must have learned something.
@Suite struct AdapterWriterTests {
    private let workspace: Workspace
    private let folder: URL
    private let writer: AdapterWriter

    init() throws {
        workspace = try Workspace()
        folder = workspace.url.appending(path: "out")
        let base = try BaseModel(
            at: URL(filePath: TinyModel.tied),
            options: BaseModelOptions(quantization: nil, computeDType: .float32))
        var config = LoRAConfig()
        config.r = 2
        config.targetModules = .names(["q_proj", "v_proj"])
        writer = AdapterWriter(adapted: try AdaptedModel(base, adapter: config, seed: 1))
    }

    private static let prefix = "base_model.model.model.layers."
    private static let name = prefix + "1.self_attn.v_proj.lora_B.weight"

    private func expectDifference(
        _ difference: String, sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let error = #expect(throws: Diagnosis.self, sourceLocation: sourceLocation) {
            try writer.verify(folder)
        }
        #expect(
            error?.description == """
                PEFT-A006: \(folder.path): what was written is not what is in memory: \(difference); \
                check the disk and the memory of this machine, and that nothing else writes to this \
                folder; then continue from the checkpoint before with --resume
                """, sourceLocation: sourceLocation)
    }

    /// Writes the file of tensors again with some of them changed or left out.
    private func rewrite(
        metadata: [String: String]? = nil,
        _ change: (String, Tensor) throws -> Tensor? = { $1 }
    ) throws {
        let url = folder.appending(path: "adapter_model.safetensors")
        let file = try SafetensorsFile(url)
        let tensors = try file.entries.compactMap { entry in
            try change(entry.name, try file.tensor(entry).clone())
                .map { SafetensorsTensor(name: entry.name, $0) }
        }
        try SafetensorsWriter.write(tensors, metadata: metadata ?? file.metadata, to: url)
    }

    @Test func whatIsWrittenIsWhatIsInMemory() throws {
        try writer.write(to: folder)
        try writer.verify(folder)
        try rewrite()
        try writer.verify(folder)
    }

    @Test func aTensorThatDiffersInOneBitIsNamed() throws {
        try writer.write(to: folder)
        try rewrite { name, tensor in
            // Minus zero equals zero, but it is not what was written.
            if name == Self.name { try tensor.narrow(0, 0, 1).fillInPlace(-0.0) }
            return tensor
        }
        expectDifference(Self.name)
    }

    @Test func aTensorThatChangesInMemoryIsNamed() throws {
        try writer.write(to: folder)
        let parameter = try #require(writer.adapted.trainableParameters.last)
        try withoutGrad { try parameter.value.fillInPlace(1) }
        expectDifference(Self.name)
    }

    @Test func aTensorOfAnotherElementTypeIsNamed() throws {
        try writer.write(to: folder)
        try rewrite { name, tensor in
            name == Self.name ? try tensor.to(.bfloat16) : tensor
        }
        expectDifference(Self.name)
    }

    @Test func missingAndEmptyTensorsAreNamed() throws {
        try writer.write(to: folder)
        let empty = Self.prefix + "0.self_attn.q_proj.lora_A.weight"
        try rewrite { name, tensor in
            if name == empty { return try Tensor.zeros([0]) }
            return name == Self.name ? nil : tensor
        }
        expectDifference(
            "\(Self.name): missing (expected [24, 2]), \(empty): expected [2, 24], file has [0]")
    }

    @Test func manyDifferencesAreListedInPart() throws {
        try writer.write(to: folder)
        try rewrite { try $1 + 1.0 }
        let names = ["q_proj.lora_A", "q_proj.lora_B", "v_proj.lora_A", "v_proj.lora_B"]
            .map { "\(Self.prefix)0.self_attn.\($0).weight" }
        expectDifference(names.joined(separator: ", ") + " and 4 more")
    }

    @Test func anotherConfigurationIsFound() throws {
        try writer.write(to: folder)
        let url = folder.appending(path: "adapter_config.json")
        let text = try String(contentsOf: url, encoding: .utf8)
        try Data(text.replacing("\"lora_alpha\": 8", with: "\"lora_alpha\": 9").utf8).write(to: url)
        try rewrite { name, tensor in name == Self.name ? try tensor + 1.0 : tensor }
        expectDifference("the configuration, " + Self.name)
    }

    @Test func anotherBaseIsFound() throws {
        try writer.write(to: folder)
        try rewrite(metadata: ["format": "pt"])
        expectDifference("the base's fingerprint")
    }

    @Test func aFolderThatDoesNotReadBackIsFound() throws {
        try writer.write(to: folder)
        let url = folder.appending(path: "adapter_model.safetensors")
        try Data(try Data(contentsOf: url).prefix(7)).write(to: url)
        expectDifference(
            "it does not read back: \(url.path): truncated: expected 8 bytes, found 7; copy or "
                + "download the file again")
    }

    // MARK: - An adapter that learned nothing

    @Test func anAdapterThatStillDoesNothingIsRefused() throws {
        // The only step is the first one of the warm-up, whose learning rate is zero.
        let run = try TinyRun(steps: 1).writing(to: "out") {
            $0.lrSchedulerType = .linear
            $0.warmupSteps = 5
        }
        let error = #expect(throws: Diagnosis.self) { try run.run() }
        #expect(
            error?.description == """
                PEFT-A005: \(run.config.outputDir): after 1 step the adapter still changes nothing, \
                every B is zero: the learning rate was 0 in every step, as it is in the first one of \
                a warm-up, or too small for float32, or no gradient came; lower warmup_steps or raise \
                max_steps and learning_rate; the folder and its checkpoints are kept
                """)
        #expect(
            try RunFiles.names(in: run.config.outputDir) == [
                "README.md", "adapter_config.json", "adapter_model.safetensors", "checkpoint-1",
                "metrics.jsonl",
            ])
        let resumed = run.writing(to: "out") {
            $0.resume = true
            $0.maxSteps = 3
        }
        try resumed.run()
    }

    @Test func aLearningRateThatFloat32DoesNotHoldIsFound() throws {
        let run = try TinyRun(steps: 2).writing(to: "out") { $0.learningRate = 1e-60 }
        let error = #expect(throws: Diagnosis.self) { try run.run() }
        #expect(error?.code == .adapterIsZero)
        #expect(error?.reason.hasPrefix("after 2 steps the adapter") == true)
    }

    @Test func anAdapterIsNotExpectedToLearnInNoStep() throws {
        let sharded = try ShardedModel(writer.adapted)
        try sharded.requireChange(in: folder, numSteps: 0)
        #expect(throws: Diagnosis.self) { try sharded.requireChange(in: folder, numSteps: 1) }
        let parameter = try #require(writer.adapted.trainableParameters.last)
        try withoutGrad { try parameter.value.fillInPlace(1) }
        try sharded.requireChange(in: folder, numSteps: 1)
    }
}
