import CTorch

/// One thing that happened while a trace ran.
public struct TraceEvent {
    /// What happened.
    public enum Kind: Equatable, Sendable {
        /// An operation made its outputs from its inputs, or changed one of them in place.
        case operation
        /// An autograd node of this number took inputs and outputs; its body ran before this event.
        case node(Int)
        /// The pullback of a node ended; for each of the node's inputs, whether it returned a gradient.
        case pullback(Int, isReturned: [Bool])
        /// Gradients of the inputs were asked for.
        case differentiation
        /// The inputs' elements were copied to the host: nothing after that is a tensor.
        case copyToHost
    }

    /// Whether operations were being recorded for backward.
    public enum Recording: Equatable, Sendable {
        /// They were.
        case on
        /// They were not: a region without grad.
        case off
        /// They were not, because an autograd node's body or pullback answers for its inside.
        case insideNode
    }

    /// The innermost body or pullback in which the event happened.
    public struct Frame: Equatable, Sendable {
        /// The node.
        public let node: Int
        /// Whether it is the pullback; false for the body.
        public let isPullback: Bool

        /// Whether it is the body of a node.
        public func isBody(of node: Int) -> Bool { self.node == node && !isPullback }
    }

    /// A tensor as it was then.
    public struct Operand {
        /// The tensor.
        public let tensor: Tensor
        /// Tells tensors apart for as long as they live.
        public let identity: UnsafeRawPointer
        /// Whether it required grad.
        public let requiresGrad: Bool
    }

    /// What happened.
    public let kind: Kind
    /// The operation's or node's name: `matmul`, `4-bit linear`.
    public let name: String
    /// The path of the innermost layer: `model.layers.3.mlp.up_proj`; empty outside of all layers.
    public let layer: String
    /// Whether the event was recorded for backward.
    public let recording: Recording
    /// The innermost node at work, if there is one.
    public let frame: Frame?
    /// What went in.
    public let inputs: [Operand]
    /// What came out.
    public let outputs: [Operand]
}

/// Watches the operations of this thread: which layer they belong to, whether they are recorded, what flows into what.
///
/// It sees detached and unrecorded operations too, so it can tell where a gradient's path ends. Without a running trace an operation
/// pays for one look at a thread's variable.
///
/// Does not see what is written into a tensor's memory by ``Tensor/withUnsafeMutableBytes(_:)``; a kernel's caller notes it.
public final class Trace {
    private let onEvent: (TraceEvent) -> Void
    private var layers: [String] = []
    private var recordings: [TraceEvent.Recording] = []
    private var frames: [TraceEvent.Frame] = []
    private var numNodes = 0

    private init(_ onEvent: @escaping (TraceEvent) -> Void) {
        self.onEvent = onEvent
    }

    /// Runs `body` and calls `onEvent` for everything that it does on this thread, in order.
    ///
    /// - Precondition: no trace runs on this thread yet.
    public static func run<Result, Failure: Error>(
        onEvent: @escaping (TraceEvent) -> Void, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        precondition(current == nil, "a trace runs already")
        let trace = Trace(onEvent)
        ctorch_trace_set_recorder(Unmanaged.passUnretained(trace).toOpaque())
        defer {
            ctorch_trace_set_recorder(nil)
            withExtendedLifetime(trace) {}
        }
        return try body()
    }

    /// Runs `body` as the work of the layer at a Hugging Face path.
    public static func layer<Result, Failure: Error>(
        _ path: @autoclosure () -> String, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        guard let trace = current else { return try Profile.range(path(), body) }
        trace.layers.append(path())
        defer { trace.layers.removeLast() }
        return try body()
    }

    /// Reports what a kernel has written, which the trace does not see, as an operation of that name.
    package static func noteKernel(_ name: String, inputs: [Tensor], outputs: [Tensor]) {
        current?.note(name, inputs, outputs)
    }

    /// The trace that runs on this thread.
    @inline(__always)
    static var current: Trace? {
        guard let recorder = ctorch_trace_recorder() else { return nil }
        return Unmanaged<Trace>.fromOpaque(recorder).takeUnretainedValue()
    }

    /// Reports what happened.
    func note(
        _ name: String, _ inputs: [Tensor?], _ outputs: [Tensor] = [],
        as kind: TraceEvent.Kind = .operation
    ) {
        // What the observer computes is not part of what it observes.
        let recorder = ctorch_trace_recorder()
        ctorch_trace_set_recorder(nil)
        defer { ctorch_trace_set_recorder(recorder) }
        onEvent(
            TraceEvent(
                kind: kind, name: name, layer: layers.last ?? "", recording: recording,
                frame: frames.last, inputs: inputs.compactMap { $0 }.map(TraceEvent.Operand.init),
                outputs: outputs.map(TraceEvent.Operand.init)))
    }

    private var recording: TraceEvent.Recording {
        Autograd.isEnabled ? .on : recordings.last ?? .off
    }

    // MARK: - Regions and nodes

    /// Runs `body` as a region with recording on or off.
    func region<Result, Failure: Error>(
        isEnabled: Bool, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        // Recording stays off inside of a node; whoever turns it off again there changes nothing.
        let isInside = !isEnabled && recordings.last == .insideNode
        recordings.append(isEnabled ? .on : isInside ? .insideNode : .off)
        defer { recordings.removeLast() }
        return try body()
    }

    /// A number for a new node.
    func makeNode() -> Int {
        numNodes += 1
        return numNodes
    }

    /// Runs `body` as the inside of a node.
    func inside<Result, Failure: Error>(
        _ node: Int, isPullback: Bool, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        frames.append(TraceEvent.Frame(node: node, isPullback: isPullback))
        recordings.append(.insideNode)
        defer {
            frames.removeLast()
            recordings.removeLast()
        }
        return try body()
    }

    /// The pullback of a new node, made such that its work is reported as the node's and its layer's.
    func watching(_ node: Int, _ name: String, _ pullback: @escaping Pullback) -> Pullback {
        let layer = layers.last ?? ""
        return { gradients throws(TorchError) in
            guard let trace = Trace.current else { return try pullback(gradients) }
            return try Trace.layer(layer) { () throws(TorchError) in
                let result = try trace.inside(node, isPullback: true) { () throws(TorchError) in
                    try pullback(gradients)
                }
                let isReturned = result.map { $0 != nil }
                trace.note(
                    name, gradients, result.compactMap { $0 },
                    as: .pullback(node, isReturned: isReturned))
                return result
            }
        }
    }
}

extension TraceEvent.Operand {
    fileprivate init(_ tensor: Tensor) {
        self.init(
            tensor: tensor, identity: tensor.identity, requiresGrad: tensor.requiresGrad)
    }
}
