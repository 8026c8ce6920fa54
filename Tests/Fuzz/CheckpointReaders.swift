import Foundation
import PEFTCheckpoints
import PEFTLayers
import PEFTTokenizers
import PEFTTraining
import Torch

extension FuzzReader {
    /// Readers of weights, adapters, models and configurations.
    static let checkpointReaders = [
        FuzzReader(
            name: "safetensors",
            samples: ["checkpoints/dtypes.safetensors", "optimizer/cosine.safetensors"],
            words: [
                "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\"", "\"F32\"",
                "\"I64\"",
            ],
            read: { url in
                let file = try SafetensorsFile(url)
                for entry in file.entries { _ = try file.tensor(entry) }
            }),
        FuzzReader(
            name: "gguf",
            samples: ["metadata", "llama-Q4_0", "llama-Q8_0"].map { "checkpoints/\($0).gguf" },
            words: [
                "tokenizer.ggml.model", "general.architecture", "llama", "general.alignment",
                "gpt2",
            ],
            read: readModel),
        FuzzReader(
            name: "adapter", samples: ["checkpoints/adapter", "checkpoints/adapter-bfloat16"],
            words: [
                "\"peft_type\"", "\"LORA\"", "\"r\"", "\"target_modules\"", "\"data_offsets\"",
            ],
            read: { url in
                let folder = try AdapterFolder.read(url)
                for entry in folder.weights.entries { _ = try folder.weights.tensor(entry) }
                _ = try PathInspection(url)
            }),
        FuzzReader(
            name: "model", samples: ["checkpoints/llama-bfloat16"],
            words: ["\"model_type\"", "\"hidden_size\"", "\"data_offsets\"", "\"weight_map\""],
            read: readModel),
        FuzzReader(
            name: "quantized", samples: ["export/nf4", "export/fp4", "export/int8"],
            words: [
                "\"quant_type\"", "\"blocksize\"", "\"shape\"", "\"nested_offset\"", ".absmax",
                ".quant_state.bitsandbytes__nf4", ".SCB", ".weight_format", "\"I8\"",
                "\"load_in_8bit\"",
            ],
            read: readQuantized),
        FuzzReader(
            name: "config", samples: ["fuzz-seeds/train.yaml", "../../Examples/wordnet/demo.yaml"],
            words: [
                "model: ", "lora_r: ", "!!binary ", "&a ", "*a", "? ", ": ", "- ", "|\n  x",
                "{a: b}",
                "[1, 2]", "---\n", "...\n", "!!float ", ".inf", "~", "\"\\x00\"", "<<: *a\n",
            ],
            read: { url in _ = try FineTuneConfig(contentsOf: url) }),
    ]

    /// Decodes every weight, as a layer holds it and as a merge reads it.
    @Sendable private static func readQuantized(_ url: URL) throws {
        let source = try BaseModelFiles.open(url).source
        let weights = StoredWeightSource(
            { try source.quantizedParts(of: $0, shape: $1) }, samples: source, dense: source,
            placement: WholePlacement())
        for name in source.names {
            guard let shape = source.shape(of: name) else { continue }
            _ = try source.tensor(at: name, shape: shape)
            guard shape.count == 2 else { continue }
            _ = try weights.linearWeight(at: name, shape: shape).dequantized()
        }
    }

    @Sendable private static func readModel(_ url: URL) throws {
        _ = try PathInspection(url)
        let files = try BaseModelFiles.open(url)
        _ = try files.makeTokenizer()?.encode("Hello,  world")
    }
}
