import Foundation
import PEFTAdapters
import PEFTCheckpoints
import PEFTData
import PEFTTokenizers
import Torch

/// Predicts what a run takes: what `peft plan` does.
public enum Plan {
    /// Predicts memory and traffic of a run without reading a weight, and looks for a run that fits.
    ///
    /// The model needs its `config.json` only, a GGUF file its header. Rows that are there decide the largest micro-batch; without
    /// them it is as large as the configuration allows.
    ///
    /// - Parameter options: the run and the machine.
    /// - Returns: the plan and proposals.
    /// - Throws: what the run would be refused with.
    /// - Complexity: a few thousand operations on shapes for each plan; a hundred plans at most where the run does not fit.
    public static func run(_ options: PlanOptions) throws -> PlanReport {
        let config = options.config
        try config.validate()
        try ComputingProcess.prepare(numThreads: config.threads)
        let model = try PlannedModel(config.model)
        var assumptions: [String] = []
        let rows = try rows(of: config, model, &assumptions)
        let planner = Planner(
            configuration: model.configuration, adapter: try adapter(of: config), rows: rows,
            processBytes: ProcessMemory.predicted(
                residentBytes: MemoryStatistics.current().residentBytes))
        let plan = try planner.plan(config, numRanks: options.world)
        var report = PlanReport(plan: plan, assumptions: assumptions)
        if let bandwidth = options.bandwidth {
            report.trafficSeconds = Double(plan.sentBytesPerStep) / Double(bandwidth.bytes)
        }
        if let limit = options.memory?.bytes {
            report.memoryLimit = limit
            let search = PlanSearch(
                planner: planner, config: config, numRanks: options.world, limit: limit)
            report.proposals =
                plan.peakMemoryBytes <= limit ? try search.faster() : try search.smaller()
        }
        return report
    }

    private static func rows(
        of config: FineTuneConfig, _ model: PlannedModel, _ assumptions: inout [String]
    ) throws -> PlannedRows {
        let files = RowFilesOfRun(config)
        let paths = files.training + files.heldOut.map(\.path)
        if let missing = paths.first(where: { !FileManager.default.fileExists(atPath: $0) }) {
            assumptions.append(
                "\(missing) is not there: every row has max_length = \(config.maxLength) tokens, "
                    + "all of them targets")
            return .unknown
        }
        let tokenizer = try model.makeTokenizer()
        return .known(
            files.join(try files.training.map { try files.load($0, tokenizer: tokenizer) }),
            heldOut: try files.heldOut.map { try files.load($0.path, tokenizer: tokenizer) })
    }

    /// The method and rank of the adapter to start from.
    private static func adapter(of config: FineTuneConfig) throws -> (any AdapterConfig)? {
        guard let path = config.adapter else { return nil }
        let files = try AdapterFolder.read(URL(filePath: path))
        return try AdapterMethods.readConfig(adapterConfigJSON: files.configuration)
    }
}

/// A model whose weights need not be there.
private struct PlannedModel {
    /// Its `config.json`.
    let configuration: Data
    private let folder: URL
    private let files: BaseModelFiles?

    /// Opens a GGUF file, a folder with a `config.json`, or that file alone.
    init(_ path: String) throws {
        let url = URL(filePath: path)
        if url.pathExtension == "json" {
            (files, folder) = (nil, url.deletingLastPathComponent())
            configuration = try MappedFile(url).contents()
        } else if url.hasDirectoryPath || Self.isFolder(url) {
            (files, folder) = (nil, url)
            configuration = try MappedFile(url.appending(path: "config.json")).contents()
        } else {
            let files = try BaseModelFiles.open(url)
            (self.files, folder) = (files, url)
            configuration = files.configuration
        }
    }

    private static func isFolder(_ url: URL) -> Bool {
        var isFolder: ObjCBool = false
        return FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder)
            && isFolder.boolValue
    }

    /// The tokenizer, as far as one is there.
    func makeTokenizer() throws -> Tokenizer? {
        if let files { return try files.makeTokenizer() }
        let file = folder.appending(path: "tokenizer.json")
        guard FileManager.default.fileExists(atPath: file.path) else { return nil }
        return try Tokenizer.load(folder: folder)
    }
}
