import PEFTLayers
import Torch

/// Segments of one batch that each have their own adapter, or none, on one layer.
///
/// - Source: peft 0.21.2 `tuners/lora/layer.py:LoraLayer._mixed_batch_forward`.
final class SegmentAdapters: LinearAdapter {
    private let adapters: [(any LinearAdapter)?]
    private let segments: AdaptedSegments

    /// Gives each segment its adapter; nil for the base.
    init(_ adapters: [(any LinearAdapter)?], layout: SequenceLayout, path: String) {
        self.adapters = adapters
        segments = AdaptedSegments(adapters, layout: layout, path: path)
    }

    var parameters: [Parameter] { segments.parameters }

    func changesNothing() throws(TorchError) -> Bool { try segments.changesNothing() }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        try segments.map(input, baseOutput) { index, input, output throws(TorchError) in
            guard let adapter = adapters[index] else { return try output.to(input.dtype) }
            return try adapter.apply(
                to: input, baseOutput: output, weight: weight, context: context)
        }
    }
}

/// The same on a table.
final class SegmentEmbeddingAdapters: EmbeddingAdapter {
    private let adapters: [(any EmbeddingAdapter)?]
    private let segments: AdaptedSegments

    /// Gives each segment its adapter; nil for the base.
    init(_ adapters: [(any EmbeddingAdapter)?], layout: SequenceLayout, path: String) {
        self.adapters = adapters
        segments = AdaptedSegments(adapters, layout: layout, path: path)
    }

    var parameters: [Parameter] { segments.parameters }

    func changesNothing() throws(TorchError) -> Bool { try segments.changesNothing() }

    func apply(
        to tokens: Tensor, baseOutput: Tensor, table: Tensor
    ) throws(TorchError) -> Tensor {
        try segments.map(tokens, baseOutput) { index, tokens, output throws(TorchError) in
            try adapters[index]?.apply(to: tokens, baseOutput: output, table: table) ?? output
        }
    }
}

/// Segments that follow one another, joined where the same adapter has them.
private struct AdaptedSegments {
    /// The adapters, each once.
    private let adapters: [any AdapterPart]
    /// The first segment of each run, which says its adapter, and the tokens of the run.
    private let runs: [(segment: Int, numTokens: Int)]
    private let numTokens: Int
    private let path: String

    /// Joins segments.
    ///
    /// - Parameters:
    ///   - parts: the adapter of each segment; nil for the base.
    ///   - layout: the segments.
    ///   - path: of the layer, for errors.
    init(_ parts: [(any AdapterPart)?], layout: SequenceLayout, path: String) {
        var seen: Set<ObjectIdentifier> = []
        adapters = parts.compactMap(\.self).filter {
            seen.insert(ObjectIdentifier($0)).inserted
        }
        var runs: [(segment: Int, numTokens: Int)] = []
        for (index, length) in layout.segmentLengths.enumerated() {
            if let last = runs.last, parts[last.segment] === parts[index] {
                runs[runs.count - 1].numTokens += length
            } else {
                runs.append((index, length))
            }
        }
        self.runs = runs
        self.path = path
        numTokens = layout.numTokens
    }

    /// The tensors of all adapters.
    var parameters: [Parameter] { adapters.flatMap(\.parameters) }

    /// Whether none of the adapters changes anything.
    func changesNothing() throws(TorchError) -> Bool {
        for adapter in adapters where try !adapter.changesNothing() { return false }
        return true
    }

    /// The outputs of all runs, one after the other.
    ///
    /// - Parameters:
    ///   - input: `[tokens, ...]`.
    ///   - output: of the base, `[tokens, ...]`.
    ///   - body: makes the output of a run of its part of both; gets the run's first segment.
    /// - Returns: `[tokens, ...]`.
    /// - Throws: `TorchError` for another number of tokens than the segments have: the layer is then not called with the whole batch, in
    ///   which only the rows are known.
    func map(
        _ input: Tensor, _ output: Tensor,
        _ body: (Int, Tensor, Tensor) throws(TorchError) -> Tensor
    ) throws(TorchError) -> Tensor {
        guard input.shape[0] == numTokens else {
            throw TorchError(
                operation: path, operands: [],
                message:
                    "expected the \(numTokens) tokens of the rows that adapters were activated "
                    + "for, found \(input.shape[0]); activate adapters for each batch anew, and take logits of "
                    + "all tokens")
        }
        var parts: [Tensor] = []
        var start = 0
        for run in runs {
            parts.append(
                try body(
                    run.segment, input.narrow(0, start, run.numTokens),
                    output.narrow(0, start, run.numTokens)))
            start += run.numTokens
        }
        return try .concatenated(parts)
    }
}
