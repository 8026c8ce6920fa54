public import Foundation
public import PEFTAdapters
import PEFTCheckpoints

extension NamedAdapters {
    /// Prepares a base model, whole in this process, for several adapters.
    ///
    /// - Throws: `AdapterError.named` if an adapter is attached to it.
    public convenience init(of base: BaseModel) throws(AdapterError) {
        try self.init(of: base.registry)
    }

    /// Adds the adapter of a folder under a name; which are active does not change.
    ///
    /// - Parameters:
    ///   - name: that no other has.
    ///   - folder: as PEFT or ``FineTune`` writes it.
    ///   - base: the model, the one that the adapter was trained on.
    ///   - isTrainable: whether it is trained while it is active.
    ///   - ignoresBaseFingerprint: whether an adapter that was trained on another base is taken all the same.
    /// - Returns: what was added.
    /// - Throws: ``Diagnosis`` with ``DiagnosisCode/otherBase``; `CheckpointError` or `AdapterError` naming everything that does
    ///   not fit.
    @discardableResult
    public func load(
        _ name: String, from folder: URL, for base: BaseModel, isTrainable: Bool = false,
        ignoresBaseFingerprint: Bool = false
    ) throws -> AdapterSet {
        let (files, config) = try Self.open(
            folder, for: base, ignoresBaseFingerprint: ignoresBaseFingerprint)
        return try add(name, config, isTrainable: isTrainable) { try $0.read(from: files) }
    }

    /// Puts the adapter of a folder in the place of one that is there, active or not: PEFT's hot swap.
    ///
    /// - Parameters: as ``load(_:from:for:isTrainable:ignoresBaseFingerprint:)``.
    /// - Throws: the same, and `AdapterError.named` for an adapter of another method or of other layers; the adapter stays as it was then.
    public func swap(
        _ name: String, from folder: URL, for base: BaseModel, isTrainable: Bool = false,
        ignoresBaseFingerprint: Bool = false
    ) throws {
        let (files, config) = try Self.open(
            folder, for: base, ignoresBaseFingerprint: ignoresBaseFingerprint)
        try swap(name, config, isTrainable: isTrainable) { try $0.read(from: files) }
    }

    private static func open(
        _ folder: URL, for base: BaseModel, ignoresBaseFingerprint: Bool
    ) throws -> (files: AdapterFolder, config: any AdapterConfig) {
        guard base.options.start == nil else {
            throw TrainingError.otherStart(adapter: folder.path)
        }
        let files = try AdapterFolder.read(folder)
        let config = try AdapterMethods.readConfig(adapterConfigJSON: files.configuration)
        if !ignoresBaseFingerprint {
            try files.requireBase(
                base.fingerprint, of: base.files.url.path, name: config.baseModelNameOrPath)
        }
        return (files, config)
    }
}
