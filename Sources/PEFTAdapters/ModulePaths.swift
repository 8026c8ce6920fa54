/// The names in a model that an adapter's configuration can refer to.
package struct ModulePaths: Sendable {
    /// Paths of the linear layers that can have an adapter, in the model's order.
    package let linears: [String]
    /// Paths of the tables of tokens or positions, which `all-linear` leaves out.
    package let embeddings: [String]
    /// The path of the output head, which `all-linear` leaves out.
    package let outputHead: String?
    /// Paths of all modules that are not linear.
    package let others: Set<String>

    /// Collects the names.
    ///
    /// - Parameters:
    ///   - linears: paths of the linear layers that can have an adapter, in the model's order.
    ///   - embeddings: paths of the tables that can have an adapter.
    ///   - outputHead: the path of the output head.
    ///   - parameters: paths of all parameters; they tell which modules exist besides.
    package init(
        linears: [String], embeddings: [String] = [], outputHead: String? = "lm_head",
        parameters: [String] = []
    ) {
        self.linears = linears
        self.embeddings = embeddings
        self.outputHead = outputHead
        var others: Set<String> = []
        for path in linears + parameters {
            var module = path[...]
            while let dot = module.lastIndex(of: ".") {
                module = module[..<dot]
                others.insert(String(module))
            }
        }
        self.others = others.subtracting(linears)
    }

    /// All layers that can have an adapter, in the model's order.
    var targets: [String] { embeddings + linears }

    /// Names before a layer's number: `layers`, `model.layers`.
    var listNames: [String] {
        others.compactMap { path in
            guard let dot = path.lastIndex(of: "."), Int(path[dot...].dropFirst()) != nil else {
                return nil
            }
            return String(path[..<dot].split(separator: ".").last ?? "")
        }
    }

    /// The nearest name, among all ends of the linears' paths.
    func nearestName(to pattern: String) -> String? {
        let candidates = Set(targets.flatMap(Self.suffixes(of:))).sorted()
        let name = pattern.replacing("\\", with: "")
        return NearestName.of(name, in: candidates) ?? NearestName.anyway(of: name, in: candidates)
    }

    /// The ends of a path, the shortest first: `q_proj`, `self_attn.q_proj`, ...
    static func suffixes(of path: String) -> [String] {
        let parts = path.split(separator: ".")
        return parts.indices.reversed().map { parts[$0...].joined(separator: ".") }
    }
}

// MARK: - all-linear

extension ModulePaths {
    /// `all-linear` as names: the fewest and shortest ends that tell all linears but the head from other modules.
    ///
    /// - Source: peft 0.21.2 `tuners/tuners_utils.py:_maybe_include_all_linear_layers` and
    ///   `_find_minimal_target_modules`.
    ///
    /// Differs from PEFT: shortens the names always, where PEFT does from 20 names on.
    package var allLinearNames: [String] {
        let targets = linears.filter { $0 != outputHead }
        var taken = Set(others.flatMap(Self.suffixes(of:)))
        if let outputHead { taken.formUnion(Self.suffixes(of: outputHead)) }
        let sorted = targets.map(Self.suffixes(of:)).sorted {
            $0.lexicographicallyPrecedes($1)
        }
        var names: [String] = []
        for suffixes in sorted {
            guard let path = suffixes.last, !names.contains(where: { path.hasSuffix("." + $0) })
            else { continue }
            if let name = suffixes.first(where: { !taken.contains($0) && !names.contains($0) }) {
                names.append(name)
            }
        }
        return names.sorted()
    }
}
