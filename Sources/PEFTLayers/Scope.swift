package import Torch

/// Every parameter and every adaptable layer that was made under one root, in order of construction.
public final class ModuleRegistry {
    /// Tensors other than linear weights: embeddings, norms, biases.
    public private(set) var parameters: [Parameter] = []
    /// All linear layers.
    public private(set) var linears: [Linear] = []
    /// All tables of tokens or positions.
    public private(set) var embeddings: [Embedding] = []
    /// The path of the output head, which `all-linear` leaves out.
    public private(set) var headPath: String?
    /// How adapters start where that was computed from weights before these were stored, by the paths of their layers.
    package var starts: [String: LowRankStart] = [:]
    /// Which of the files' blocks the model's are, to be said before it is made; nil for each its own.
    package var blockOrder: BlockOrder?
    private var bring: ((_ path: String) throws(TorchError) -> Void)?

    /// Makes an empty registry.
    public init() {}

    func add(_ parameter: Parameter) { parameters.append(parameter) }
    func add(_ linear: Linear) { linears.append(linear) }
    func add(_ embedding: Embedding) { embeddings.append(embedding) }
    func setHead(_ path: String) { headPath = path }

    /// Brings one of the base's tensors into memory, where it is divided over processes.
    ///
    /// For what looks at the base outside of a pass: an adapter whose start depends on it.
    ///
    /// - Throws: `TorchError` if memory does not suffice or another process fails.
    package func bringIntoMemory(_ path: String) throws(TorchError) { try bring?(path) }

    /// Says who brings the base's tensors into memory; nobody has to where all are there.
    package func isDivided(
        _ bring: @escaping (_ path: String) throws(TorchError) -> Void
    ) { self.bring = bring }

    /// The tensors that the optimizer updates, base layers first, in order of construction; what several layers share once.
    public var trainableParameters: [Parameter] {
        var seen: Set<ObjectIdentifier> = []
        let all =
            parameters.flatMap(\.trained) + embeddings.flatMap(\.trainableParameters)
            + linears.flatMap(\.trainableParameters)
        return all.filter { seen.insert(ObjectIdentifier($0)).inserted }
    }

    /// The tensors that nothing updates and that must get no gradient, tied ones once.
    public var frozenParameters: [Parameter] {
        (parameters.filter { !$0.isTrainable } + linears.flatMap(\.weight.parameters))
            .filter { $0.replacement == nil }
    }

    /// Elements of the base model, tied tensors once.
    public var numElements: Int {
        let (tensors, weights) = stored
        return tensors.reduce(0) { $0 + $1.numElements }
            + weights.reduce(0) { $0 + $1.outFeatures * $1.inFeatures }
    }

    /// Bytes of the base model in memory, tied tensors once.
    public var sizeBytes: Int {
        let (tensors, weights) = stored
        return tensors.reduce(0) { $0 + $1.sizeBytes } + weights.reduce(0) { $0 + $1.sizeBytes }
    }

    /// What the base has in memory: tied tensors, and those that copies of a block share, once.
    private var stored: (tensors: [Tensor], weights: [any LinearWeight]) {
        var seen: Set<AnyHashable> = []
        let tensors = parameters.map(\.original).filter { seen.insert($0.identity).inserted }
        let weights = linears.map(\.weight).filter { weight in
            let identity = weight.dense.map { AnyHashable($0.identity) }
            return !(weight is TiedWeight)
                && seen.insert(identity ?? AnyHashable(ObjectIdentifier(weight))).inserted
        }
        return (tensors, weights)
    }
}

extension Parameter {
    /// What the optimizer updates of it: itself, or what replaces it; nothing of a frozen tensor.
    package var trained: [Parameter] { [replacement ?? self].filter(\.isTrainable) }
}

/// A place in the module tree: a path, where tensors come from, and where they are registered.
///
/// The only way to make a parameter of a model; the path is the Hugging Face name, written once.
public struct Scope {
    /// Collects what is made.
    public let registry: ModuleRegistry
    /// Answers with tensors.
    public let source: any ParameterSource
    /// The Hugging Face path of this place; empty at the root.
    public let path: String

    /// The root of a new model.
    public init(registry: ModuleRegistry, source: any ParameterSource, path: String = "") {
        self.registry = registry
        self.source = source
        self.path = path
    }

    /// The place `scope.name`.
    public static func / (scope: Scope, name: some CustomStringConvertible) -> Scope {
        Scope(
            registry: scope.registry, source: scope.source,
            path: scope.path.isEmpty ? "\(name)" : "\(scope.path).\(name)")
    }

    /// A frozen tensor at `path.name`.
    ///
    /// - Throws: the source's error.
    public func parameter(_ name: String, shape: [Int]) throws -> Parameter {
        let path = (self / name).path
        let value = try source.tensor(at: path, shape: shape)
        let parameter = try Parameter(path: path, value: value, isTrainable: false)
        registry.add(parameter)
        return parameter
    }

    /// A linear layer at `path.name`.
    ///
    /// - Parameters:
    ///   - name: last part of the path.
    ///   - inFeatures: columns of the weight.
    ///   - outFeatures: rows of the weight.
    ///   - bias: whether the layer has one.
    /// - Returns: the registered layer.
    /// - Throws: the source's error.
    public func linear(
        _ name: String, inFeatures: Int, outFeatures: Int, bias: Bool = false
    ) throws -> Linear {
        let scope = self / name
        let weight = try source.linearWeight(
            at: (scope / "weight").path, shape: [outFeatures, inFeatures])
        let bias = bias ? try scope.parameter("bias", shape: [outFeatures]) : nil
        let layer = Linear(path: scope.path, weight: weight, bias: bias)
        registry.add(layer)
        return layer
    }

    /// The linear layers of several experts, whose weights are one tensor at `path.name`.
    ///
    /// - Parameters:
    ///   - name: the parameter's name, last part of the path: there is no module of that name.
    ///   - numExperts: experts.
    ///   - inFeatures: columns of an expert's weight.
    ///   - outFeatures: rows of an expert's weight.
    ///   - moduleNames: see ``TargetParameter/moduleNames``.
    /// - Returns: the registered layer, of `numExperts * outFeatures` rows; see ``Linear/experts(context:)``.
    /// - Throws: the source's error.
    public func experts(
        _ name: String, numExperts: Int, inFeatures: Int, outFeatures: Int, moduleNames: [String]
    ) throws -> Linear {
        let path = (self / name).path
        let weight = try source.linearWeight(
            at: path, shape: [numExperts, outFeatures, inFeatures])
        let layer = Linear(
            path: path, weight: weight,
            parameter: TargetParameter(
                path: path, numExperts: numExperts, moduleNames: moduleNames))
        registry.add(layer)
        return layer
    }

    /// The router of a mixture of experts at `path.name`: never quantized, since Hugging Face's is no linear layer.
    ///
    /// - Parameters:
    ///   - name: last part of the path.
    ///   - inFeatures: columns of the weight.
    ///   - numExperts: rows of the weight.
    ///   - moduleNames: see ``TargetParameter/moduleNames``.
    /// - Returns: the registered layer.
    /// - Throws: the source's error.
    public func router(
        _ name: String, inFeatures: Int, numExperts: Int, moduleNames: [String]
    ) throws -> Linear {
        let path = (self / name / "weight").path
        let layer = Linear(
            path: (self / name).path, weight: try denseWeight(path, [numExperts, inFeatures]),
            parameter: TargetParameter(path: path, moduleNames: moduleNames))
        registry.add(layer)
        return layer
    }

    /// The output head at `path.name`: a linear of its own, or tied to the embedding; never quantized.
    ///
    /// - Throws: the source's error.
    public func head(_ name: String, tiedTo embedding: Parameter?, shape: [Int]) throws -> Linear {
        let scope = self / name
        registry.setHead(scope.path)
        let layer = Linear(path: scope.path, weight: try scope.headWeight(embedding, shape))
        registry.add(layer)
        return layer
    }

    private func headWeight(
        _ embedding: Parameter?, _ shape: [Int]
    ) throws -> any LinearWeight {
        let path = (self / "weight").path
        if let embedding { return try TiedWeight(embedding, as: path) }
        return try denseWeight(path, shape)
    }

    private func denseWeight(_ path: String, _ shape: [Int]) throws -> DenseWeight {
        let value = try source.tensor(at: path, shape: shape)
        return DenseWeight(try Parameter(path: path, value: value, isTrainable: false))
    }

    /// Makes a decoder block and notes what belongs to it.
    ///
    /// - Throws: what `make` throws.
    public func unit<Block>(
        _ name: some CustomStringConvertible, _ make: (Scope) throws -> Block
    ) throws -> (block: Block, unit: ModuleUnit) {
        let scope = self / name
        let firstParameter = registry.parameters.count
        let firstLinear = registry.linears.count
        let block = try make(scope)
        let unit = ModuleUnit(
            path: scope.path, parameters: Array(registry.parameters[firstParameter...]),
            linears: Array(registry.linears[firstLinear...]))
        return (block, unit)
    }
}
