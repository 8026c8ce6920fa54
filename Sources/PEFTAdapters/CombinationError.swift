public import Torch

/// Why adapters cannot be combined.
public enum CombinationError: Error, Equatable, Sendable {
    /// A value of the combination that its type does not have, or that is out of range.
    case invalid(option: String, expected: String, found: String)
    /// One adapter can only be scaled, and none cannot be combined.
    case tooFewAdapters(count: Int, type: CombinationType)
    /// An adapter of another method than LoRA.
    case notLoRA(adapter: String, method: String)
    /// An adapter that has more than two matrices a layer.
    case unsupported(adapter: String, option: String)
    /// Adapters that were trained on different base models.
    case otherBase(adapter: String, base: String, first: String, firstBase: String)
    /// An adapter of which a part was taken out of the base's weights.
    case changesBase(adapter: String, start: String)
    /// The matrices are summed, and do not have one rank.
    case ranks(type: CombinationType, found: [String])
    /// Layers of different sizes under one path.
    case shapes(path: String, adapter: String, found: [Int], first: String, expected: [Int])
    /// The combined layer holds an infinity or a NaN.
    case notFinite(path: String)
    /// The configuration or the tensors of an adapter are wrong.
    case adapter(String, AdapterError)
    /// A tensor operation failed.
    case torch(TorchError)
}

extension CombinationError: CustomStringConvertible {
    /// What, where, expected, found and the remedy.
    public var description: String {
        switch self {
        case .invalid(let option, let expected, let found):
            "\(option): expected \(expected), found \(found)"
        case .tooFewAdapters(let count, let type):
            count == 0
                ? "no adapter to combine: give --adapter FOLDER:WEIGHT, once for each"
                : """
                type \(type.rawValue): expected two adapters or more, found one; one can be scaled, with \
                --type linear
                """
        case .notLoRA(let adapter, let method):
            "\(adapter): expected an adapter of the method LORA, found \(method), which has no two matrices a layer"
        case .unsupported(let adapter, let option):
            """
            \(adapter): adapters with \(option) cannot be combined: only the two matrices of linears and \
            embeddings can; merge the adapter into its base instead: peft merge
            """
        case .changesBase(let adapter, let start):
            """
            \(adapter): its start, \(start), is taken from the weights of the base, which the other adapters \
            need as they are; write it as a plain LoRA first: peft export --format peft-lora
            """
        case .otherBase(let adapter, let base, let first, let firstBase):
            """
            \(adapter): expected the base model of \(first), \(firstBase), found \(base); combine adapters of one \
            base, or give --ignore-base-fingerprint if it is the same all the same
            """
        case .ranks(let type, let found):
            """
            type \(type.rawValue): expected one rank for all layers of all adapters, found \
            \(found.joined(separator: ", ")); take --type cat or svd, which combine different ranks
            """
        case .shapes(let path, let adapter, let found, let first, let expected):
            """
            \(path): expected the size that the layer has in \(first), \(expected), found \(found) in \
            \(adapter); are both of one base model?
            """
        case .notFinite(let path):
            "\(path): the combined matrices hold an infinity or a NaN; does one of the adapters?"
        case .adapter(let adapter, let error): "\(adapter): \(error)"
        case .torch(let error): error.description
        }
    }
}
