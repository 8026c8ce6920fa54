import Foundation
import PEFT
import PEFTTraining
import TestSupport
import Testing
import TrainingTestSupport

/// 4-bit folders are those of transformers with bitsandbytes, both ways.
@Suite struct QuantizeTests {
    private let workspace: Workspace

    init() throws {
        workspace = try Workspace()
    }

    private static func fixture(_ name: String) -> String {
        Checkout.fixture("export/\(name)").path
    }

    private func quantize(
        _ output: String, model: String = fixture("base"),
        _ change: (inout QuantizeOptions) -> Void = { _ in }
    ) throws -> QuantizeReport {
        var options = QuantizeOptions()
        options.model = model
        options.output = workspace.path(output)
        options.threads = 1
        change(&options)
        return try Quantize.run(options)
    }

    private func quantizationConfig(_ folder: String) throws -> JSONValue? {
        try JSONValue(
            parsing: String(contentsOfFile: folder + "/config.json", encoding: .utf8)
        ).objectValue?["quantization_config"]
    }

    // MARK: - Writing

    @Test(arguments: [FourBitCodebook.nf4, .fp4])
    func filesAreThoseOfTransformers(_ type: FourBitCodebook) throws {
        let report = try quantize("four") {
            $0.quantType = type
            $0.doubleQuant = type == .nf4
        }
        #expect(report.files == ["model.safetensors"])
        #expect(
            try RunFiles.bytes(workspace.path("four/model.safetensors"))
                == RunFiles.bytes(Self.fixture(type.rawValue) + "/model.safetensors"))
        let expected = try #require(try quantizationConfig(Self.fixture(type.rawValue)))
        #expect(try quantizationConfig(workspace.path("four")) == expected)
    }

    @Test func aQuantizedModelIsNotQuantizedAgain() throws {
        let error = #expect(throws: MergeError.self) {
            try quantize("four", model: Self.fixture("nf4"))
        }
        #expect(
            error?.description.hasPrefix(
                "\(Self.fixture("nf4")): the model is quantized already (nf4, block 64, double")
                == true)
        #expect(try RunFiles.names(in: workspace.url.path) == [])
    }

    // MARK: - Reading

    private func base(_ model: String, _ config: QuantizationConfig?) throws -> BaseModel {
        try BaseModel(
            at: URL(filePath: model),
            options: BaseModelOptions(quantization: config, computeDType: .bfloat16))
    }

    @Test(arguments: ["nf4", "fp4"])
    func codesAreReadAsTheyAre(_ type: String) throws {
        let config = QuantizationConfig(
            quantType: type == "nf4" ? .nf4 : .fp4, usesDoubleQuantization: type == "nf4")
        let quantized = try base(Self.fixture("base"), config)
        // Asked for another storage, or for none: the codes stay.
        for asked in [nil, QuantizationConfig(quantType: .fp4, blockSize: 32)] {
            let stored = try base(Self.fixture(type), asked)
            #expect(stored.options.quantization == config)
            #expect(stored.registry.linears.count == quantized.registry.linears.count)
            for (found, expected) in zip(stored.registry.linears, quantized.registry.linears) {
                #expect(found.path == expected.path)
                #expect(found.weight.storageDescription == expected.weight.storageDescription)
                #expect(
                    try found.weight.dequantized().isEqual(to: expected.weight.dequantized()),
                    "\(found.path)")
            }
        }
    }

    @Test func aFolderIsAsGoodAsQuantizingWhileReading() throws {
        let model = TinyModel.grouped
        _ = try quantize("four", model: model)
        #expect(try base(workspace.path("four"), nil).fingerprint == base(model, nil).fingerprint)
        var run = try TinyRun(model: model)
        run.config.quantize = .nf4
        try run.run()
        var same = run.writing(to: "same")
        same.config.model = workspace.path("four")
        same.config.quantize = .none
        try same.run()
        #expect(try same.adapter == run.adapter)
        #expect(try same.losses == run.losses)
        // And the adapter of one fits the other.
        var options = ScoreOptions()
        options.model = model
        options.adapter = "\(same.config.outputDir)"
        options.data = run.config.data
        options.threads = 1
        let onBase = try Score.run(options)
        options.model = workspace.path("four")
        #expect(try Score.run(options) == onBase)
    }

    // MARK: - Damage

    private func damaged(_ change: (inout [String: SafetensorsTensor]) throws -> Void) throws
        -> String
    {
        _ = try quantize("four")
        let url = URL(filePath: workspace.path("four/model.safetensors"))
        let file = try SafetensorsFile(url)
        var tensors: [String: SafetensorsTensor] = [:]
        for entry in file.entries {
            tensors[entry.name] = SafetensorsTensor(
                name: entry.name, try file.tensor(entry).clone())
        }
        try change(&tensors)
        try FileManager.default.removeItem(at: url)
        try SafetensorsWriter.write(Array(tensors.values), to: url)
        return workspace.path("four")
    }

    @Test func numbersThatWereNotWrittenHereAreNoticed() throws {
        let name = "model.layers.1.mlp.up_proj.weight"
        let model = try damaged { tensors in
            let codes = [UInt8](repeating: 0x37, count: 44 * 32 / 2)
            tensors[name] = SafetensorsTensor(
                name: name, dtype: .uint8, shape: [codes.count, 1], bytes: codes)
        }
        let error = #expect(throws: CheckpointError.self) { try base(model, nil) }
        #expect(error?.description.contains("are not those that peft quantize wrote") == true)
    }

    @Test func partsMustBeThere() throws {
        let name = "model.layers.0.self_attn.k_proj.weight"
        let model = try damaged { tensors in
            tensors[name + ".absmax"] = nil
            tensors[name + ".nested_absmax"] = SafetensorsTensor(
                name: name + ".nested_absmax", dtype: .float32, shape: [2],
                bytes: [UInt8](repeating: 0, count: 8))
        }
        let error = #expect(throws: CheckpointError.self) { try base(model, nil) }
        #expect(
            error
                == .tensors(
                    path: model,
                    problems: [
                        .missing(name: name + ".absmax", expected: [8]),
                        .shape(name: name + ".nested_absmax", expected: [1], found: [2]),
                    ]))
    }

    @Test func configurationAndWeightsMustAgree() throws {
        _ = try quantize("four")
        let config = workspace.path("four/config.json")
        try FileManager.default.removeItem(atPath: config)
        try FileManager.default.copyItem(
            atPath: Self.fixture("base") + "/config.json", toPath: config)
        let error = #expect(throws: CheckpointError.self) {
            try base(workspace.path("four"), nil)
        }
        #expect(
            error?.description.contains("there are weights in 4 bits, which it does not say")
                == true)
    }
}
