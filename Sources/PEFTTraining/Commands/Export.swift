import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
public import PEFTTokenizers
import Torch

/// Writes an adapter for another program: what `peft export` does.
public enum Export {
    /// What was written.
    public struct Summary: Equatable, Sendable {
        /// The file or folder.
        public let output: String
        /// Its size.
        public let sizeBytes: Int
        /// Adapted layers.
        public let numLayers: Int

        /// Describes what was written.
        public init(output: String, sizeBytes: Int, numLayers: Int) {
            self.output = output
            self.sizeBytes = sizeBytes
            self.numLayers = numLayers
        }

        /// The values as JSON.
        public var json: JSONObject {
            [
                "output": .string(output), "size_bytes": .int(sizeBytes),
                "num_layers": .int(numLayers),
            ]
        }
    }

    /// Writes the adapter beside a GGUF file of its base, as llama.cpp's `convert_lora_to_gguf.py` does, or as a folder of PEFT.
    ///
    /// In both forms it fits the base as it is: an update that was taken out of the base for the start is subtracted, which doubles the
    /// rank.
    ///
    /// - Parameter options: adapter, base and file.
    /// - Returns: what was written.
    /// - Throws: ``MergeError`` for a method that is more than a low-rank update, or an adapter that is to be a plain LoRA and is; an error
    ///   of the files, naming what, where, expected, found and the remedy.
    /// - Memory: the adapter.
    public static func run(_ options: ExportOptions) throws -> Summary {
        try ComputingProcess.prepare(numThreads: nil)
        let output = URL(filePath: options.output)
        try AtomicFolder.requireFree(output)
        let folder = try AdapterFolder.read(URL(filePath: options.adapter))
        let config = try AdapterMethods.readConfig(adapterConfigJSON: folder.configuration)
        try MergeError.requireBlocksOfBase(config, folder)
        let base = try BaseModelFiles.open(
            Merge.base(options.model, of: folder, config.baseModelNameOrPath))
        let plan = try ModelPlan(
            base.configuration,
            options: BaseModelOptions(quantization: nil, computeDType: .float32))
        plan.registry.starts = try WeightStart.starts(
            of: folder, in: plan, source: base.source, storage: nil)
        let set = try config.attach(to: plan.registry, seed: 0, isTrainable: false)
        try set.read(from: folder)
        if options.format == .peftLora { return try writePlain(set, of: folder, to: output) }
        if set.invocation != nil, let (path, part) = set.adapters.first {
            throw MergeError.notMergeable(path: path, method: String(describing: type(of: part)))
        }
        let layers = try set.adapters.map { path, adapter in
            try layer(path, adapter, plan.registry)
        }
        if plan.isHeadTied, let head = plan.registry.headPath,
            layers.contains(where: { $0.path == head })
        {
            throw MergeError.headIsTied(path: head)
        }
        let size = try GGUFAdapterWriter(base: base).write(layers, to: output)
        return Summary(output: options.output, sizeBytes: size, numLayers: layers.count)
    }

    private static func layer(
        _ path: String, _ part: any AdapterPart, _ registry: ModuleRegistry
    ) throws -> GGUFAdapterWriter.Layer {
        let linear = registry.linears.first { $0.path == path }
        let context = ForwardContext(layout: SequenceLayout(segmentLengths: [1]))
        guard let linear, let adapter = part as? any LinearAdapter,
            let term = try adapter.lowRankTerm(
                for: Tensor.zeros([1, linear.weight.inFeatures]), context: context)
        else {
            throw MergeError.notLowRank(path: path, method: String(describing: type(of: part)))
        }
        let (a, b) = try PlainLoRA.matrices(
            a: term.a.detach(), b: term.b.detach(),
            without: registry.starts[path]?.subtracted)
        return GGUFAdapterWriter.Layer(path: path, a: a, b: b, scale: term.scale)
    }

    private static func writePlain(
        _ set: AdapterSet, of folder: AdapterFolder, to output: URL
    ) throws -> Summary {
        guard let plain = try PlainLoRA(set) else {
            throw MergeError.isPlain(adapter: folder.url.path)
        }
        try AtomicFolder.write(to: output) { temporary in
            try AdapterFolder.write(
                configuration: plain.config.adapterConfigJSON(),
                tensors: plain.tensors.map { SafetensorsTensor(name: $0.key, $0.value) },
                base: folder.baseFingerprint.flatMap { BaseFingerprint($0) },
                baseStorage: folder.baseStorage, to: temporary)
        }
        return Summary(
            output: output.path, sizeBytes: plain.tensors.values.reduce(0) { $0 + $1.sizeBytes },
            numLayers: set.numAdaptedLinears)
    }
}
