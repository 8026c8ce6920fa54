import Foundation
import PEFTData
import PEFTTokenizers

/// The files of rows that a run reads.
struct RowFilesOfRun {
    /// Held-out rows, and the name by which they are told apart; nil where there is one file.
    struct HeldOut {
        let name: String?
        let path: String
    }

    private let config: FineTuneConfig

    /// Finds them in a valid configuration.
    init(_ config: FineTuneConfig) { self.config = config }

    /// The training files, in order.
    var training: [String] {
        config.data.isEmpty ? config.dataset.sources.map(\.path) : [config.data]
    }

    /// The held-out files, by name.
    var heldOut: [HeldOut] {
        let named = config.evalDataset.sorted { $0.key < $1.key }
        return (config.evalData.map { [HeldOut(name: nil, path: $0)] } ?? [])
            + named.map { HeldOut(name: $0.key, path: $0.value) }
    }

    /// Reads and encodes one file.
    ///
    /// - Throws: `DatasetError`.
    func load(_ path: String, tokenizer: Tokenizer?) throws(DatasetError) -> TokenDataset {
        try TokenDataset.load(
            URL(filePath: path), tokenizer: tokenizer, options: config.encoding)
    }

    /// The training rows of all files.
    func join(_ datasets: [TokenDataset]) -> TokenDataset {
        TokenDataset.joined(datasets, weights: config.dataset.weights)
    }
}

/// Rows that the model is scored on.
struct HeldOutRows {
    /// What tells them apart; nil where there is one file.
    let name: String?
    /// The rows.
    let rows: TokenDataset
}
