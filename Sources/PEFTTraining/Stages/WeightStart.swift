public import Foundation
public import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
import PEFTQuantization
import PEFTSharding
import Torch

/// What an adapter takes out of the base's weights while these are read: `W - s B A` is stored, and A and B are trained.
///
/// The part is computed from the file's own numbers, before anything is quantized, or read from the folder of an adapter that was
/// trained so. All processes have the same bits.
public struct WeightStart: Hashable, Sendable {
    /// The adapter's configuration.
    let config: LoRAConfig
    /// With a layer's path, decides what is random in it.
    let seed: UInt64
    /// The folder of the part that was taken out; nil to compute it.
    let folder: URL?

    /// The folder, within that of an adapter, of the plain LoRA whose update was taken out of the base.
    ///
    /// PEFT's `save_pretrained` takes it as `path_initial_model_for_weight_conversion`.
    static let folderName = "initial_adapter"

    /// The start of a new adapter; nil if it does not depend on the base's weights.
    ///
    /// - Parameters:
    ///   - config: the adapter.
    ///   - seed: as the adapter is attached with.
    public init?(_ config: any AdapterConfig, seed: UInt64) {
        guard let config = config as? LoRAConfig, config.readsWeight else {
            return nil
        }
        (self.config, self.seed, folder) = (config, seed, nil)
    }

    /// The start of the adapter in a folder; nil if it did not depend on the base's weights.
    ///
    /// A folder of PEFT has only the adapter: the part is computed again, as PEFT does.
    ///
    /// - Parameter url: as PEFT or ``FineTune`` writes it.
    /// - Throws: `CheckpointError` or `AdapterError`; `CheckpointError.unsupported` for a start that was random and is not there.
    public init?(loading url: URL) throws {
        let files = try AdapterFolder.read(url)
        let config = try AdapterMethods.readConfig(adapterConfigJSON: files.configuration)
        guard let lora = config as? LoRAConfig, lora.readsWeight else { return nil }
        let folder = url.appending(path: Self.folderName)
        let isThere = FileManager.default.fileExists(atPath: folder.path)
        if !isThere, let cause = lora.initLoraWeights.causeThatIsGone {
            throw CheckpointError.unsupported(
                path: url.path,
                reason: "what \(lora.initLoraWeights.name) took out of the base \(cause), and "
                    + "there is no \(Self.folderName)",
                remedy: "write it as a plain LoRA where it was trained: in Python, "
                    + "save_pretrained(folder, path_initial_model_for_weight_conversion=...)")
        }
        (self.config, seed, self.folder) = (lora, 0, isThere ? folder : nil)
    }
}

extension BaseModelOptions {
    /// Reads the base for a new adapter: without what it takes out, of the blocks that it names.
    ///
    /// - Parameters:
    ///   - adapter: the adapter.
    ///   - seed: as it is attached with.
    public mutating func fit(_ adapter: any AdapterConfig, seed: UInt64) {
        start = WeightStart(adapter, seed: seed)
        blocks = (adapter as? LoRAConfig)?.blockOrder
    }

    /// Reads the base for the adapter in a folder.
    ///
    /// - Throws: as ``WeightStart/init(loading:)``.
    public mutating func fit(loading folder: URL) throws {
        start = try WeightStart(loading: folder)
        let files = try AdapterFolder.read(folder)
        let config = try AdapterMethods.readConfig(adapterConfigJSON: files.configuration)
        blocks = (config as? LoRAConfig)?.blockOrder
    }
}

extension WeightStart {
    /// The starts of all layers, by their paths; the same bits in every process.
    ///
    /// - Parameters:
    ///   - registry: the model's layers, which need not have elements.
    ///   - source: the numbers of the base's files.
    ///   - options: how the base will be stored.
    ///   - ranks: the processes, each of which computes the starts of its share of the layers.
    /// - Returns: a start for each layer.
    /// - Throws: `AdapterError` for layers that cannot start so; `CheckpointError`; an error naming the process that failed.
    /// - Memory: A and B of every layer; while they are computed a few times one weight in float32.
    func starts(
        in registry: ModuleRegistry, source: any ParameterSource, options: BaseModelOptions,
        ranks: RankGroup
    ) throws -> [String: LowRankStart] {
        let layers = try config.weightTargets(in: registry)
        try requireStorage(layers.map(\.target), options)
        if let folder { return try read(layers, from: folder) }
        var starts: [String: LowRankStart] = [:]
        for first in stride(from: 0, to: layers.count, by: ranks.size) {
            let round = first..<min(first + ranks.size, layers.count)
            var own: LowRankStart?
            try together(ranks) {
                let index = first + ranks.rank
                if round.contains(index) {
                    own = try withoutGrad { try compute(layers[index], source, options) }
                }
            }
            for index in round {
                let (target, linear) = layers[index]
                starts[target.path] = try share(
                    index == first + ranks.rank ? own : nil, target, linear.weight, ranks)
            }
        }
        return starts
    }

    /// The starts of an adapter's layers in one process; none if they did not depend on the base's weights.
    ///
    /// - Parameters:
    ///   - folder: the adapter.
    ///   - plan: the base's layers.
    ///   - source: the numbers of the base's files.
    ///   - storage: how the base was stored in training; nil for the file's numbers.
    /// - Returns: a start for each layer.
    /// - Throws: as ``init(loading:)`` and ``starts(in:source:options:ranks:)``.
    static func starts(
        of folder: AdapterFolder, in plan: ModelPlan, source: CheckpointSource,
        storage: QuantizationConfig?
    ) throws -> [String: LowRankStart] {
        try WeightStart(loading: folder.url)?.starts(
            in: plan.registry, source: source,
            options: BaseModelOptions(quantization: storage, computeDType: .float32)
                .adjusted(to: source), ranks: RankGroup()) ?? [:]
    }

    private func together(_ ranks: RankGroup, _ body: () throws -> Void) throws {
        // On a dry run there are no other processes.
        guard !DryRun.isOn else { return try body() }
        try ranks.together("start of adapters") {
            try body()
            return ""
        }
    }

    private func compute(
        _ layer: (target: LoRATarget, linear: Linear), _ source: any ParameterSource,
        _ options: BaseModelOptions
    ) throws -> LowRankStart {
        let (target, weight) = (layer.target, layer.linear.weight)
        if config.initLoraWeights.readsRows {
            guard DryRun.isOn else {
                throw TrainingError.startNeedsRows(initialization: config.initLoraWeights.name)
            }
            let update = LowRankUpdate(
                a: try Tensor.empty([target.rank, weight.inFeatures]),
                b: try Tensor.empty([weight.outFeatures, target.rank]), scaling: target.scaling)
            return LowRankStart(update: update, subtracted: update)
        }
        let path = target.path + ".weight"
        let values = try source.tensor(at: path, shape: [weight.outFeatures, weight.inFeatures])
        guard try DryRun.isOn || values.allFinite() else {
            throw refused(target, "holds a NaN or an infinity", "take an intact copy of the base")
        }
        return try config.start(of: target, weight: values, seed: seed) { tensor in
            guard let quantization = options.quantization else { return tensor }
            return try FourBitTensor(quantizing: tensor, config: quantization, path: path)
                .dequantized(to: .float32)
        }
    }

    /// What one process has computed, in all of them.
    private func share(
        _ own: LowRankStart?, _ target: LoRATarget, _ weight: any LinearWeight, _ ranks: RankGroup
    ) throws -> LowRankStart {
        if ranks.size == 1, let own { return own }
        func share(_ update: LowRankUpdate?) throws -> LowRankUpdate {
            let a = try update?.a ?? Tensor.zeros([target.rank, weight.inFeatures])
            let b = try update?.b ?? Tensor.zeros([weight.outFeatures, target.rank])
            if !DryRun.isOn {
                try ranks.complete(a, of: "\(target.path), start of A")
                try ranks.complete(b, of: "\(target.path), start of B")
            }
            return LowRankUpdate(a: a, b: b, scaling: target.scaling)
        }
        let update = try share(own?.update)
        if config.takesAnother {
            return LowRankStart(update: update, subtracted: try share(own?.subtracted))
        }
        return LowRankStart(
            update: update, subtracted: config.initLoraWeights == .loftq ? nil : update)
    }

    /// What was taken out, from a file; the adapter's own numbers come from another one.
    private func read(
        _ layers: [(target: LoRATarget, linear: Linear)], from folder: URL
    ) throws -> [String: LowRankStart] {
        func name(_ target: LoRATarget, _ matrix: String) -> String {
            "base_model.model.\(target.path).lora_\(matrix).weight"
        }
        var shapes: [String: [Int]] = [:]
        for (target, linear) in layers {
            shapes[name(target, "A")] = [target.rank, linear.weight.inFeatures]
            shapes[name(target, "B")] = [linear.weight.outFeatures, target.rank]
        }
        let tensors = try AdapterFolder.read(folder).tensors(expected: shapes)
        var starts: [String: LowRankStart] = [:]
        for (target, _) in layers {
            guard let a = tensors[name(target, "A")], let b = tensors[name(target, "B")] else {
                continue
            }
            let update = LowRankUpdate(
                a: try a.to(.float32), b: try b.to(.float32), scaling: target.scaling)
            starts[target.path] = LowRankStart(update: update, subtracted: update)
        }
        return starts
    }

    // MARK: - What does not go together

    private func requireStorage(
        _ targets: [LoRATarget], _ options: BaseModelOptions
    ) throws(AdapterError) {
        for target in targets {
            if options.stored?.paths.contains(target.path + ".weight") == true {
                throw .quantizedAlready(target, config)
            }
            guard config.initLoraWeights == .loftq, folder == nil else { continue }
            let isSkipped = QuantizingSource.defaultSkippedModules.contains { name in
                target.path.split(separator: ".").contains { $0 == name }
            }
            if options.quantization == nil || isSkipped {
                throw refused(
                    target, "is not quantized, and quantization's error is what loftq starts from",
                    isSkipped
                        ? "leave it out of target_modules" : "set quantize to nf4 or fp4")
            }
        }
    }

    private func refused(
        _ target: LoRATarget, _ reason: String, _ remedy: String
    ) -> AdapterError {
        .unsuitable(
            config.startOption, target.path, reason, remedy)
    }
}

extension LoRAInitialization {
    /// What the start came from, where an adapter's folder does not say it; nil if the base's weights alone give it again.
    fileprivate var causeThatIsGone: String? {
        if case .pissaIterated = self { return "was random" }
        return readsRows ? "came from rows of data" : nil
    }
}

extension AdapterError {
    /// A weight of which nothing can be taken.
    static func quantizedAlready(
        _ target: LoRATarget, _ config: LoRAConfig
    ) -> AdapterError {
        .unsuitable(
            config.startOption, target.path,
            "is quantized already, so that nothing can be taken from it",
            "give the base in bfloat16, float16 or float32: it is quantized while it is read")
    }
}
