import PEFTLayers
public import Torch

/// How the next token is chosen from the logits.
public struct Sampling: Sendable, Hashable {
    /// Divides the logits; 0 takes the most likely token (greedy).
    public var temperature: Double
    /// Draws among the most likely tokens that together have this probability; 1 for all.
    public var topP: Double

    /// Describes the choice; greedy by default.
    public init(temperature: Double = 0, topP: Double = 1) {
        self.temperature = temperature
        self.topP = topP
    }

    /// Chooses a token.
    ///
    /// - Parameters:
    ///   - logits: `[vocabulary]`, float32.
    ///   - generator: not used by the greedy choice.
    /// - Returns: the token's index.
    /// - Throws: `TorchError` if libtorch fails.
    /// - Source: Holtzman et al. 2020 (top-p); transformers `generation/logits_process.py:TopPLogitsWarper`.
    func choose(_ logits: Tensor, generator: Generator) throws(TorchError) -> Int {
        guard temperature > 0 else { return Int(try logits.argmax(-1).item()) }
        let probabilities = try (logits * (1 / temperature)).softmax()
        guard topP < 1 else { return try probabilities.multinomial(generator: generator) }
        let (sorted, order) = try probabilities.sorted(descending: true)
        let before = try sorted.cumulativeSum(0) - sorted
        let count = try before.floats().prefix { Double($0) < topP }.count
        let kept = try sorted.narrow(0, 0, max(1, count))
        let chosen = try kept.multinomial(generator: generator)
        return Int(try order.select(0, chosen).item())
    }
}

/// Continues a prompt token by token.
///
/// The prompt is run once, then each new token alone against the cached keys and values. The result equals that of running the
/// whole sequence again for each token, which is done where the model's positions change with the sequence's length.
public struct TokenGeneration {
    private let model: any CausalLanguageModel
    private let sampling: Sampling
    private let generator: Generator
    private let usesCache: Bool
    private let execution = ResidentExecution()

    /// Prepares generation.
    ///
    /// - Parameters:
    ///   - model: the network, with or without adapter.
    ///   - sampling: how tokens are chosen.
    ///   - seed: of the random choices.
    ///   - usesCache: false runs the whole sequence for each token, which only tests need.
    /// - Throws: `TorchError` if libtorch cannot make a generator.
    public init(
        _ model: any CausalLanguageModel, sampling: Sampling = Sampling(), seed: UInt64 = 0,
        usesCache: Bool = true
    ) throws(TorchError) {
        self.model = model
        self.sampling = sampling
        self.usesCache = usesCache
        generator = try Generator(seed: seed)
    }

    /// Generates until a stop token, the limit, or until `onToken` returns false.
    ///
    /// - Parameters:
    ///   - prompt: at least one token.
    ///   - maxNewTokens: the most tokens to add.
    ///   - stopTokens: end the text; the one that did is not returned.
    ///   - seen: the tokens of an earlier run with this model; what the prompt begins with of them is not run again, and afterwards it holds
    ///     this run's. Nil for none.
    ///   - onToken: called with each new token.
    /// - Returns: the new tokens, and whether a stop token ended them.
    /// - Throws: `TorchError` if a token is out of range or memory does not suffice.
    public func run(
        prompt: [Int], maxNewTokens: Int, stopTokens: Set<Int>, seen: SeenTokens? = nil,
        onToken: (Int) -> Bool = { _ in true }
    ) throws(TorchError) -> (tokens: [Int], isStopped: Bool) {
        precondition(!prompt.isEmpty, "a prompt has at least one token")
        return try withoutGrad { () throws(TorchError) in
            let seen = usesCache ? seen ?? SeenTokens() : nil
            // Where such an adapter acts is decided by the whole prompt: an earlier one's keys may be others.
            if hasInvocation { seen?.forget() }
            var preparedHead: Linear?
            var pending = seen?.begin(prompt) ?? prompt
            var sequence = prompt
            var generated: [Int] = []
            while generated.count < maxNewTokens {
                if let seen, seen.numTokens > 0,
                    !model.canExtendCache(from: seen.numTokens, to: sequence.count)
                {
                    seen.forget()
                    pending = sequence
                }
                let hidden = try lastHiddenState(
                    usesCache ? pending : sequence, of: prompt, seen?.cache)
                seen?.add(pending)
                if preparedHead == nil {
                    preparedHead = try model.head.prepared(for: hidden.dtype)
                }
                let logits = try nextLogits(hidden, preparedHead, seen?.cache)
                let token = try sampling.choose(logits, generator: generator)
                guard !stopTokens.contains(token) else { return (generated, true) }
                generated.append(token)
                sequence.append(token)
                pending = [token]
                guard onToken(token) else { break }
            }
            return (generated, false)
        }
    }

    /// Whether an adapter acts only from some tokens on.
    private var hasInvocation: Bool {
        model.units.contains { $0.linears.contains { $0.adapter?.invocation != nil } }
    }

    /// The hidden state of the last of some tokens, `[1, hidden]`.
    ///
    /// - Parameters:
    ///   - tokens: those that are run.
    ///   - prompt: decides, as in PEFT, where an adapter with an invocation acts: what is generated does not.
    ///   - cache: of the tokens before.
    /// - Returns: the state, the compute dtype.
    /// - Throws: `TorchError` if a token is out of range or memory does not suffice.
    private func lastHiddenState(
        _ tokens: [Int], of prompt: [Int], _ cache: KeyValueCache?
    ) throws(TorchError) -> Tensor {
        let context = ForwardContext(
            layout: SequenceLayout(
                segmentLengths: [tokens.count], firstPosition: cache?.numTokens ?? 0),
            cache: cache
        ).reading(rows: [prompt.map { Int32(clamping: $0) }])
        let ids = try Tensor(tokens.map { Int64($0) }, shape: [tokens.count])
        let hidden = try model.hiddenStates(ids, context: context, execution: execution)
        return try hidden.narrow(0, tokens.count - 1, 1)
    }

    /// The logits of a hidden state, float32 `[vocabulary]`, in host memory.
    private func nextLogits(
        _ hidden: Tensor, _ head: Linear?, _ cache: KeyValueCache?
    ) throws(TorchError) -> Tensor {
        let context = ForwardContext(layout: SequenceLayout(segmentLengths: [1]), cache: cache)
        let wide = try hidden.to(hidden.productDType)
        let logits = try model.logits(wide, context: context, preparedHead: head)
        // A generator's numbers are the host's.
        return try logits.select(0, 0).to(.float32).to(.cpu)
    }
}

/// The tokens that a model has read, with their keys and values: a prompt that begins with them is run from where they end.
///
/// Of one model with the same adapter.
public final class SeenTokens {
    /// The tokens, in order.
    public private(set) var tokens: [Int] = []
    /// How many tokens of the last prompt were there already.
    public private(set) var numReused = 0
    /// Their keys and values.
    let cache = KeyValueCache()

    /// Makes a memory of no tokens.
    public init() {}

    /// The number of tokens.
    public var numTokens: Int { tokens.count }

    /// Forgets what is not the beginning of a prompt; gives the tokens that are to be run, at least the last one.
    func begin(_ prompt: [Int]) -> [Int] {
        let common = zip(tokens, prompt).prefix { $0 == $1 }.count
        numReused = min(common, prompt.count - 1)
        keep(numReused)
        return Array(prompt[numReused...])
    }

    /// Notes tokens that were run.
    func add(_ new: [Int]) { tokens += new }

    /// Forgets everything.
    func forget() {
        numReused = 0
        keep(0)
    }

    private func keep(_ count: Int) {
        tokens.removeSubrange(count...)
        cache.truncate(to: count)
    }
}
