package import PEFTLayers
package import Torch

/// EVA: A starts as the principal components of what enters its layer, and ranks go where components explain most.
///
/// Each component has its share in the variance of its layer's input. Of all components of all layers the largest shares are kept, as many as the
/// ranks that were asked for together; so some layers get a larger rank, and some none. B starts as zero, and the base stays as it is.
///
/// - Source: Paischer et al. 2024, "Parameter Efficient Fine-tuning via Explained Variance Adaptation"; peft 0.21.2
///   `tuners/lora/eva.py:_get_eva_state_dict, _load_eva_state_dict`.
package struct EVA {
    private let targets: [LoRATarget]
    private let options: EVAConfig
    /// For each layer the first one that has the same input, which is itself for most.
    private let firstOfInput: [Int]
    private let maxRanks: [Int]
    private let budget: Int
    private var analyses: [Int: IncrementalPCA] = [:]
    /// Whether each component of an input has been found.
    private var isFound: [Int: [Bool]] = [:]
    private var ranks: [Int]

    /// Prepares the search.
    ///
    /// - Parameters:
    ///   - targets: the layers.
    ///   - firstOfInput: for each layer the index of the first one that has the same input.
    ///   - options: EVA's.
    package init(_ targets: [LoRATarget], firstOfInput: [Int], options: EVAConfig) {
        self.targets = targets
        self.firstOfInput = firstOfInput
        self.options = options
        let own = targets.map { Int((Double($0.rank) * options.rho).rounded(.toNearestOrEven)) }
        maxRanks = targets.indices.map { index in
            targets.indices.filter { firstOfInput[$0] == firstOfInput[index] }
                .map { own[$0] }.max() ?? own[index]
        }
        ranks = maxRanks
        budget = targets.reduce(0) { $0 + $1.rank }
        for index in Set(firstOfInput) {
            analyses[index] = IncrementalPCA(numComponents: maxRanks[index])
            isFound[index] = Array(repeating: false, count: maxRanks[index])
        }
    }

    /// The largest rank that a layer may get.
    package func maxRank(of index: Int) -> Int { maxRanks[index] }

    /// The layers whose input is still to be looked at: those with a component of their rank that has not been found.
    package var open: [Int] {
        analyses.keys.filter { index in
            isFound[index]?.prefix(ranks[index]).contains(false) ?? false
        }.sorted()
    }

    /// The layers that have had no batch of enough rows yet.
    package var untouched: [Int] {
        analyses.keys.filter { analyses[$0]?.components == nil }.sorted()
    }

    /// Takes in the input of one of the ``open`` layers; fewer rows than its largest rank are left out.
    ///
    /// - Parameters:
    ///   - rows: `[n, inFeatures]`, any float dtype.
    ///   - index: the layer.
    /// - Throws: `TorchError` if memory does not suffice.
    package mutating func add(_ rows: Tensor, to index: Int) throws(TorchError) {
        guard var analysis = analyses[index], rows.shape[0] >= analysis.numComponents else {
            return
        }
        let earlier = analysis.components
        try analysis.add(try rows.to(.float32))
        analyses[index] = analysis
        guard let earlier else { return }
        isFound[index] = try analysis.similarity(to: earlier).map { $0 >= options.tau }
    }

    /// Divides the ranks anew; called after each batch.
    package mutating func divideRanks() {
        guard untouched.isEmpty else { return }
        // Layers with an input of their own come first, as in PEFT: of equal shares the first ones are kept.
        let order =
            targets.indices.filter { firstOfInput[$0] == $0 }
            + targets.indices.filter { firstOfInput[$0] != $0 }
        let shares = order.flatMap { layer in
            (analyses[firstOfInput[layer]]?.explainedVarianceRatio ?? [])
                .map { (layer: layer, share: $0) }
        }
        let kept = shares.enumerated()
            .sorted { ($1.element.share, $0.offset) < ($0.element.share, $1.offset) }
            .prefix(budget)
        var counts = Array(repeating: 0, count: targets.count)
        for (_, element) in kept { counts[element.layer] += 1 }
        for layer in targets.indices where firstOfInput[layer] != layer {
            let first = firstOfInput[layer]
            if counts[first] < counts[layer] { counts.swapAt(first, layer) }
        }
        ranks = counts
    }

    /// What was found.
    ///
    /// - Parameters:
    ///   - config: what was asked for.
    ///   - linears: the layers, in the order of the targets.
    /// - Returns: the configuration with the ranks that were found, and without the layers that got none; a start for each of the others.
    /// - Throws: `TorchError` if memory does not suffice.
    package func result(
        _ config: LoRAConfig, _ linears: [Linear]
    ) throws(TorchError) -> (config: LoRAConfig, starts: [String: LowRankStart]) {
        var result = config
        (result.rankPattern, result.alphaPattern) = ([:], [:])
        var starts: [String: LowRankStart] = [:]
        for (index, target) in targets.enumerated() where ranks[index] > 0 {
            let rank = ranks[index]
            guard let analysis = analyses[firstOfInput[index]],
                let components = analysis.components, let values = analysis.singularValues
            else { continue }
            var a = try components.narrow(0, 0, rank)
            if options.whiten {
                a = try a / values.narrow(0, 0, rank).sqrt().reshape([-1, 1])
            }
            let alpha =
                options.adjustScalingFactors
                ? target.alpha * Double(rank) / Double(target.rank) : target.alpha
            if rank != config.r { result.rankPattern[target.path] = rank }
            if alpha != config.loraAlpha { result.alphaPattern[target.path] = alpha }
            let found = LoRATarget(
                path: target.path, rank: rank, alpha: alpha, useRslora: config.useRslora)
            let update = LowRankUpdate(
                a: try a.to(.float32).contiguous(),
                b: try Tensor.zeros([linears[index].weight.outFeatures, rank]),
                scaling: found.scaling)
            starts[target.path] = LowRankStart(update: update, subtracted: nil)
        }
        if starts.count < targets.count {
            result.targetModules = .names(targets.map(\.path).filter { starts[$0] != nil })
        }
        return (result, starts)
    }
}
