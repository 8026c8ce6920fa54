import Foundation
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import TestSupport
import Testing
import Torch

/// Files of families that hold something else than the model's own tensors.
@Suite struct FileConventionsTests {
    /// Copies a fixture's model with other names and more tensors.
    private func copy(
        _ name: String, to folder: URL, adding: [String: [Int]] = [:],
        rename: (String) -> String = { $0 }
    ) throws {
        let source = Checkout.fixture("models/\(name)")
        try FileManager.default.copyItem(
            at: source.appending(path: "config.json"), to: folder.appending(path: "config.json"))
        let file = try SafetensorsFile(source.appending(path: "model.safetensors"))
        var tensors = try file.entries.map { entry in
            SafetensorsTensor(name: rename(entry.name), try file.tensor(entry).clone())
        }
        for (name, shape) in adding.sorted(by: { $0.key < $1.key }) {
            tensors.append(SafetensorsTensor(name: name, try .ones(shape)))
        }
        try SafetensorsWriter.write(tensors, to: folder.appending(path: "model.safetensors"))
    }

    private func expectReadable(_ folder: URL, as name: String) throws {
        let files = try BaseModelFiles.open(folder)
        let original = try BaseModelFiles.open(Checkout.fixture("models/\(name)"))
        let shapes = ShapeSource()
        _ = try ModelRegistry.makeModel(
            config: files.configuration, Scope(registry: ModuleRegistry(), source: shapes))
        try files.source.validate(expected: shapes.shapes)
        for (path, shape) in shapes.shapes {
            let (found, expected) = (
                try files.source.tensor(at: path, shape: shape),
                try original.source.tensor(at: path, shape: shape)
            )
            #expect(try found.isEqual(to: expected), "\(path)")
        }
        try files.source.verifyAllConsumed()
    }

    @Test func firstFilesOfGPT2HaveMasksAndNoPrefix() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        try copy("gpt2", to: folder, adding: ["h.0.attn.bias": [1, 1, 8, 8]]) {
            String($0.dropFirst("transformer.".count))
        }
        try expectReadable(folder, as: "gpt2")
    }

    @Test func oldFilesOfGPTNeoXHaveMasks() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let attention = "gpt_neox.layers.1.attention"
        try copy(
            "gpt-neox", to: folder,
            adding: [
                "\(attention).bias": [1, 1, 8, 8], "\(attention).masked_bias": [],
                "\(attention).rotary_emb.inv_freq": [2],
            ])
        try expectReadable(folder, as: "gpt-neox")
    }

    @Test(arguments: [("gpt-neox", "gpt_neox.layers.1.attention.bias"), ("tied", "x.attn.bias")])
    func whatIsNoMaskIsUnexpected(model: String, name: String) throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        try copy(model, to: folder, adding: [name: [24]])
        let error = #expect(throws: CheckpointError.self) {
            try expectReadable(folder, as: model)
        }
        #expect(error?.description.contains(name) == true)
    }

    // MARK: Experts

    /// What transformers 5 has in memory, as one tensor for all experts under its own names.
    @Test func experts() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let source = Checkout.fixture("models/mixtral")
        try FileManager.default.copyItem(
            at: source.appending(path: "config.json"), to: folder.appending(path: "config.json"))
        let files = try BaseModelFiles.open(source)
        let shapes = ShapeSource()
        _ = try ModelRegistry.makeModel(
            config: files.configuration, Scope(registry: ModuleRegistry(), source: shapes))
        #expect(shapes.shapes["model.layers.0.mlp.experts.gate_up_proj"] == [4, 40, 16])
        let tensors = try shapes.shapes.sorted { $0.key < $1.key }.map { path, shape in
            SafetensorsTensor(
                name: path, try files.source.tensor(at: path, shape: shape).contiguous())
        }
        try SafetensorsWriter.write(tensors, to: folder.appending(path: "model.safetensors"))
        try expectReadable(folder, as: "mixtral")
    }

    /// One tensor of an expert is not there, one has another shape: both are named, and nothing else is.
    @Test func expertsThatDoNotFitAreNamed() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let experts = "model.layers.1.block_sparse_moe.experts"
        try copy("mixtral", to: folder, adding: ["\(experts).3.w1.weight": [20, 15]]) {
            ["\(experts).2.w2.weight", "\(experts).3.w1.weight"].contains($0)
                ? "model.layers.0.mlp.gate.\($0.split(separator: ".")[5]).inv_freq" : $0
        }
        let error = #expect(throws: CheckpointError.self) { try BaseModelFiles.open(folder) }
        let names = experts.replacing("block_sparse_moe", with: "mlp")
        #expect(
            error
                == .tensors(
                    path: folder.path,
                    problems: [
                        .missing(name: "\(names).2.w2.weight", expected: [16, 20]),
                        .shape(
                            name: "\(names).3.w1.weight", expected: [20, 16], found: [20, 15]),
                    ]))
    }
}
