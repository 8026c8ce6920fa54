import Foundation
import PEFTAdapters
import PEFTCheckpoints

/// An adapter that cannot be merged, or whose merge would lose what was learned.
public enum MergeError: Error, Equatable, Sendable {
    /// The method is more than a change of the layer's weight.
    case notMergeable(path: String, method: String)
    /// The merged weight holds an infinity or a NaN, or does so in what it is stored as.
    case notFinite(path: String)
    /// Most of the update is lost by rounding.
    case updateLost(survived: Double, storage: String, worst: [String])
    /// A GGUF file is written in the form of a GGUF file only.
    case baseIsNoGGUF(model: String)
    /// The adapter does not say which base it belongs to, or that base is not there.
    case noBase(adapter: String, name: String?)
    /// The base is quantized already, so it is not quantized in another way first.
    case baseIsQuantized(model: String, storage: String)
    /// The model is quantized already, and is not quantized twice.
    case isQuantized(model: String, storage: String)
    /// The method is more than a low-rank update, which is all that the other program knows.
    case notLowRank(path: String, method: String)
    /// The adapter adds to a bias that the base's layer has not.
    case noBias(path: String)
    /// The model is a mixture of experts, whose weights no 4-bit folder holds.
    case hasExperts(model: String, path: String)
    /// The adapter is a plain LoRA already.
    case isPlain(adapter: String)
    /// The other program has no tensor of its own for a tied head.
    case headIsTied(path: String)
    /// The adapter belongs to a model of other blocks than the base's files have.
    case hasOtherBlocks(adapter: String)
}

extension MergeError: CustomStringConvertible {
    /// What, where, expected, found and the remedy.
    public var description: String {
        switch self {
        case .notMergeable(let path, let method):
            """
            \(path): an adapter part of the kind \(method) is more than a change of the weight and cannot be \
            merged; use the adapter as it is: --adapter
            """
        case .notFinite(let path):
            """
            \(path): the merged weight holds an infinity or a NaN, or is too large for what it is to be \
            stored as; train with a lower learning rate, or choose another --dtype
            """
        case .updateLost(let survived, let storage, let worst):
            """
            \(Self.percent(survived)) of the update survives in \(storage), so that most of what was \
            learned would be lost (least: \(worst.joined(separator: ", "))); merge into a finer storage, \
            keep the adapter beside its base, or give --allow-lost-update to write the model all the same
            """
        case .baseIsNoGGUF(let model):
            """
            \(model): a GGUF file is written with the metadata of the base, which is no GGUF file; merge \
            without --format and convert the folder with llama.cpp's convert_hf_to_gguf.py
            """
        case .noBase(let adapter, let name):
            name.map {
                "\(adapter): its base model \($0) is not a path that is there; give the base as --model"
            } ?? "\(adapter): the adapter does not name its base model; give it as --model"
        case .baseIsQuantized(let model, let storage):
            """
            \(model): the base is quantized already (\(storage)); leave --base-quantize out: the update is \
            added to what the codes stand for
            """
        case .isQuantized(let model, let storage):
            """
            \(model): the model is quantized already (\(storage)) and can be used as it is; to store it \
            otherwise, quantize the model that it was made of
            """
        case .notLowRank(let path, let method):
            """
            \(path): an adapter of the method \(method) is more than a low-rank update, which is all that \
            llama.cpp applies; merge it instead: peft merge
            """
        case .noBias(let path):
            """
            \(path): the adapter was trained with lora_bias, and the base's layer has no bias that its own \
            could be added to; use the adapter as it is: --adapter
            """
        case .hasExperts(let model, let path):
            """
            \(model): the model is a mixture of experts (\(path)), of which no 4-bit folder is written: \
            transformers leaves experts in 16 bits; give --quantize to the command that reads the model
            """
        case .isPlain(let adapter):
            """
            \(adapter): the adapter fits the base as it is, and PEFT and others load it as it is: nothing was \
            taken out of the base's weights for its start
            """
        case .headIsTied(let path):
            """
            \(path): the base's head is tied to its embedding, so that llama.cpp has no weight to apply \
            this update to; merge it instead: peft merge
            """
        case .hasOtherBlocks(let adapter):
            """
            \(adapter): the adapter belongs to the model that its layer_replication makes of the base's blocks, which has \
            no files of its own; use the adapter as it is: --adapter
            """
        }
    }

    /// Refuses an adapter of a model that has other blocks than its base.
    static func requireBlocksOfBase(
        _ config: any AdapterConfig, _ adapter: AdapterFolder
    ) throws(MergeError) {
        guard (config as? LoRAConfig)?.layerReplication != nil else { return }
        throw .hasOtherBlocks(adapter: adapter.url.path)
    }

    static func percent(_ share: Double) -> String {
        let rounded = (share * 1000).rounded() / 10
        return "\(rounded == 0 ? 0 : rounded) %"
    }
}
