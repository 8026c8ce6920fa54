import PEFTLayers

/// The modules of a model that are trained whole, by the names of `modules_to_save`.
///
/// - Source: peft 0.21.2 `utils/other.py:_set_trainable`: a module is one whose path ends with a name, wherever the name begins, so `norm` is
///   `input_layernorm`, too.
struct ModulesToSave {
    /// One tensor of a module that is trained whole.
    struct Slot {
        /// Its path, such as `model.norm.weight`.
        let path: String
        /// The base's tensor.
        let base: Parameter
        /// The path of its layer.
        var layer: String { ModulesToSave.modules(around: path).first ?? path }
    }

    /// The tensors, in the model's order.
    private(set) var slots: [Slot] = []
    /// How many modules each name applies to.
    private(set) var matches: [PatternMatch] = []

    /// Finds the tensors.
    ///
    /// - Throws: `AdapterError.unmatched` with each name that no module has; `AdapterError.invalidConfig` for a layer whose weight is
    ///   codes.
    init(_ names: [String], in registry: ModuleRegistry) throws(AdapterError) {
        guard !names.isEmpty else { return }
        let tensors = Self.tensors(of: registry)
        let modules = Set(tensors.flatMap { Self.modules(around: $0.path) })
        var tally = Tally()
        var chosen: Set<String> = []
        for name in names {
            tally.declare("modules_to_save", name)
            for module in modules where module.hasSuffix(name) {
                tally.count("modules_to_save", name)
                chosen.insert(module)
            }
        }
        try tally.requireMatches { _, name in
            .noSuchModule(
                nearest: NearestName.anyway(
                    of: name, in: Set(modules.flatMap(ModulePaths.suffixes(of:))).sorted()))
        }
        matches = tally.matches
        var problems: [AdapterConfigProblem] = []
        for (path, base) in tensors
        where Self.modules(around: path).contains(where: chosen.contains) {
            if let base {
                slots.append(Slot(path: path, base: base))
            } else {
                problems.append(
                    .unsuitableLayer(
                        key: "modules_to_save", path: path, reason: "is stored in quantized codes",
                        remedy: "name modules that are not quantized, or quantize nothing"))
            }
        }
        if !problems.isEmpty { throw .invalidConfig(problems) }
    }

    /// What `target_modules` leaves out, since it is trained whole.
    ///
    /// - Source: peft 0.21.2 `tuners/tuners_utils.py:check_target_module_exists`.
    static func patterns(_ names: [String]) throws(AdapterError) -> [ModulePattern] {
        try names.map { name throws(AdapterError) in
            try ModulePattern.whole(#"(?:.*\.)?\#(name)(?:\..*)?"#, key: "modules_to_save")
        }
    }

    /// Every tensor of the model, nil for codes.
    private static func tensors(of registry: ModuleRegistry) -> [(path: String, base: Parameter?)] {
        registry.parameters.map { ($0.path, $0) }
            + registry.linears.map { linear in
                let base = linear.weight.replaceable
                return (base?.path ?? linear.path + ".weight", base)
            }
    }

    /// The paths of the modules that a tensor is in, the innermost first.
    fileprivate static func modules(around path: String) -> [String] {
        var modules: [String] = []
        var module = path[...]
        while let dot = module.lastIndex(of: ".") {
            module = module[..<dot]
            modules.append(String(module))
        }
        return modules
    }
}
