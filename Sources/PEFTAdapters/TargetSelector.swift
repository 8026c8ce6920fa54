/// Chooses the layers of a model that get an adapter, the same for every method.
///
/// - Source: peft 0.21.2 `tuners/tuners_utils.py:check_target_module_exists`.
///
/// Differs from PEFT: every name, pattern and layer index must match something; PEFT leaves out silently
/// what does not.
package struct TargetSelector {
    /// `target_modules`.
    package var targets: TargetModules
    /// `exclude_modules`.
    package var excluded: TargetModules?
    /// `layers_to_transform`; empty means all.
    package var layers: [Int]
    /// `layers_pattern`; empty means any name before the layer's number.
    package var layersPattern: [String]
    /// `modules_to_save`: what is trained whole gets no adapter.
    package var trainedWhole: [String]

    /// Takes the options that all methods have.
    package init(
        targets: TargetModules, excluded: TargetModules? = nil, layers: [Int] = [],
        layersPattern: [String] = [], trainedWhole: [String] = []
    ) {
        self.targets = targets
        self.trainedWhole = trainedWhole
        self.excluded = excluded
        self.layers = layers
        self.layersPattern = layersPattern
    }
}

/// The layers that an adapter is attached to, and what each part of the configuration contributed.
package struct TargetSelection: Equatable, Sendable {
    /// Paths of the chosen layers, in the model's order.
    package var paths: [String]
    /// `target_modules` as it is written: names or a regular expression.
    package var targets: TargetModules
    /// How much each name, pattern and index matched.
    package var matches: [PatternMatch]
}

/// How many layers a name, pattern or index of the configuration applies to.
public struct PatternMatch: Equatable, Sendable {
    /// The option's key in `adapter_config.json`.
    public let option: String
    /// The name, regular expression or index.
    public let pattern: String
    /// The number of layers.
    public let numMatches: Int

    /// Records a count.
    package init(option: String, pattern: String, numMatches: Int) {
        self.option = option
        self.pattern = pattern
        self.numMatches = numMatches
    }
}

extension TargetSelector {
    /// Chooses among the model's linear layers and tables.
    ///
    /// - Parameter modules: the paths of the model's linear layers and of the modules around them.
    /// - Returns: the chosen layers.
    /// - Throws: `AdapterError.invalidConfig` for a regular expression that does not parse,
    ///   `AdapterError.unmatched` with everything that matches nothing.
    package func select(from modules: ModulePaths) throws(AdapterError) -> TargetSelection {
        let names = targets == .allLinear ? modules.allLinearNames : nil
        let patterns = try Self.matchers(
            of: names.map(TargetModules.names) ?? targets, key: "target_modules")
        var tally = Tally()
        let isExcluded = try exclusion(in: modules, tally: &tally)
        let layerIndex = try layerIndexReader(in: modules)
        for pattern in patterns { tally.declare("target_modules", pattern.text) }
        for layer in layers { tally.declare("layers_to_transform", "\(layer)") }
        var paths: [String] = []
        var existingLayers: Set<Int> = []

        for path in names == nil ? modules.targets : modules.linears {
            let matching = patterns.filter { $0.matches(path) }
            if matching.isEmpty { continue }
            let index = layerIndex(path)
            if let index { existingLayers.insert(index) }
            // A whole path is taken whatever its layer, as PEFT does.
            let isInLayers =
                layers.isEmpty || matching.contains { $0.isExact(path) }
                || index.map(layers.contains) == true
            let drop: UnmatchedPattern.Reason? =
                !isInLayers ? .outsideLayers : isExcluded(path) ? .excluded : nil
            if drop == nil { paths.append(path) }
            for pattern in matching {
                tally.count("target_modules", pattern.text, droppedBecause: drop)
            }
            if let index {
                tally.count("layers_to_transform", "\(index)", droppedBecause: drop)
            }
        }
        if names != nil { tally.removeIneffective("target_modules") }
        let existing = existingLayers.min().flatMap { low in existingLayers.max().map { low...$0 } }
        try tally.requireMatches { option, pattern in
            option == "layers_to_transform"
                ? .noSuchIndex(existing: existing)
                : .noSuchLayer(nearest: modules.nearestName(to: pattern))
        }
        if paths.isEmpty { throw .unmatched(nothingLeft(in: modules)) }
        let written = names == nil ? targets : .names(tally.effective("target_modules"))
        return TargetSelection(paths: paths, targets: written, matches: tally.matches)
    }

    /// Why no layer is left though each part of the configuration matches one.
    private func nothingLeft(in modules: ModulePaths) -> [UnmatchedPattern] {
        func unmatched(
            _ pattern: String, _ reason: UnmatchedPattern.Reason
        ) -> UnmatchedPattern {
            UnmatchedPattern(option: "target_modules", pattern: pattern, reason: reason)
        }
        switch targets {
        case .names(let names): return names.map { unmatched($0, .excluded) }
        case .regex(let text): return [unmatched(text, .excluded)]
        case .allLinear:
            if modules.linears.isEmpty {
                return [unmatched("all-linear", .noSuchLayer(nearest: nil))]
            }
            let isOnlyTheHead = modules.allLinearNames.isEmpty
            return [unmatched("all-linear", isOnlyTheHead ? .onlyTheHead : .excluded)]
        }
    }

    /// Whether a path is excluded; counts what each entry of `exclude_modules` matches.
    private func exclusion(
        in modules: ModulePaths, tally: inout Tally
    ) throws(AdapterError) -> (String) -> Bool {
        let saved = try ModulesToSave.patterns(trainedWhole)
        let patterns =
            try excluded.map { excluded throws(AdapterError) in
                try Self.matchers(of: excluded, key: "exclude_modules")
            } ?? []
        for pattern in patterns {
            tally.declare("exclude_modules", pattern.text)
            for path in modules.targets where pattern.matches(path) {
                tally.count("exclude_modules", pattern.text)
            }
        }
        return { path in
            patterns.contains { $0.matches(path) } || saved.contains { $0.matchesWhole(path) }
        }
    }

    /// Reads the layer index of a path; every entry of `layers_pattern` must find one somewhere.
    private func layerIndexReader(
        in modules: ModulePaths
    ) throws(AdapterError) -> (String) -> Int? {
        if layers.isEmpty { return { _ in nil } }
        if layersPattern.isEmpty {
            let pattern = try ModulePattern.layerIndex(after: nil)
            return pattern.index(in:)
        }
        var patterns: [ModulePattern] = []
        var tally = Tally()
        for text in layersPattern {
            let pattern = try ModulePattern.layerIndex(after: text)
            patterns.append(pattern)
            tally.declare("layers_pattern", text)
            for path in modules.targets where pattern.index(in: path) != nil {
                tally.count("layers_pattern", text)
            }
        }
        try tally.requireMatches { _, text in
            .noSuchLayer(nearest: NearestName.anyway(of: text, in: modules.listNames))
        }
        return { path in
            for pattern in patterns {
                if let index = pattern.index(in: path) { return index }
            }
            return nil
        }
    }
}

// MARK: - Names and patterns

extension TargetSelector {
    /// One name or regular expression of a selection.
    private struct Matcher {
        let text: String
        let suffix: String
        let pattern: ModulePattern?

        init(_ text: String, pattern: ModulePattern? = nil) {
            self.text = text
            self.pattern = pattern
            suffix = "." + text
        }

        func isExact(_ path: String) -> Bool { pattern != nil || path == text }

        func matches(_ path: String) -> Bool {
            if let pattern { return pattern.matchesWhole(path) }
            return path == text || path.hasSuffix(suffix)
        }
    }

    private static func matchers(
        of modules: TargetModules, key: String
    ) throws(AdapterError) -> [Matcher] {
        switch modules {
        case .names(let names):
            return names.map { Matcher($0) }
        case .regex(let text):
            let pattern = try ModulePattern.whole(text, key: key)
            return [Matcher(text, pattern: pattern)]
        case .allLinear:
            return []
        }
    }
}
