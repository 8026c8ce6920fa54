/// A layer that gets a LoRA, with the values that hold for it.
public struct LoRATarget: Equatable, Sendable {
    /// The layer's path, such as `model.layers.0.self_attn.q_proj`.
    public let path: String
    /// The rank.
    public let rank: Int
    /// The numerator of the scaling.
    public let alpha: Double
    /// The factor of the product `B A`: `alpha / rank`, or `alpha / √rank` with rsLoRA.
    public let scaling: Double

    /// Computes the scaling of a layer.
    public init(path: String, rank: Int, alpha: Double, useRslora: Bool = false) {
        self.path = path
        self.rank = rank
        self.alpha = alpha
        scaling = alpha / (useRslora ? Double(rank).squareRoot() : Double(rank))
    }
}

/// A LoRA configuration applied to the names of one model.
package struct LoRATargets: Equatable, Sendable {
    /// The layers that get a LoRA, in the model's order.
    package let targets: [LoRATarget]
    /// The parameters that get one, in the order in which they were given.
    package let parameterTargets: [LoRATarget]
    /// The configuration with `all-linear` written as names.
    package let config: LoRAConfig
    /// How much each name, pattern and index matched.
    package let matches: [PatternMatch]
}

extension LoRAConfig {
    /// Finds the layers that get a LoRA, with rank, alpha and scaling of each.
    ///
    /// - Parameters:
    ///   - modules: the names in the model.
    ///   - parameters: paths of parameters that get one too.
    /// - Returns: the layers and parameters.
    /// - Throws: `AdapterError.invalidConfig` as `validate()`; `AdapterError.unmatched` with each name, pattern and
    ///   index that matches nothing.
    ///
    /// Differs from PEFT: of several keys of `rank_pattern` or `alpha_pattern` that match one layer, the first in sorted order
    /// holds. PEFT takes the first as given, but sorts them when it writes the file, so after reading it back it agrees.
    package func resolve(
        in modules: ModulePaths, parameters: [String] = []
    ) throws(AdapterError) -> LoRATargets {
        try validate()
        let selector = TargetSelector(
            targets: targetModules ?? .names([]), excluded: excludeModules,
            layers: layersToTransform?.values ?? [],
            layersPattern: layersPattern?.values.filter { !$0.isEmpty } ?? [],
            trainedWhole: modulesToSave ?? [])
        let hasModules = targetModules != nil && targetModules != .names([])
        let selection =
            hasModules
            ? try selector.select(from: modules)
            : TargetSelection(paths: [], targets: .names([]), matches: [])
        let paths = selection.paths + parameters
        var tally = Tally()
        let ranks = try Self.values(
            of: rankPattern, key: "rank_pattern", for: paths, tally: &tally)
        let alphas = try Self.values(
            of: alphaPattern, key: "alpha_pattern", for: paths, tally: &tally)
        try tally.requireMatches { key, text in
            let pattern = try? ModulePattern.suffix(text, key: key)
            if let example = modules.targets.first(where: { pattern?.matchesWhole($0) == true }) {
                return .notTargeted(example: example)
            }
            return .noSuchLayer(nearest: modules.nearestName(to: text))
        }
        let targets = zip(paths, zip(ranks, alphas)).map { path, values in
            LoRATarget(
                path: path, rank: values.0 ?? r, alpha: values.1 ?? loraAlpha, useRslora: useRslora)
        }
        var config = self
        config.targetModules = selection.targets
        let numModules = selection.paths.count
        return LoRATargets(
            targets: Array(targets.prefix(numModules)),
            parameterTargets: Array(targets.dropFirst(numModules)), config: config,
            matches: selection.matches + tally.matches)
    }

    /// The value of the first matching key, for each path.
    static func values<Value>(
        of option: [String: Value], key: String, for paths: [String], tally: inout Tally
    ) throws(AdapterError) -> [Value?] {
        var patterns: [(text: String, value: Value, pattern: ModulePattern)] = []
        for (text, value) in option.sorted(by: {
            $0.key.unicodeScalars.lexicographicallyPrecedes($1.key.unicodeScalars)
        }) {
            let pattern = try ModulePattern.suffix(text, key: key)
            patterns.append((text, value, pattern))
            tally.declare(key, text)
        }
        return paths.map { path in
            let matching = patterns.filter { $0.pattern.matchesWhole(path) }
            guard let first = matching.first else { return nil }
            tally.count(key, first.text)
            for other in matching.dropFirst() {
                tally.count(key, other.text, droppedBecause: .shadowed(by: first.text))
            }
            return first.value
        }
    }
}
