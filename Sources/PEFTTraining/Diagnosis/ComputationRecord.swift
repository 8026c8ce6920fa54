import Torch

/// What one forward and backward pass did, as a graph of values: which event made which value from which.
///
/// It holds on to every tensor that it saw, so that no address is used twice: for small inputs only.
final class ComputationRecord {
    /// A value as an event took or gave it.
    struct Use {
        let value: Int
        let requiresGrad: Bool
        let dtype: DType
    }

    /// A traced event with its values.
    struct Event {
        /// Sorts events by their place in the forward pass: what a pullback computes again lies after its node.
        let anchor: [Int]
        let kind: TraceEvent.Kind
        let name: String
        let layer: String
        let recording: TraceEvent.Recording
        let frame: TraceEvent.Frame?
        let inputs: [Use]
        let outputs: [Use]

        /// Whether a result of it has a gradient path.
        var isAttached: Bool { outputs.contains(where: \.requiresGrad) }
    }

    /// All events in order.
    private(set) var events: [Event] = []
    /// The layers that something happened in.
    private(set) var layers: Set<String> = []
    /// The event that made each node.
    private(set) var nodeEvents: [Int: Int] = [:]
    /// For each input of a node whose pullback ran, whether it returned a gradient.
    private(set) var returnedGradients: [Int: [Bool]] = [:]

    private var producers: [[Int]] = []
    private var values: [UnsafeRawPointer: Int] = [:]
    private var firstValues: [UnsafeRawPointer: Int] = [:]
    private var retained: [Tensor] = []

    /// Takes in an event.
    func add(_ event: TraceEvent) {
        let inputs = event.inputs.map { use($0, isNew: false) }
        // A node gives its body's outputs a history, and a conversion to the same dtype gives its input back: the values stay
        // the same. An operation in place, whose name ends so, makes a new value in the same tensor.
        var isNode = false
        if case .node = event.kind { isNode = true }
        let given = Set(event.inputs.map(\.identity))
        let isInPlace = event.name.hasSuffix("_")
        let outputs = event.outputs.map { output in
            use(output, isNew: !isNode && (isInPlace || !given.contains(output.identity)))
        }
        let index = events.count
        for output in outputs { producers[output.value].append(index) }
        switch event.kind {
        case .node(let node): nodeEvents[node] = index
        case .pullback(let node, let isReturned): returnedGradients[node] = isReturned
        default: break
        }
        if !event.layer.isEmpty { layers.insert(event.layer) }
        events.append(
            Event(
                anchor: anchor(of: event.frame) + [index], kind: event.kind, name: event.name,
                layer: event.layer, recording: event.recording, frame: event.frame, inputs: inputs,
                outputs: outputs))
    }

    /// The value that a tensor had when it was first seen; nil if no event saw it.
    func firstValue(of tensor: Tensor) -> Int? { firstValues[tensor.identity] }

    /// The value that a tensor has at the end of the record; nil if no event saw it.
    func lastValue(of tensor: Tensor) -> Int? { values[tensor.identity] }

    /// Every value that the loss, or the result of a computation repeated in backward for it, was computed from.
    ///
    /// Detached and unrecorded operations count: it is about numbers, not gradients.
    func ancestors(of loss: Int) -> [Bool] {
        var isAncestor = [Bool](repeating: false, count: producers.count)
        mark([loss], &isAncestor)
        var isChanged = true
        while isChanged {
            isChanged = false
            for event in events where event.kind == .differentiation {
                guard let frame = event.frame, let made = nodeEvents[frame.node],
                    events[made].outputs.contains(where: { isAncestor[$0.value] })
                else { continue }
                let roots = event.inputs.map(\.value).filter { !isAncestor[$0] }
                isChanged = isChanged || !roots.isEmpty
                mark(roots, &isAncestor)
            }
        }
        return isAncestor
    }

    /// Every value that was computed from one.
    func descendants(of value: Int) -> [Bool] {
        var isDescendant = [Bool](repeating: false, count: producers.count)
        isDescendant[value] = true
        for event in events where event.inputs.contains(where: { isDescendant[$0.value] }) {
            for output in event.outputs { isDescendant[output.value] = true }
        }
        return isDescendant
    }

    /// The values that a node's body took from outside, other than the node's inputs.
    func captures(of node: Int) -> [Use] {
        guard let made = nodeEvents[node] else { return [] }
        var inside = Set(events[made].inputs.map(\.value))
        var captures: [Use] = []
        for event in events[..<made] where event.frame?.isBody(of: node) == true {
            captures += event.inputs.filter { !inside.contains($0.value) }
            inside.formUnion(event.outputs.map(\.value))
        }
        return captures
    }

    // MARK: - Values

    private func use(_ operand: TraceEvent.Operand, isNew: Bool) -> Use {
        let known = isNew ? nil : values[operand.identity]
        let value = known ?? producers.count
        if known == nil {
            producers.append([])
            values[operand.identity] = value
            firstValues[operand.identity] = firstValues[operand.identity] ?? value
            retained.append(operand.tensor)
        }
        return Use(
            value: value, requiresGrad: operand.requiresGrad, dtype: operand.tensor.dtype)
    }

    private func anchor(of frame: TraceEvent.Frame?) -> [Int] {
        guard let frame, frame.isPullback, let made = nodeEvents[frame.node] else { return [] }
        return events[made].anchor
    }

    private func mark(_ roots: [Int], _ isMarked: inout [Bool]) {
        var pending = roots
        while let value = pending.popLast() {
            guard !isMarked[value] else { continue }
            isMarked[value] = true
            for producer in producers[value] {
                pending += events[producer].inputs.map(\.value)
            }
        }
    }
}
