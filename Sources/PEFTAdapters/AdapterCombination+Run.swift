public import Torch

/// An adapter that is combined with others.
public struct WeightedAdapter {
    /// What errors call it, such as its folder.
    public let name: String
    /// Its configuration.
    public let config: any AdapterConfig
    /// Its tensors, by their names in the file.
    public let tensors: [String: Tensor]
    /// Its weight; negative ones take away.
    public let weight: Double

    /// Describes an adapter.
    public init(
        name: String, config: any AdapterConfig, tensors: [String: Tensor], weight: Double
    ) {
        self.name = name
        self.config = config
        self.tensors = tensors
        self.weight = weight
    }
}

/// An adapter made of others.
public struct CombinedAdapter {
    /// Its configuration: of the first adapter, with the new rank and an alpha that makes the scaling 1.
    public let config: LoRAConfig
    /// Its tensors in float32, by their names in the file.
    public let tensors: [String: Tensor]
    /// The paths of its layers, sorted.
    public let paths: [String]
}

extension AdapterCombination {
    /// Combines adapters of one base model.
    ///
    /// - Parameter adapters: LoRA of linears and embeddings; a layer that some of them do not have is combined of the others.
    /// - Returns: the adapter.
    /// - Throws: ``CombinationError``.
    /// - Memory: the adapters in float32; for types with `_svd`, and for `svd` with a clamp, a layer's weight in float32 a few times
    ///   for each adapter.
    ///
    /// Differs from PEFT: the new adapter has the scaling 1 with rsLoRA, too, where PEFT's has √rank and so another product than
    /// was asked for; layers that no common selection names are listed by their paths; types that sum matrices refuse
    /// rank patterns, of which PEFT writes a file that it cannot read; an adapter that trains more than two matrices a layer is refused,
    /// where PEFT leaves the rest out.
    public func run(_ adapters: [WeightedAdapter]) throws(CombinationError) -> CombinedAdapter {
        let generator = try torch { () throws(TorchError) in try Generator(seed: seed) }
        return try run(adapters) { shape, density throws(TorchError) in
            try Tensor.bernoulli(shape, probability: density, generator: generator)
        }
    }

    /// The same with a draw of one's own of what `dare` keeps: layer by layer in the order of their paths, of types without `_svd`
    /// first for A and then for B, adapter by adapter.
    package func run(
        _ adapters: [WeightedAdapter],
        keeping kept: @escaping (_ shape: [Int], _ density: Double) throws(TorchError) -> Tensor
    ) throws(CombinationError) -> CombinedAdapter {
        try validate()
        guard !adapters.isEmpty, adapters.count > 1 || type == .linear else {
            throw .tooFewAdapters(count: adapters.count, type: type)
        }
        var members: [LoRAFactors] = []
        for adapter in adapters { members.append(try LoRAFactors(adapter)) }
        let rank = try newRank(members)
        let paths = Set(members.flatMap(\.layers.keys)).sorted()
        let arithmetic = TaskArithmetic(combination: self, kept: kept)
        var tensors: [String: Tensor] = [:]
        for path in paths {
            let layers = try Self.layers(at: path, of: members)
            let isFinite = try torch { () throws(TorchError) -> Bool in
                let result = try combine(layers, rank: rank, arithmetic)
                tensors[layers[0].nameA] = result.right
                tensors[layers[0].nameB] = result.left
                let (left, right) = (try result.left.allFinite(), try result.right.allFinite())
                return left && right
            }
            guard isFinite else { throw .notFinite(path: path) }
        }
        return CombinedAdapter(
            config: LoRAConfig(combining: members.map(\.config), rank: rank, paths: paths),
            tensors: tensors, paths: paths)
    }

    /// Checks the values, without adapters.
    ///
    /// - Throws: ``CombinationError/invalid(option:expected:found:)``.
    public func validate() throws(CombinationError) {
        func require(
            _ option: String, _ isValid: Bool, _ expected: String, _ found: String?
        ) throws(CombinationError) {
            guard !isValid else { return }
            throw .invalid(option: option, expected: expected, found: found ?? "none")
        }
        let name = type.rawValue
        let share = "a number above 0, at most 1"
        let isShare = density.map { $0 > 0 && $0 <= 1 } ?? false
        try require(
            "density", type.prunes ? isShare : density == nil,
            type.prunes ? share : "none with type \(name), which leaves nothing out",
            density.map { "\($0)" })
        try require(
            "majority_sign_method", type.electsSigns || majoritySignMethod == .total,
            "none with type \(name), which elects no signs", majoritySignMethod.rawValue)
        try require(
            "svd_rank", svdRank.map { type.splitsProducts && $0 >= 1 } ?? true,
            type.splitsProducts
                ? "at least 1" : "none with type \(name), which has no rank to choose",
            svdRank.map { "\($0)" })
        try require(
            "svd_clamp", svdClamp.map { type.splitsProducts && $0 > 0 && $0 <= 1 } ?? true,
            type.splitsProducts ? share : "none with type \(name), which splits no product",
            svdClamp.map { "\($0)" })
    }

    // MARK: - One layer

    /// The layer as all adapters that have it do.
    private static func layers(
        at path: String, of members: [LoRAFactors]
    ) throws(CombinationError) -> [LoRAFactors.Layer] {
        let having = members.compactMap { member in
            member.layers[path].map { (name: member.name, layer: $0) }
        }
        for other in having.dropFirst() where other.layer.size != having[0].layer.size {
            throw .shapes(
                path: path, adapter: other.name, found: other.layer.size, first: having[0].name,
                expected: having[0].layer.size)
        }
        return having.map(\.layer)
    }

    /// The rank of the new adapter.
    private func newRank(_ members: [LoRAFactors]) throws(CombinationError) -> Int {
        // PEFT, too, makes room for the largest rank of each adapter.
        let largest = members.map { $0.layers.values.map(\.rank).max() ?? 0 }
        if type.splitsProducts { return svdRank ?? largest.max() ?? 0 }
        if type == .cat { return largest.reduce(0, +) }
        let found = members.map { member in
            (member.name, Set(member.layers.values.map(\.rank)).sorted())
        }
        guard Set(found.flatMap(\.1)).count == 1 else {
            throw .ranks(
                type: type,
                found: found.map { name, ranks in
                    "\(ranks.map { "\($0)" }.joined(separator: " and ")) in \(name)"
                })
        }
        return largest[0]
    }

    /// B (left) and A (right) of the new layer.
    private func combine(
        _ layers: [LoRAFactors.Layer], rank: Int, _ arithmetic: TaskArithmetic
    ) throws(TorchError) -> SplitMatrix {
        if type.splitsProducts { return try split(layers, rank: rank, arithmetic) }
        guard type == .cat else { return try sum(layers, arithmetic) }
        let (left, right) = try concatenated(layers)
        return SplitMatrix(
            left: try padded(left, 1, to: rank), right: try padded(right, 0, to: rank))
    }

    /// The matrices side by side; weight and scaling go with A.
    private func concatenated(
        _ layers: [LoRAFactors.Layer]
    ) throws(TorchError) -> (left: Tensor, right: Tensor) {
        var parts: [Tensor] = []
        for layer in layers { parts.append(try layer.a * layer.weight * layer.scaling) }
        return (
            try .concatenated(layers.map(\.b), dim: 1), try .concatenated(parts, dim: 0)
        )
    }

    /// Sums of A and of B: each gets the root of weight and scaling, and A the sign.
    private func sum(
        _ layers: [LoRAFactors.Layer], _ arithmetic: TaskArithmetic
    ) throws(TorchError) -> SplitMatrix {
        let factors = layers.map { $0.weight * $0.scaling }
        let roots = factors.map { $0.magnitude.squareRoot() }
        let right = try arithmetic(
            layers.map(\.a), weights: zip(factors, roots).map { $0 < 0 ? -$1 : $1 })
        return SplitMatrix(left: try arithmetic(layers.map(\.b), weights: roots), right: right)
    }

    /// The sum of the products, split again.
    private func split(
        _ layers: [LoRAFactors.Layer], rank: Int, _ arithmetic: TaskArithmetic
    ) throws(TorchError) -> SplitMatrix {
        let ranks = layers.map(\.rank).reduce(0, +)
        if type == .svd, svdClamp == nil, ranks < (layers[0].size.min() ?? 0) {
            let (left, right) = try concatenated(layers)
            return try SplitMatrix(productOf: left, right, rank: rank)
        }
        var products: [Tensor] = []
        for layer in layers { products.append(try layer.b.matmul(layer.a) * layer.scaling) }
        let sum = try arithmetic(products, weights: layers.map(\.weight))
        let split = try SplitMatrix(sum, rank: rank)
        return try svdClamp.map { clamp throws(TorchError) in try split.clamped(to: clamp) }
            ?? split
    }

    /// The result of tensor operations.
    private func torch<Result>(
        _ body: () throws(TorchError) -> Result
    ) throws(CombinationError) -> Result {
        do {
            return try body()
        } catch {
            throw .torch(error)
        }
    }
}
