public import Torch

/// Why an adapter cannot be configured, attached or filled.
public enum AdapterError: Error, Equatable, Sendable {
    /// The configuration is unreadable, contradictory, or asks for what is not supported; all problems at once.
    case invalidConfig([AdapterConfigProblem])
    /// Parts of the configuration that match nothing in this model; all of them at once.
    case unmatched([UnmatchedPattern])
    /// Layers and tensors that have an adapter already.
    case alreadyAdapted([String])
    /// Tensors that do not fit the adapter; all of them at once.
    case mismatchedTensors(missing: [String], unexpected: [String], mismatched: [MismatchedTensor])
    /// A method is registered under a name that another one has.
    case methodTaken(String)
    /// Several adapters of one model cannot be used as asked.
    case named(NamedAdapterProblem)
    /// A tensor operation failed.
    case torch(TorchError)
}

/// One thing wrong with an adapter configuration.
public enum AdapterConfigProblem: Equatable, Sendable {
    /// The file's content is not JSON.
    case notJSON(String)
    /// The value of a key (nil: the whole file) is of the wrong type or outside of its range.
    case wrongValue(key: String?, expected: String, found: String)
    /// PEFT knows the option, and it asks for something that is not supported here.
    case unsupportedOption(key: String, value: String, supported: String)
    /// Neither PEFT nor this package knows the key, and its value is not empty.
    case unknownKey(String, value: String, nearest: String?)
    /// Two options contradict each other.
    case conflict(key: String, other: String, remedy: String)
    /// An option asks for something that the layer at a path cannot have.
    case unsuitableLayer(key: String, path: String, reason: String, remedy: String)
    /// A regular expression does not parse.
    case invalidPattern(key: String, pattern: String, detail: String)
    /// No method of that name is supported here.
    case unknownMethod(String, known: [String])
}

/// A part of the configuration without effect on this model.
public struct UnmatchedPattern: Equatable, Sendable {
    /// Why nothing is left for the pattern to act on.
    public enum Reason: Equatable, Sendable {
        /// No linear layer has the name; the nearest existing name, if there is any.
        case noSuchLayer(nearest: String?)
        /// No parameter has the name; the nearest name of one that no linear layer has, if there is any.
        case noSuchParameter(nearest: String?)
        /// The model has no linear layer besides its output head.
        case onlyTheHead
        /// What it matches is excluded by `exclude_modules`.
        case excluded
        /// What it matches is outside of `layers_to_transform`.
        case outsideLayers
        /// No targeted linear lies in a layer of this index; the indices that exist.
        case noSuchIndex(existing: ClosedRange<Int>?)
        /// What it matches gets no adapter, for example `self_attn.k_proj`.
        case notTargeted(example: String)
        /// What it matches takes its value from a pattern that comes first.
        case shadowed(by: String)
        /// No module has the name; the nearest existing name, if there is any.
        case noSuchModule(nearest: String?)
        /// None of the layers that it concerns has a bias.
        case noBias
        /// The model's head has a weight of its own.
        case headIsNotTied
    }

    /// The option's key in `adapter_config.json`.
    public let option: String
    /// The name, regular expression or index.
    public let pattern: String
    /// Why nothing is left for the pattern to act on.
    public let reason: Reason
}

/// A tensor of another shape than the adapter's, or not of numbers that can be trained.
public struct MismatchedTensor: Equatable, Sendable {
    /// The tensor's name in the file.
    public let name: String
    /// The adapter's shape.
    public let expected: [Int]
    /// The file's shape.
    public let found: [Int]
    /// The file's dtype; floating-point dtypes are converted, others refused.
    public let dtype: DType
}

// MARK: - Messages

extension AdapterError: CustomStringConvertible {
    /// What is wrong, where, and what to do.
    public var description: String {
        switch self {
        case .invalidConfig(let problems):
            Self.list("The adapter configuration is not usable:", problems.map(\.description))
        case .unmatched(let patterns):
            Self.list(
                "The adapter configuration does not fit the model:", patterns.map(\.description),
                "Correct or remove each: it would be without effect, silently.")
        case .alreadyAdapted(let paths):
            Self.list(
                "An adapter is attached already:", paths,
                "Attach one adapter to a model; load the model again for another one.")
        case .mismatchedTensors(let missing, let unexpected, let mismatched):
            Self.list(
                "The tensors are not those of the adapter:",
                missing.map { "\($0): missing" } + unexpected.map { "\($0): unexpected" }
                    + mismatched.map {
                        "\($0.name): expected \($0.expected), found \($0.dtype.name)\($0.found)"
                    },
                "Is adapter_config.json the one that belongs to them, and the base model the right one?"
            )
        case .methodTaken(let name):
            "peft_type \(name) has a method already; register yours under a name of its own"
        case .named(let problem): problem.description
        case .torch(let error): error.description
        }
    }

    private static func list(_ head: String, _ entries: [String], _ remedy: String? = nil) -> String
    {
        ([head] + entries.map { "- " + $0 } + [remedy].compactMap(\.self)).joined(separator: "\n")
    }
}

extension AdapterConfigProblem: CustomStringConvertible {
    /// The key, what is wrong with its value, and what to do.
    public var description: String {
        switch self {
        case .notJSON(let detail):
            "not valid JSON: \(detail)"
        case .wrongValue(let key, let expected, let found):
            (key.map { $0 + ": " } ?? "") + "expected \(expected), found \(found)"
        case .unsupportedOption(let key, let value, let supported):
            "\(key): \(value) is not supported, only \(supported); "
                + "set that, or merge this adapter into its base model with PEFT and start from there"
        case .unknownKey(let key, let value, let nearest?):
            "\(key): unknown key, with the value \(value); did you mean \(nearest)?"
        case .unknownKey(let key, let value, nil):
            "\(key): unknown key, with the value \(value); "
                + "a later PEFT may define it: remove it if the adapter works without"
        case .conflict(let key, let other, let remedy):
            "\(key): cannot be combined with \(other); \(remedy)"
        case .unsuitableLayer(let key, let path, let reason, let remedy):
            "\(key): \(path) \(reason); \(remedy)"
        case .invalidPattern(let key, let pattern, let detail):
            "\(key): \"\(pattern)\" is not a valid regular expression: \(detail)"
        case .unknownMethod(let type, let known):
            "peft_type: \(type) is not supported, only \(known.joined(separator: ", "))"
        }
    }
}

extension UnmatchedPattern: CustomStringConvertible {
    /// The option, its pattern, and why it is without effect.
    public var description: String { "\(option) \"\(pattern)\": \(reason)" }
}

extension UnmatchedPattern.Reason: CustomStringConvertible {
    /// Why nothing is left for the pattern to act on.
    public var description: String {
        switch self {
        case .noSuchLayer(let nearest?):
            "matches no linear layer; the nearest name is \"\(nearest)\""
        case .noSuchLayer(nil): "matches no linear layer; the model has none"
        case .noSuchParameter(let nearest?):
            "matches no weight of a linear layer; the nearest parameter is \"\(nearest)\""
        case .noSuchParameter(nil):
            "matches no weight of a linear layer; the model has no other parameters to adapt"
        case .onlyTheHead: "the model has no linear layer besides its output head"
        case .excluded: "all that it matches is excluded by exclude_modules"
        case .outsideLayers: "all that it matches is outside of layers_to_transform"
        case .noSuchIndex(let existing?):
            "no targeted linear layer has this index; "
                + "they are \(existing.lowerBound) to \(existing.upperBound)"
        case .noSuchIndex(nil): "no targeted linear layer is in a numbered layer"
        case .notTargeted(let example):
            "matches only linear layers without an adapter, such as \"\(example)\""
        case .shadowed(let other): "\"\(other)\" comes first in all that it matches"
        case .noSuchModule(let nearest?):
            "no module's path ends with it; the nearest name is \"\(nearest)\""
        case .noSuchModule(nil): "no module's path ends with it"
        case .noBias: "none of the layers has a bias"
        case .headIsNotTied: "the model's head has a weight of its own"
        }
    }
}
