import PEFTLayers
import Torch

/// Several low-rank updates of one linear: `y = W x + Σ s_i B_i A_i dropout_i(x)`.
///
/// Without dropout they are one update of the sum of the ranks, which the layer's kernel takes as any other.
///
/// - Source: peft 0.21.2 `tuners/lora/layer.py:Linear.forward`.
///
/// Differs from PEFT: the sum is rounded to the compute dtype once.
final class SummedAdapters: LinearAdapter {
    private let adapters: [any LinearAdapter]

    /// Adds adapters that all have a low-rank term.
    init(_ adapters: [any LinearAdapter]) {
        self.adapters = adapters
    }

    var parameters: [Parameter] { adapters.flatMap(\.parameters) }

    func changesNothing() throws(TorchError) -> Bool {
        for adapter in adapters where try !adapter.changesNothing() { return false }
        return true
    }

    func apply(
        to input: Tensor, baseOutput: Tensor, weight: any LinearWeight, context: ForwardContext
    ) throws(TorchError) -> Tensor {
        let wide = try input.to(input.productDType)
        var sum = baseOutput
        for term in try terms(for: input, context: context) {
            let seen = try term.kept.map { kept throws(TorchError) in
                try wide * kept.to(wide.dtype)
            }
            let product = try (seen ?? wide).linear(term.a.to(wide.dtype))  // [tokens, r]
            let update = try (product * term.scale).linear(term.b.to(wide.dtype))
            sum = try sum + update.to(sum.dtype)
        }
        return try sum.to(input.dtype)
    }

    func lowRankTerm(
        for input: Tensor, context: ForwardContext
    ) throws(TorchError) -> LowRankTerm? {
        let terms = try terms(for: input, context: context)
        guard terms.allSatisfy({ $0.kept == nil }) else { return nil }
        var scaled: [Tensor] = []
        for term in terms { scaled.append(try term.b * term.scale) }
        return LowRankTerm(
            a: try .concatenated(terms.map(\.a), dim: 0), b: try .concatenated(scaled, dim: 1),
            scale: 1)
    }

    func merged(into weight: Tensor) throws(TorchError) -> Tensor? {
        var sum: Tensor? = weight
        for adapter in adapters {
            guard let merged = sum else { return nil }
            sum = try adapter.merged(into: merged)
        }
        return sum
    }

    private func terms(
        for input: Tensor, context: ForwardContext
    ) throws(TorchError) -> [LowRankTerm] {
        var terms: [LowRankTerm] = []
        for adapter in adapters {
            guard let term = try adapter.lowRankTerm(for: input, context: context) else { continue }
            terms.append(term)
        }
        return terms
    }
}

/// The same on a layer of several experts.
final class SummedExpertAdapters: ExpertsAdapter {
    private let adapters: [any ExpertsAdapter]

    /// Adds adapters whose experts all have a low-rank term.
    init(_ adapters: [any ExpertsAdapter]) {
        self.adapters = adapters
    }

    var parameters: [Parameter] { adapters.flatMap(\.parameters) }

    func changesNothing() throws(TorchError) -> Bool {
        for adapter in adapters where try !adapter.changesNothing() { return false }
        return true
    }

    func experts() throws(TorchError) -> [any LinearAdapter] {
        var experts: [[any LinearAdapter]] = []
        for adapter in adapters { experts.append(try adapter.experts()) }
        return experts[0].indices.map { index in SummedAdapters(experts.map { $0[index] }) }
    }
}

/// Several low-rank updates of one table: `h = E[t] + Σ s_i B_i A_i[:, t]`.
///
/// - Source: peft 0.21.2 `tuners/lora/layer.py:Embedding.forward`.
final class SummedEmbeddingAdapters: EmbeddingAdapter {
    private let adapters: [EmbeddingLoRA]

    /// Adds adapters of a table.
    ///
    /// - Throws: `AdapterError.named` for one that is more than a low-rank update.
    init(
        _ adapters: [(name: String, adapter: any EmbeddingAdapter)], path: String
    ) throws(AdapterError) {
        for (name, adapter) in adapters where !(adapter is EmbeddingLoRA) {
            throw .named(
                .notAdditive(
                    path: path, adapter: name, method: String(describing: type(of: adapter))))
        }
        self.adapters = adapters.compactMap { $0.adapter as? EmbeddingLoRA }
    }

    var parameters: [Parameter] { adapters.flatMap(\.parameters) }

    func changesNothing() throws(TorchError) -> Bool {
        for adapter in adapters where try !adapter.changesNothing() { return false }
        return true
    }

    func apply(
        to tokens: Tensor, baseOutput: Tensor, table: Tensor
    ) throws(TorchError) -> Tensor {
        var sum = try baseOutput.to(.float32)
        for adapter in adapters { sum = try sum + adapter.update(of: tokens) }
        return try sum.to(baseOutput.dtype)
    }
}

extension NamedAdapters {
    /// The adapter that adds those of a layer.
    ///
    /// - Parameters:
    ///   - adapters: two or more with their names.
    ///   - linear: the layer, perhaps of several experts.
    /// - Returns: one adapter.
    /// - Throws: `AdapterError.named` for one that is more than a low-rank update.
    static func sum(
        of adapters: [(name: String, adapter: any LinearAdapter)], on linear: Linear
    ) throws(AdapterError) -> any LinearAdapter {
        for (name, adapter) in adapters where try !isLowRank(adapter, on: linear) {
            throw .named(
                .notAdditive(
                    path: linear.path, adapter: name, method: String(describing: type(of: adapter))
                ))
        }
        let ofExperts = adapters.compactMap { $0.adapter as? any ExpertsAdapter }
        return ofExperts.count == adapters.count
            ? SummedExpertAdapters(ofExperts) : SummedAdapters(adapters.map(\.adapter))
    }

    private static func isLowRank(
        _ adapter: any LinearAdapter, on linear: Linear
    ) throws(AdapterError) -> Bool {
        let context = ForwardContext(layout: SequenceLayout(segmentLengths: [1]))
        do {
            let single = try (adapter as? any ExpertsAdapter)?.experts().first ?? adapter
            let input = try Tensor.zeros([1, linear.weight.inFeatures], on: linear.weight.device)
            return try single.lowRankTerm(for: input, context: context) != nil
        } catch {
            throw .torch(error)
        }
    }
}
