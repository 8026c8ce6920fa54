import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTLayers
import PEFTModels
import PEFTQuantization
import PEFTSharding
import Torch

/// A model as it is written again, tensor by tensor: the base, or with an adapter in its weights `W + Δ` in float32.
///
/// W are the file's numbers, or these as a run computed with them: quantized to 4 bits and decoded.
///
/// - Memory: the adapter, and one weight a few times in float32.
final class ExportedModel {
    /// One tensor of the model.
    struct Entry {
        /// The Hugging Face name.
        let path: String
        /// The model's shape.
        let shape: [Int]
        /// Whether it is the weight of a linear layer that the base's storage holds.
        let isStoredWeight: Bool
        var numElements: Int { shape.reduce(1, *) }
    }

    /// The numbers of one tensor.
    enum Content {
        /// The file's own, in the file's dtype.
        case unchanged(Tensor)
        /// Others, float32: the base's, and these with the update; the same tensor where there is no update.
        case changed(base: Tensor, merged: Tensor)
    }

    /// The base model.
    let files: BaseModelFiles
    /// The tensors, in the model's order.
    let entries: [Entry]
    /// The name of a head that is tied in the base and not any more, see ``AdapterMerge/untiedHead``.
    var untiedHead: String? { merge.untiedHead }
    /// How the base's linear weights were stored before the update was added; nil for the file's numbers.
    let storage: QuantizationConfig?

    private let source: FingerprintingSource
    /// The same without what training took out of the base's weights.
    private let left: ResidualSource
    private let merge: AdapterMerge
    private let folder: AdapterFolder?
    private let baseName: String?
    private let embedding: String
    private let byPath: [String: Entry]

    /// Opens a base model and reads an adapter.
    ///
    /// - Parameters:
    ///   - files: the base model.
    ///   - folder: the adapter; nil for the base alone.
    ///   - storage: how the base's linear weights are stored before the update is added; nil for the file's numbers.
    /// - Throws: `CheckpointError`, `AdapterError` or `ModelError` naming everything that does not fit.
    init(
        _ files: BaseModelFiles, adapter folder: AdapterFolder?, storage: QuantizationConfig?
    ) throws {
        self.files = files
        self.folder = folder
        self.storage = storage
        let plan = try ModelPlan(
            files.configuration,
            options: BaseModelOptions(quantization: nil, computeDType: .float32))
        try files.source.validate(expected: plan.shapes)
        source = FingerprintingSource(files.source)
        let config = try folder.map {
            try AdapterMethods.readConfig(adapterConfigJSON: $0.configuration)
        }
        if let config, let folder { try MergeError.requireBlocksOfBase(config, folder) }
        baseName = config?.baseModelNameOrPath
        left = ResidualSource(
            source,
            starts: try folder.map {
                try WeightStart.starts(of: $0, in: plan, source: files.source, storage: storage)
            } ?? [:])
        let set = try config?.attach(to: plan.registry, seed: 0, isTrainable: false)
        if let folder { try set?.read(from: folder) }
        merge = try AdapterMerge(set, to: plan)
        embedding = plan.embedding
        let weights = Set(plan.registry.linears.filter(\.isStored).map(\.weightPath))
        let head = plan.registry.headPath.map { $0 + ".weight" }
        var entries = plan.layout.tensors.map { tensor in
            Entry(
                path: tensor.path, shape: tensor.shape,
                isStoredWeight: weights.contains(tensor.path) && tensor.path != head)
        }
        if let untiedHead = merge.untiedHead, let shape = plan.shapes[plan.embedding] {
            entries.append(Entry(path: untiedHead, shape: shape, isStoredWeight: false))
        }
        self.entries = entries
        byPath = Dictionary(uniqueKeysWithValues: entries.map { ($0.path, $0) })
    }

    /// The fingerprint of the base, all of whose tensors have been asked for.
    var fingerprint: BaseFingerprint {
        get throws { try files.baseFingerprint(source.fingerprint) }
    }

    /// Elements of all tensors.
    var numElements: Int { entries.reduce(0) { $0 + $1.numElements } }

    /// How the files differ from the model.
    var conventions: FileConventions { ModelRegistry.fileConventions(files.configuration) }

    /// The element type that the base's files have a tensor's numbers in, or had before these became codes; nil for blocks of GGUF.
    func dtypeInFiles(of entry: Entry) -> DType? {
        let path = entry.path == untiedHead ? embedding : entry.path
        return files.source.plainDType(of: path) ?? files.source.quantizedDType(of: path)
    }

    /// Whether an adapter is in it.
    var isMerged: Bool { folder != nil }

    /// The entry of a name; nil if the model has no such tensor.
    func entry(_ path: String) -> Entry? { byPath[path] }

    /// The numbers of a tensor.
    ///
    /// - Throws: the source's error; ``MergeError``.
    func content(of entry: Entry) throws -> Content {
        let isUntied = entry.path == untiedHead
        let stored = try left.tensor(
            at: isUntied ? embedding : entry.path, shape: entry.shape)
        let isQuantized = storage != nil && entry.isStoredWeight
        let isChanged = merge.changes(entry.path)
        guard isQuantized || isChanged else { return .unchanged(stored) }
        return try withoutGrad {
            var base: Tensor
            if let storage, isQuantized {
                base = try FourBitTensor(quantizing: stored, config: storage, path: entry.path)
                    .dequantized(to: .float32)
            } else {
                base = try stored.to(.float32)
            }
            guard isChanged else { return .changed(base: base, merged: base) }
            let merged = try merge.merged(into: base, at: entry.path)
            guard try merged.allFinite() else { throw MergeError.notFinite(path: entry.path) }
            if let taken = left.subtracted[entry.path] {
                // The update is what was learned, without what the adapter began with.
                base = try base + taken.elements(0..<base.numElements).reshape(base.shape)
            }
            return .changed(base: base, merged: merged)
        }
    }

    /// Refuses weights of experts, which no 4-bit folder holds.
    ///
    /// - Throws: ``MergeError/hasExperts(model:path:)``.
    func requireNoExperts() throws(MergeError) {
        guard let experts = entries.first(where: { $0.shape.count > 2 }) else { return }
        throw .hasExperts(model: files.url.path, path: experts.path)
    }

    /// Compares the base, whose tensors have all been asked for, with the one that the adapter was trained on.
    ///
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/otherBase``; `CheckpointError` if something in the files was not read.
    func verify(ignoresFingerprint: Bool) throws {
        try files.source.verifyAllConsumed()
        guard !ignoresFingerprint else { return }
        try folder?.requireBase(fingerprint, of: files.url.path, name: baseName)
    }
}

extension Linear {
    /// Whether the base's storage holds the weight: not that of a router.
    fileprivate var isStored: Bool { parameter == nil || parameter?.numExperts != nil }
}
