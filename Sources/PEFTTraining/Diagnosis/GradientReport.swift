public import PEFTLayers
public import Torch

/// Which trainable tensors a loss reaches, and, for each that it does not, where its path is cut.
///
/// Connectivity is what counts, not magnitude: the gradient of `lora_A` is rightly zero while B is zero. It works for any loss
/// of any model written against `Tensor`: make one before the first step, and call ``verify()``.
///
/// ```swift
/// let report = try GradientReport(of: parameters) { try myLoss(myModel, rows) }
/// try report.verify()
/// ```
public struct GradientReport: Sendable, Equatable {
    /// A trainable tensor with what is known of its place.
    public struct Subject {
        /// The tensor.
        public let parameter: Parameter
        /// The path of the layer that it belongs to: `model.layers.3.mlp.up_proj`.
        public let layer: String?
        /// The path of the decoder block: `model.layers.3`.
        public let block: String?
        /// The adapter method: `LoRA`.
        public let method: String?

        /// Names a trainable tensor and its place.
        public init(
            _ parameter: Parameter, layer: String? = nil, block: String? = nil,
            method: String? = nil
        ) {
            self.parameter = parameter
            self.layer = layer
            self.block = block
            self.method = method
        }
    }

    /// What was found for one trainable tensor.
    public struct Entry: Sendable, Equatable {
        /// The tensor's path.
        public let path: String
        /// The path of its layer, if it is known.
        public let layer: String?
        /// The path of its decoder block, if it is in one.
        public let block: String?
        /// The adapter method, if it is known.
        public let method: String?
        /// Whether a gradient arrived, be it zero.
        public let isConnected: Bool
    }

    /// One entry a trainable tensor, in the order given.
    public let entries: [Entry]
    /// What keeps tensors from learning, the cut nearest to the loss first; empty if all is well.
    public let problems: [Diagnosis]
    /// The loss that was differentiated.
    public let loss: Double

    /// Whether every trainable tensor gets a finite gradient and no other tensor gets one.
    public var isReady: Bool { problems.isEmpty }

    /// Checks the tensors that an optimizer shall update.
    ///
    /// - Parameters:
    ///   - parameters: the trainable tensors.
    ///   - frozen: tensors that must get no gradient.
    ///   - loss: computes the loss as training does, a scalar; run once, and again where something is wrong.
    /// - Throws: what `loss` throws.
    /// - Memory: that of a training step on the same rows; twice the activations while a cut is searched.
    public init(
        of parameters: [Parameter], frozen: [Parameter] = [], loss: () throws -> Tensor
    ) throws {
        try self.init(of: parameters.map { Subject($0) }, frozen: frozen, loss: loss)
    }

    /// Checks trainable tensors whose places are known; see ``init(of:frozen:loss:)-(_,[Parameter],_)``.
    public init(
        of subjects: [Subject], frozen: [Parameter] = [], loss: () throws -> Tensor
    ) throws {
        let (found, problems) = try withoutActuallyEscaping(loss) { loss in
            let pass = GradientPass(subjects, frozen: frozen, loss: loss)
            let found = try pass.run()
            let isWhole = found.isConnected.allSatisfy { $0 }
            return (
                found, try isWhole ? pass.numericProblems(found) : pass.cuts(found.isConnected)
            )
        }
        entries = zip(subjects, found.isConnected).map { subject, isConnected in
            Entry(
                path: subject.parameter.path, layer: subject.layer, block: subject.block,
                method: subject.method, isConnected: isConnected)
        }
        self.loss = found.loss
        self.problems = problems
    }

    /// Passes if every trainable tensor can learn.
    ///
    /// - Throws: the first of ``problems``.
    public func verify() throws(Diagnosis) {
        if let first = problems.first { throw first }
    }
}

/// Runs forward and backward for a report, and again to find out what is wrong.
private struct GradientPass {
    /// What one pass gave.
    struct Result {
        let isConnected: [Bool]
        let notFinite: [String]
        let loss: Double
    }

    private let subjects: [GradientReport.Subject]
    private let frozen: [Parameter]
    private let loss: () throws -> Tensor

    init(
        _ subjects: [GradientReport.Subject], frozen: [Parameter],
        loss: @escaping () throws -> Tensor
    ) {
        self.subjects = subjects
        self.frozen = frozen
        self.loss = loss
    }

    private var parameters: [Parameter] { subjects.map(\.parameter) }

    /// Differentiates the loss as training does, and gives every tensor its earlier gradient back.
    func run() throws -> Result {
        try keepingGradients {
            let value = try loss()
            if value.requiresGrad { try value.backward() }
            let gradients = parameters.map(\.value.grad)
            var notFinite: [String] = []
            for (parameter, gradient) in zip(parameters, gradients) {
                if let gradient, try !gradient.allFinite() { notFinite.append(parameter.path) }
            }
            return Result(
                isConnected: gradients.map { $0 != nil }, notFinite: notFinite,
                loss: try value.detach().item())
        }
    }

    private func keepingGradients<Value>(_ body: () throws -> Value) throws -> Value {
        let all = (parameters + frozen).map(\.value)
        let earlier = all.map(\.grad)
        for tensor in all { try tensor.setGrad(nil) }
        defer {
            // A gradient that was there fits its tensor.
            for (tensor, gradient) in zip(all, earlier) { try? tensor.setGrad(gradient) }
        }
        return try body()
    }

    // MARK: - What is wrong

    /// Frozen tensors with gradients, infinities and NaNs.
    func numericProblems(_ found: Result) throws -> [Diagnosis] {
        let touched = frozen.filter(\.value.requiresGrad).map(\.path)
        guard touched.isEmpty else {
            return [
                Diagnosis(
                    .frozenGetsGradient, at: touched[0],
                    "\(touched.count) frozen tensors require grad, so backward computes gradients "
                        + "that nothing uses",
                    remedy: "do not call setRequiresGrad on the base's tensors; attach an adapter")
            ]
        }
        guard !found.notFinite.isEmpty || !found.loss.isFinite else { return [] }
        let search = try keepingGradients {
            try NonFiniteSearch.run {
                let value = try loss()
                if value.requiresGrad { try value.backward() }
            }
        }
        let inInput = search.isInInput ? "; what it was given was not finite already" : ""
        return [
            Diagnosis(
                .notFiniteAtStart, at: search.place ?? "the loss",
                "the loss or its gradients are infinite or NaN before the first step, first here"
                    + inInput,
                remedy: "check the base model's weights, or compute in --dtype float32",
                tensors: found.notFinite)
        ]
    }

    /// The cuts that keep tensors from their gradients, each with its tensors, the one nearest to the loss first.
    func cuts(_ isConnected: [Bool]) throws -> [Diagnosis] {
        let record = ComputationRecord()
        let value = try keepingGradients {
            try Trace.run(onEvent: record.add) {
                let value = try loss()
                if value.requiresGrad { try value.backward() }
                return value
            }
        }
        let path = GradientPath(record, loss: value)
        var order: [GradientPath.Cut] = []
        var tensors: [Diagnosis: [String]] = [:]
        for (subject, isConnected) in zip(subjects, isConnected) where !isConnected {
            let cut = path.cut(of: subject.parameter, in: subject.layer)
            if tensors[cut.diagnosis] == nil { order.append(cut) }
            tensors[cut.diagnosis, default: []].append(subject.parameter.path)
        }
        order.sort { $1.anchor.lexicographicallyPrecedes($0.anchor) }
        return order.map { cut in
            let found = cut.diagnosis
            return Diagnosis(
                found.code, at: found.place, found.reason, remedy: found.remedy,
                tensors: tensors[found] ?? [])
        }
    }
}
