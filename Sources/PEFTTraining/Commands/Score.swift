import Foundation
import PEFTCheckpoints
import PEFTData
import PEFTLayers
import PEFTModels
package import Torch

/// Scores a file of rows: what `peft score` does.
public enum Score {
    /// The loss of every row; writes logits if they are asked for.
    ///
    /// Texts are scored as they are: every token after the first is a target, and no end token is added.
    ///
    /// - Parameter options: model, rows and where logits go.
    /// - Returns: one entry a row, in the order of the file.
    /// - Throws: an error that names what, where, expected, found and the remedy.
    public static func run(_ options: ScoreOptions) throws -> ScoreReport {
        try run(options, on: nil)
    }

    /// The same on a device that the options cannot name; nil for the one that they name.
    package static func run(_ options: ScoreOptions, on device: Device?) throws -> ScoreReport {
        let loaded = try LoadedModel(options.base, on: device)
        let dataset = try TokenDataset.load(
            URL(filePath: options.data), tokenizer: loaded.tokenizer,
            options: EncodingOptions(
                maxLength: options.maxLength, truncationMode: options.truncationMode,
                appendsEOS: false))
        try dataset.requireTokens(below: loaded.base.model.vocabularySize)
        if let path = options.logits {
            try writeLogits(of: dataset, with: loaded, to: URL(filePath: path))
        }
        return try Evaluation.score(
            dataset, with: loaded.base.model, maxRows: options.batchSize)
    }

    /// Writes `logits.<row>`, float32 `[tokens, vocabulary]`, for every row.
    private static func writeLogits(
        of dataset: TokenDataset, with loaded: LoadedModel, to url: URL
    ) throws {
        let model = loaded.base.model
        let execution = ResidentExecution()
        // Each row's logits exist while they are written, not longer.
        let tensors = dataset.sequences.map { sequence in
            let numTokens = sequence.tokens.count
            return SafetensorsTensor(
                name: "logits.\(sequence.row)", shape: [numTokens, model.vocabularySize],
                dtype: .float32
            ) {
                let context = ForwardContext(
                    layout: SequenceLayout(segmentLengths: [numTokens])
                ).reading(sequence.tokens)
                let ids = try Tensor(sequence.tokens, shape: [numTokens]).to(.int64)
                return try withoutGrad {
                    let hidden = try model.hiddenStates(
                        ids, context: context, execution: execution)
                    return try model.logits(hidden, context: context).to(.float32)
                }
            }
        }
        try SafetensorsWriter.write(tensors, to: url)
    }
}
