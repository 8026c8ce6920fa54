import Foundation
import PEFTAdapters
import PEFTCheckpoints
import Torch

/// Makes one adapter of several: what `peft combine` does.
public enum Combine {
    /// Combines the adapters and writes a folder that PEFT and every command here load.
    ///
    /// No base model is needed. The folder names the base of the adapters, and its fingerprint where one of them has it and no other has another.
    ///
    /// - Parameter options: adapters, weights, type and folder.
    /// - Returns: what was written.
    /// - Throws: `CombinationError` for adapters that do not go together; `CheckpointError` for a folder that is none of an adapter, or an output
    ///   that is there; `AdapterError` for a configuration that cannot be read.
    /// - Memory: see `AdapterCombination.run`.
    public static func run(_ options: CombineOptions) throws -> CombineReport {
        try ComputingProcess.prepare(numThreads: options.threads)
        let output = URL(filePath: options.output)
        try AtomicFolder.requireFree(output)
        var adapters: [WeightedAdapter] = []
        var folders: [AdapterFolder] = []
        for source in options.adapter.sources {
            let folder = try AdapterFolder.read(URL(filePath: source.path))
            folders.append(folder)
            let tensors = try folder.weights.entries.reduce(into: [String: Tensor]()) {
                $0[$1.name] = try folder.weights.tensor($1)
            }
            adapters.append(
                WeightedAdapter(
                    name: source.path,
                    config: try AdapterMethods.readConfig(adapterConfigJSON: folder.configuration),
                    tensors: tensors, weight: source.weight ?? 1))
        }
        if !options.ignoreBaseFingerprint { try requireOneBase(adapters, folders) }
        let combined = try options.combination.run(adapters)
        let bases = Set(folders.compactMap(\.baseFingerprint))
        let storages = Set(folders.map(\.baseStorage))
        try AdapterFolder.write(
            configuration: combined.config.adapterConfigJSON(),
            tensors: combined.tensors.map { SafetensorsTensor(name: $0.key, $0.value) },
            base: bases.count == 1 ? bases.first.flatMap { BaseFingerprint($0) } : nil,
            baseStorage: storages.count == 1 ? folders.first?.baseStorage : nil, to: output)
        return CombineReport(
            output: options.output, type: options.type, rank: combined.config.r,
            numLayers: combined.paths.count,
            sizeBytes: combined.tensors.values.reduce(0) { $0 + 4 * $1.shape.reduce(1, *) })
    }

    /// Compares the bases of each adapter with the first's: by their fingerprints where both have one, else by their names.
    private static func requireOneBase(
        _ adapters: [WeightedAdapter], _ folders: [AdapterFolder]
    ) throws(CombinationError) {
        guard let first = adapters.first, let folder = folders.first else { return }
        for (adapter, other) in zip(adapters, folders).dropFirst() {
            let expected: String?
            let found: String?
            if let print = folder.baseFingerprint, let otherPrint = other.baseFingerprint {
                (expected, found) = (print, otherPrint)
            } else {
                expected = first.config.baseModelNameOrPath
                found = adapter.config.baseModelNameOrPath
            }
            guard let expected, let found, expected != found else { continue }
            throw .otherBase(
                adapter: adapter.name, base: found, first: first.name, firstBase: expected)
        }
    }
}
