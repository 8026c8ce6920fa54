import Foundation
import PEFTCheckpoints
import TestSupport
import Testing
import Torch

/// GGUF files that are well formed but ask for something else than the fixtures do.
@Suite struct GGUFModelTests {
    struct Change: CustomTestStringConvertible, Sendable {
        let key: String
        let value: GGUFBytes.Value
        let message: String
        var testDescription: String { key }
    }

    @Test(arguments: [
        Change(
            key: "general.architecture", value: .string("mamba"),
            message: "the GGUF architecture is mamba; supported are gemma2, gemma3, gpt2, gptneox, "
                + "granite, llama, olmo2, olmoe, phi3, qwen2, qwen3, qwen3moe, smollm3"),
        Change(
            key: "llama.rope.scaling.type", value: .string("longrope"),
            message: "RoPE is scaled (longrope); "
                + "this is not supported: take another model or file"),
        Change(
            key: "llama.rope.scaling.type", value: .string("yarn"),
            message: "RoPE is scaled (yarn) without a factor; "
                + "this is not supported: take another model or file"),
        Change(
            key: "llama.rope.scaling.attn_factor", value: .float(1.5),
            message: "RoPE is scaled (attn_factor); "
                + "this is not supported: take another model or file"),
        Change(
            key: "llama.attention.sliding_window", value: .int(512),
            message: "tokens see a window of 512 tokens; "
                + "this is not supported: take another model or file"),
        Change(
            key: "llama.rope.dimension_count", value: .int(4),
            message: "4 of 8 dimensions of a head are rotated; "
                + "this is not supported: take another model or file"),
        Change(
            key: "llama.attention.value_length", value: .int(4),
            message: "values have 4 dimensions, keys 8; "
                + "this is not supported: take another model or file"),
        Change(
            key: "llama.expert_count", value: .int(8),
            message: "missing, or not a positive number: llama.expert_used_count; "
                + "convert the model again with a current llama.cpp"),
        Change(
            key: "split.count", value: .int(2),
            message: "the file is one of 2 parts (join them: llama-gguf-split --merge); "
                + "this is not supported: take another model or file"),
        Change(
            key: "llama.block_count", value: .string("many"),
            message: "missing, or not a positive number: llama.block_count; "
                + "convert the model again with a current llama.cpp"),
        Change(
            key: "general.alignment", value: .int(24),
            message: "general.alignment is 24, expected a power of two; "
                + "the file is damaged or cut off: copy or download it again"),
    ])
    func metadata(_ change: Change) throws {
        var bytes = GGUFBytes.tiny
        bytes.metadata[change.key] = change.value
        try expect(bytes, change.message)
    }

    @Test func everyMissingKeyIsReported() throws {
        var bytes = GGUFBytes.tiny
        bytes.metadata = ["general.architecture": .string("llama")]
        bytes.tensors = []
        try expect(
            bytes,
            "missing, or not a positive number: llama.embedding_length, "
                + "llama.feed_forward_length, llama.block_count, llama.attention.head_count, "
                + "llama.context_length, llama.attention.layer_norm_rms_epsilon, "
                + "the tensor token_embd.weight; convert the model again with a current llama.cpp")
    }

    @Test func typesThatAreNotSupported() throws {
        var bytes = GGUFBytes.tiny
        bytes.tensors += [
            GGUFBytes.Tensor(name: "blk.0.ffn_up.weight", extents: [256, 1], type: 16, size: 66),
            GGUFBytes.Tensor(
                name: "blk.0.ffn_down.weight", extents: [256, 2], type: 16, size: 132),
            GGUFBytes.Tensor(name: "blk.0.attn_v.weight", extents: [256, 1], type: 34, size: 54),
        ]
        try expect(
            bytes,
            "tensors of types that are not supported: 2 of type IQ2_XXS, 1 of type TQ1_0; take a file "
                + "with the types F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, "
                + "IQ4_NL, IQ4_XS, BF16")
    }

    @Test(arguments: [
        (
            GGUFBytes.Tensor(name: "t", extents: [32, 2], type: 99, size: 0),
            "tensor t has the unknown type number 99"
        ),
        (
            GGUFBytes.Tensor(name: "t", extents: [16, 2], type: 2, size: 0),
            "tensor t has rows of 16 elements, expected a multiple of 32, the block of Q4_0"
        ),
        (
            GGUFBytes.Tensor(name: "t", extents: [0, 1 << 63], type: 0, size: 0),
            "tensor t has the impossible extents [0, 9223372036854775808]"
        ),
        (
            GGUFBytes.Tensor(name: "t", extents: [1, 1, 1, 1, 1], type: 0, size: 4),
            "tensor t has 5 dimensions, expected 0 to 4"
        ),
        (
            GGUFBytes.Tensor(name: "t", extents: [1], type: 0, size: 4, offset: 8),
            "tensor t begins at 8, expected a multiple of 32"
        ),
        (
            GGUFBytes.Tensor(name: "t", extents: [1], type: 0, size: 4, offset: 0),
            "tensor t overlaps tensor token_embd.weight"
        ),
        (
            GGUFBytes.Tensor(name: "token_embd.weight", extents: [1], type: 0, size: 4),
            "two tensors have the same name"
        ),
    ])
    func tensors(_ tensor: GGUFBytes.Tensor, _ message: String) throws {
        var bytes = GGUFBytes.tiny
        bytes.tensors.append(tensor)
        try expect(
            bytes, message + "; the file is damaged or cut off: copy or download it again")
    }

    /// Frequency factors of one change nothing; any other becomes part of the configuration.
    @Test(arguments: [(Float(1), true), (8, false)])
    func frequencyFactors(_ factor: Float, _ isHarmless: Bool) throws {
        var bytes = GGUFBytes.tiny
        bytes.tensors.append(
            GGUFBytes.Tensor(
                name: "rope_freqs.weight", extents: [4], type: 0, size: 16,
                floats: [1, 1, factor, factor]))
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let files = try BaseModelFiles.open(try folder.write(bytes.data, "m.gguf"))
        try files.source.validate(expected: ["model.embed_tokens.weight": [4, 16]])
        let json = try JSONSerialization.jsonObject(with: files.configuration)
        let config = try #require(json as? [String: Any])
        let scaling = config["rope_scaling"] as? [String: Any]
        #expect((scaling == nil) == isHarmless)
        #expect(isHarmless || scaling?["long_factor"] as? [Double] == [1, 1, 8, 8])
    }

    @Test func divisorsForLongSequencesOfAnotherFamily() throws {
        var bytes = GGUFBytes.tiny
        bytes.tensors.append(
            GGUFBytes.Tensor(name: "rope_factors_long.weight", extents: [4], type: 0, size: 16))
        try expect(
            bytes,
            "RoPE is scaled (rope_factors_long.weight); "
                + "this is not supported: take another model or file")
    }

    @Test func headsThatDoNotDivideTheRows() throws {
        var bytes = GGUFBytes.tiny
        bytes.tensors.append(
            GGUFBytes.Tensor(name: "blk.0.attn_q.weight", extents: [16, 6], type: 0, size: 384))
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.write(bytes.data, "m.gguf")
        let source = try BaseModelFiles.open(url).source
        #expect(
            checkpointError {
                _ = try source.tensor(
                    at: "model.layers.0.self_attn.q_proj.weight", shape: [6, 16])
            }?.description
                == "\(url.path): tensor blk.0.attn_q.weight of shape [6, 16] does not divide into "
                + "2 heads of even size; the head counts in the metadata are wrong: "
                + "convert the model again")
    }

    private func expect(_ bytes: GGUFBytes, _ message: String) throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let url = try folder.write(bytes.data, "m.gguf")
        #expect(
            checkpointError { _ = try BaseModelFiles.open(url) }?.description
                == "\(url.path): \(message)")
    }
}

/// A GGUF file in the making.
struct GGUFBytes {
    enum Value: Sendable {
        case int(UInt32)
        case float(Float)
        case string(String)
    }

    struct Tensor: Sendable {
        let name: String
        let extents: [UInt64]
        let type: UInt32
        let size: Int
        var offset: UInt64?
        var floats: [Float] = []
    }

    var metadata: [String: Value]
    var tensors: [Tensor]

    /// The least that a Llama model must have.
    static let tiny = GGUFBytes(
        metadata: [
            "general.architecture": .string("llama"),
            "llama.embedding_length": .int(16),
            "llama.feed_forward_length": .int(32),
            "llama.block_count": .int(1),
            "llama.attention.head_count": .int(2),
            "llama.context_length": .int(64),
            "llama.attention.layer_norm_rms_epsilon": .float(1e-5),
        ],
        tensors: [Tensor(name: "token_embd.weight", extents: [16, 4], type: 0, size: 256)])

    var data: Data {
        var header = Data("GGUF".utf8)
        header.append(integer: UInt32(3))
        header.append(integer: UInt64(tensors.count))
        header.append(integer: UInt64(metadata.count))
        for (key, value) in metadata.sorted(by: { $0.key < $1.key }) {
            header.append(string: key)
            switch value {
            case .int(let value):
                header.append(integer: UInt32(4))
                header.append(integer: value)
            case .float(let value):
                header.append(integer: UInt32(6))
                header.append(integer: value.bitPattern)
            case .string(let value):
                header.append(integer: UInt32(8))
                header.append(string: value)
            }
        }
        var contents = Data()
        for tensor in tensors {
            header.append(string: tensor.name)
            header.append(integer: UInt32(tensor.extents.count))
            for extent in tensor.extents { header.append(integer: extent) }
            header.append(integer: tensor.type)
            header.append(integer: tensor.offset ?? UInt64(contents.count))
            for float in tensor.floats { contents.append(integer: float.bitPattern) }
            contents.append(Data(count: tensor.size - 4 * tensor.floats.count))
            contents.append(Data(count: (32 - contents.count % 32) % 32))
        }
        return header + Data(count: (32 - header.count % 32) % 32) + contents
    }
}

extension Data {
    fileprivate mutating func append(integer: some FixedWidthInteger) {
        Swift.withUnsafeBytes(of: integer.littleEndian) { append(contentsOf: $0) }
    }

    fileprivate mutating func append(string: String) {
        append(integer: UInt64(string.utf8.count))
        append(contentsOf: string.utf8)
    }
}
