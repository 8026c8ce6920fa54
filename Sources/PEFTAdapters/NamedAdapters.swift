public import PEFTLayers
public import Torch

/// Several adapters of one model, by name: one, several at once, or each row of a batch with its own.
///
/// Every adapter is made as if it were alone. Those that are active are attached to the layers; the others only wait in memory. So a
/// layer with one active adapter computes as a layer that has no other, fused kernels included, and what is trained are the active
/// adapters that were added as trainable.
///
/// - Source: peft 0.21.2 `peft_model.py:PeftModel.add_adapter`, `set_adapter`, `delete_adapter`; `tuners/lora/layer.py:Linear.forward`,
///   `_mixed_batch_forward`; `utils/hotswap.py`.
///
/// Differs from PEFT: a new adapter is not active until it is activated; several can be active on one layer if all are low-rank
/// updates, where PEFT applies DoRA to the base's output one after the other; DoRA is allowed in batches of several adapters.
public final class NamedAdapters {
    /// The name that stands for the base model, where each row of a batch has its own adapter.
    public static let baseName = "__base__"

    /// What is active.
    private enum Activity {
        case adapters([String])
        case segments([String], SequenceLayout)
    }

    /// One adapter: what it puts on which layer.
    @dynamicMemberLookup
    private struct Member {
        let name: String
        let set: AdapterSet
        let attached: Attached

        subscript<Value>(dynamicMember path: KeyPath<Attached, Value>) -> Value {
            attached[keyPath: path]
        }
    }

    /// What is on the layers of the model, and in the place of its tensors.
    private struct Attached {
        var linears: [ObjectIdentifier: any LinearAdapter] = [:]
        var embeddings: [ObjectIdentifier: any EmbeddingAdapter] = [:]
        var replacements: [ObjectIdentifier: Parameter] = [:]
    }

    private let registry: ModuleRegistry
    /// Every tensor of the base that an adapter may take the place of, once.
    private let replaceable: [Parameter]
    private var members: [Member] = []
    private var activity = Activity.adapters([])

    /// Prepares a model.
    ///
    /// - Parameter registry: the layers of a model without adapter, whole in this process.
    /// - Throws: `AdapterError.named` if the model has an adapter.
    public init(of registry: ModuleRegistry) throws(AdapterError) {
        self.registry = registry
        var seen: Set<ObjectIdentifier> = []
        replaceable = (registry.parameters + registry.linears.compactMap(\.weight.replaceable))
            .filter { seen.insert(ObjectIdentifier($0)).inserted }
        let adapted =
            registry.linears.first { $0.adapter != nil }?.path
            ?? registry.embeddings.first { $0.adapter != nil }?.path
            ?? replaceable.first { $0.replacement != nil }?.path
        if let adapted { throw .named(.foreign(path: adapted)) }
    }

    /// The adapters' names, in the order in which they were added.
    public var names: [String] { members.map(\.name) }

    /// The names of the adapters that are active, summed or by row; none for the base alone.
    public var active: [String] {
        switch activity {
        case .adapters(let names): names
        case .segments(let names, _): names
        }
    }

    /// What an adapter trains, and what is written of it.
    ///
    /// - Throws: `AdapterError.named` for an unknown name.
    public func adapter(_ name: String) throws(AdapterError) -> AdapterSet {
        members[try index(of: name)].set
    }

    // MARK: - Adding and removing

    /// Adds an adapter; which are active does not change.
    ///
    /// - Parameters:
    ///   - name: that no other has.
    ///   - config: targets, rank, scaling.
    ///   - tensors: its numbers by their names in a file; nil starts it anew.
    ///   - seed: of the initialization.
    ///   - isTrainable: whether it is trained while it is active.
    /// - Returns: what was added.
    /// - Throws: `AdapterError`; nothing is added then.
    @discardableResult
    public func add(
        _ name: String, _ config: any AdapterConfig, tensors: [String: Tensor]? = nil,
        seed: UInt64 = 0, isTrainable: Bool = false
    ) throws -> AdapterSet {
        try add(name, config, seed: seed, isTrainable: isTrainable) { set in
            if let tensors { try set.load(tensors) }
        }
    }

    /// The same with numbers that `fill` puts in.
    package func add(
        _ name: String, _ config: any AdapterConfig, seed: UInt64 = 0, isTrainable: Bool,
        filling fill: (AdapterSet) throws -> Void
    ) throws -> AdapterSet {
        guard name != Self.baseName, !names.contains(name) else {
            throw AdapterError.named(.nameTaken(name))
        }
        let member = try make(name, config, seed: seed, isTrainable: isTrainable, fill)
        members.append(member)
        return member.set
    }

    /// Removes an adapter, which is then not active either.
    ///
    /// - Throws: `AdapterError.named` for an unknown name, or one of a row of the batch that is being run.
    public func remove(_ name: String) throws(AdapterError) {
        let index = try index(of: name)
        let remaining: Activity =
            switch activity {
            case .adapters(let names): .adapters(names.filter { $0 != name })
            case .segments(let names, _) where names.contains(name): .adapters([])
            case .segments: activity
            }
        try attach(remaining)
        members.remove(at: index)
    }

    /// Puts other numbers in the place of an adapter's: those of a file of the same layers; ranks and scaling are the new ones.
    ///
    /// - Parameters:
    ///   - name: of an adapter; it stays active if it was.
    ///   - config: of the same method.
    ///   - tensors: under the same names.
    ///   - isTrainable: whether it is trained while it is active.
    /// - Throws: `AdapterError`; the adapter stays as it was then.
    ///
    /// Differs from PEFT: dropout, rsLoRA and patterns may differ too, since the layers' adapters are made anew; nothing is padded.
    public func swap(
        _ name: String, _ config: any AdapterConfig, tensors: [String: Tensor],
        isTrainable: Bool = false
    ) throws {
        try swap(name, config, isTrainable: isTrainable) { try $0.load(tensors) }
    }

    /// The same with numbers that `fill` puts in.
    package func swap(
        _ name: String, _ config: any AdapterConfig, isTrainable: Bool,
        filling fill: (AdapterSet) throws -> Void
    ) throws {
        let index = try index(of: name)
        let old = members[index].set
        guard type(of: old.config) == type(of: config) else {
            throw AdapterError.named(
                .otherMethod(
                    adapter: name, expected: type(of: old.config).peftType,
                    found: type(of: config).peftType))
        }
        let member = try make(name, config, seed: 0, isTrainable: isTrainable, fill)
        let (before, after) = (old.tensorShapes.keys, member.set.tensorShapes.keys)
        let missing = Set(before).subtracting(after).sorted()
        let unexpected = Set(after).subtracting(before).sorted()
        guard missing.isEmpty, unexpected.isEmpty else {
            throw AdapterError.named(
                .otherLayers(adapter: name, missing: missing, unexpected: unexpected))
        }
        let replaced = members[index]
        members[index] = member
        do {
            try attach(activity)
        } catch {
            members[index] = replaced
            try attach(activity)
            throw error
        }
    }

    /// Makes an adapter on the bare model, and takes it off again.
    private func make(
        _ name: String, _ config: any AdapterConfig, seed: UInt64, isTrainable: Bool,
        _ fill: (AdapterSet) throws -> Void
    ) throws -> Member {
        if let config = config as? LoRAConfig, config.readsWeight {
            throw AdapterError.named(.changesBase(adapter: name, start: config.startOption))
        }
        detachAll()
        let result = Result {
            let set = try config.attach(to: registry, seed: seed, isTrainable: isTrainable)
            try fill(set)
            return set
        }
        let attached = detachAll()
        try attach(activity)
        return Member(name: name, set: try result.get(), attached: attached)
    }

    // MARK: - Activating

    /// Lets the model compute with these adapters, their updates added; with none it is its base.
    ///
    /// - Throws: `AdapterError.named` for names that are unknown or given twice, and for adapters that cannot be added on one layer;
    ///   what was active stays so.
    public func activate(_ names: [String]) throws(AdapterError) {
        for (index, name) in names.enumerated() {
            _ = try self.index(of: name)
            guard !names[..<index].contains(name) else { throw .named(.repeated(name)) }
        }
        try change(to: .adapters(names))
    }

    /// Lets the model compute with one adapter.
    ///
    /// - Throws: `AdapterError.named` for an unknown name.
    public func activate(_ name: String) throws(AdapterError) { try activate([name]) }

    /// Lets the next passes compute each row of a batch with an adapter of its own.
    ///
    /// - Parameters:
    ///   - names: one a segment; ``baseName`` for the base.
    ///   - layout: the batch's segments; passes of another number of tokens are errors until other adapters are activated.
    /// - Precondition: rows do not share their beginnings, which are computed once.
    /// - Throws: `AdapterError.named` for unknown names, another number of names than of segments, and for adapters that train
    ///   whole tensors of the base or layers of several experts.
    public func activate(
        _ names: [String], forSegmentsOf layout: SequenceLayout
    ) throws(AdapterError) {
        precondition(layout.sharing == nil, "rows with adapters of their own share no beginnings")
        for name in names where name != Self.baseName { _ = try index(of: name) }
        guard names.count == layout.segmentLengths.count else {
            throw .named(.segments(expected: layout.segmentLengths.count, found: names.count))
        }
        try change(to: .segments(names, layout))
    }

    private func change(to new: Activity) throws(AdapterError) {
        let old = activity
        do {
            try attach(new)
        } catch {
            try attach(old)
            throw error
        }
    }

    /// Attaches what is to be active, and nothing else.
    private func attach(_ new: Activity) throws(AdapterError) {
        detachAll()
        switch new {
        case .adapters(let names): try attach(summing: names)
        case .segments(let names, let layout): try attach(names, forSegmentsOf: layout)
        }
        activity = new
    }

    private func attach(summing names: [String]) throws(AdapterError) {
        let chosen = names.compactMap { name in members.first { $0.name == name } }
        for linear in registry.linears {
            let id = ObjectIdentifier(linear)
            let adapters = chosen.compactMap { member in
                member.linears[id].map { (name: member.name, adapter: $0) }
            }
            guard let first = adapters.first else { continue }
            if adapters.count == 1 {
                linear.attach(first.adapter)
            } else {
                linear.attach(try Self.sum(of: adapters, on: linear))
            }
        }
        for embedding in registry.embeddings {
            let id = ObjectIdentifier(embedding)
            let adapters = chosen.compactMap { member in
                member.embeddings[id].map { (name: member.name, adapter: $0) }
            }
            guard let first = adapters.first else { continue }
            if adapters.count == 1 {
                embedding.attach(first.adapter)
            } else {
                embedding.attach(try SummedEmbeddingAdapters(adapters, path: embedding.path))
            }
        }
        for parameter in replaceable {
            let id = ObjectIdentifier(parameter)
            let replacing = chosen.filter { $0.replacements[id] != nil }
            guard replacing.count <= 1 else {
                throw .named(
                    .replacedTensor(path: parameter.path, adapters: replacing.map(\.name)))
            }
            if let other = replacing.first?.replacements[id] { parameter.replace(by: other) }
        }
    }

    private func attach(
        _ names: [String], forSegmentsOf layout: SequenceLayout
    ) throws(AdapterError) {
        let rows = names.map { name in members.first { $0.name == name } }
        for member in rows.compactMap(\.self) {
            let replaced = replaceable.first {
                member.replacements[ObjectIdentifier($0)] != nil
            }
            if let replaced {
                throw .named(.replacedTensor(path: replaced.path, adapters: [member.name]))
            }
        }
        for linear in registry.linears {
            let id = ObjectIdentifier(linear)
            let adapters = rows.map { $0?.linears[id] }
            guard adapters.contains(where: { $0 != nil }) else { continue }
            if linear.parameter?.numExperts != nil {
                let name = rows.compactMap(\.self).first { $0.linears[id] != nil }?.name ?? ""
                throw .named(.expertsOfSegments(path: linear.path, adapter: name))
            }
            linear.attach(SegmentAdapters(adapters, layout: layout, path: linear.path))
        }
        for embedding in registry.embeddings {
            let id = ObjectIdentifier(embedding)
            let adapters = rows.map { $0?.embeddings[id] }
            guard adapters.contains(where: { $0 != nil }) else { continue }
            embedding.attach(
                SegmentEmbeddingAdapters(adapters, layout: layout, path: embedding.path))
        }
    }

    /// Makes the model its base again; gives what was on it.
    @discardableResult
    private func detachAll() -> Attached {
        var attached = Attached()
        for linear in registry.linears {
            attached.linears[ObjectIdentifier(linear)] = linear.detachAdapter()
        }
        for embedding in registry.embeddings {
            attached.embeddings[ObjectIdentifier(embedding)] = embedding.detachAdapter()
        }
        for parameter in replaceable {
            attached.replacements[ObjectIdentifier(parameter)] = parameter.restore()
        }
        return attached
    }

    private func index(of name: String) throws(AdapterError) -> Int {
        guard let index = members.firstIndex(where: { $0.name == name }) else {
            throw .named(.unknown(name, known: names))
        }
        return index
    }
}
