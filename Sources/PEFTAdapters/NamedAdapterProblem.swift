/// Why several adapters of one model cannot be used as asked.
public enum NamedAdapterProblem: Equatable, Sendable {
    /// A name that an adapter has already, or that stands for the base.
    case nameTaken(String)
    /// No adapter has the name.
    case unknown(String, known: [String])
    /// A name is given twice where adapters are summed.
    case repeated(String)
    /// The model has an adapter that was attached to it directly.
    case foreign(path: String)
    /// An adapter of which a part was taken out of the base's weights, which others need whole.
    case changesBase(adapter: String, start: String)
    /// The adapters of a layer cannot be added: one of them is more than an update.
    case notAdditive(path: String, adapter: String, method: String)
    /// Two adapters train the same tensor of the base as a whole, or one does where rows of a batch differ.
    case replacedTensor(path: String, adapters: [String])
    /// Rows of a batch differ in their adapters, which layers of several experts cannot tell apart.
    case expertsOfSegments(path: String, adapter: String)
    /// One name for each segment is needed.
    case segments(expected: Int, found: Int)
    /// An adapter that takes the place of another has other layers.
    case otherLayers(adapter: String, missing: [String], unexpected: [String])
    /// An adapter that takes the place of another is of another method.
    case otherMethod(adapter: String, expected: String, found: String)
}

extension NamedAdapterProblem: CustomStringConvertible {
    /// What, where, expected, found and the remedy.
    public var description: String {
        switch self {
        case .nameTaken(NamedAdapters.baseName):
            "adapter \"\(NamedAdapters.baseName)\": the name stands for the base model; take another"
        case .nameTaken(let name):
            "adapter \"\(name)\": the model has one of this name; remove it first, or take another name"
        case .unknown(let name, let known):
            "adapter \"\(name)\": the model has none of this name, it has: "
                + (known.isEmpty ? "none" : known.joined(separator: ", "))
        case .repeated(let name):
            "adapter \"\(name)\": expected each name once, found it twice"
        case .foreign(let path):
            """
            \(path): an adapter is attached that has no name; attach all adapters of the model by name
            """
        case .changesBase(let adapter, let start):
            """
            adapter "\(adapter)": its start, \(start), is taken from the weights of the base, which the other \
            adapters need as they are; load it alone, or write it as a plain LoRA: peft export --format peft-lora
            """
        case .notAdditive(let path, let adapter, let method):
            """
            \(path): adapter "\(adapter)" (\(method)) is more than a low-rank update, so it cannot be active together \
            with others on one layer; activate it alone
            """
        case .replacedTensor(let path, let adapters):
            """
            \(path): of adapters that have this tensor as a whole \
            (\(adapters.map { "\"\($0)\"" }.joined(separator: ", "))) only one can be active, and for all \
            rows; activate one of them alone
            """
        case .expertsOfSegments(let path, let adapter):
            """
            \(path): adapter "\(adapter)" is on a layer of several experts, which do not know the rows of \
            their tokens; run the rows of each adapter in a batch of its own
            """
        case .segments(let expected, let found):
            "expected the name of an adapter for each of \(expected) rows, found \(found)"
        case .otherLayers(let adapter, let missing, let unexpected):
            "adapter \"\(adapter)\": expected the tensors that it has"
                + (missing.isEmpty ? "" : ", missing: \(missing.joined(separator: ", "))")
                + (unexpected.isEmpty ? "" : ", unexpected: \(unexpected.joined(separator: ", "))")
                + "; add it under a name of its own instead"
        case .otherMethod(let adapter, let expected, let found):
            """
            adapter "\(adapter)": expected the method \(expected), found \(found); add it under a name of its own \
            instead
            """
        }
    }
}
