public import PEFTLayers
public import Torch

/// Which storages and dtypes go together in training: the one statement of it.
///
/// ``allowed`` is the table of docs/precision.md. Products may be computed wider than the compute dtype, never narrower
/// (`DType.forProducts`).
public enum PrecisionRules {
    /// How the linears of the frozen base are stored.
    public enum Storage: String, CaseIterable, Hashable, Sendable {
        /// In the compute dtype.
        case dense
        /// 4 bits, NormalFloat.
        case nf4
        /// 4 bits, floating-point.
        case fp4
        /// 8 bits, of a folder of LLM.int8.
        case int8
    }

    /// Where tensors are.
    public enum Device: String, CaseIterable, Hashable, Sendable {
        /// In the machine's memory.
        case cpu
    }

    /// One choice of everything that the rules are about.
    public struct Combination: Hashable, Sendable {
        /// The storage of the frozen linears.
        public var storage: Storage
        /// The dtype of activations, and of all frozen tensors that are not quantized.
        public var compute: DType
        /// The dtype of adapters, their gradients and the optimizer's moments.
        public var adapter: DType
        /// The dtype of losses, norms and the sums over micro-batches.
        public var reduce: DType
        /// Where everything is.
        public var device: Device
        /// What keeps small gradients from vanishing.
        public var lossScaling: LossScaling

        /// Describes a choice.
        public init(
            storage: Storage, compute: DType, adapter: DType = .float32, reduce: DType = .float32,
            device: Device = .cpu, lossScaling: LossScaling = .none
        ) {
            self.storage = storage
            self.compute = compute
            self.adapter = adapter
            self.reduce = reduce
            self.device = device
            self.lossScaling = lossScaling
        }
    }

    /// A line of the table: what goes with one compute dtype.
    public struct Rule: Hashable, Sendable {
        /// The dtype of activations.
        public let compute: DType
        /// The storages that decode to it.
        public let storages: [Storage]
        /// The dtype of adapters.
        public let adapter: DType
        /// The dtype of losses and norms.
        public let reduce: DType
        /// Where it runs.
        public let devices: [Device]
        /// Whether it needs loss scaling; if not, it takes none.
        public let needsLossScaling: Bool
    }

    /// All combinations that train, a line for each compute dtype.
    public static let allowed: [Rule] = [
        Rule(
            compute: .bfloat16, storages: Storage.allCases, adapter: .float32, reduce: .float32,
            devices: [.cpu], needsLossScaling: false),
        Rule(
            compute: .float32, storages: Storage.allCases, adapter: .float32, reduce: .float32,
            devices: [.cpu], needsLossScaling: false),
        Rule(
            compute: .float16, storages: Storage.allCases, adapter: .float32, reduce: .float32,
            devices: [.cpu], needsLossScaling: true),
    ]

    /// Refuses a combination that is not in the table.
    ///
    /// - Parameter combination: storages and dtypes of a run.
    /// - Throws: ``Diagnosis`` of ``DiagnosisCode/float16WithoutScaling`` or ``DiagnosisCode/dtypesDoNotFit``, with the flag
    ///   that mends it.
    public static func validate(_ combination: Combination) throws(Diagnosis) {
        let compute = combination.compute
        guard let rule = allowed.first(where: { $0.compute == compute }) else {
            throw misfit(
                "compute dtype \(compute.name)", "activations are not computed in this dtype",
                "give --dtype " + allowed.map(\.compute.name).joined(separator: ", or "))
        }
        guard combination.adapter == rule.adapter else {
            throw misfit(
                "adapter dtype \(combination.adapter.name)",
                "updates of a few millionths round to nothing in it",
                "keep adapters in \(rule.adapter.name), which needs no flag")
        }
        guard combination.reduce == rule.reduce else {
            throw misfit(
                "reduce dtype \(combination.reduce.name)",
                "sums of many losses or gradients overflow or lose terms in it",
                "reduce in \(rule.reduce.name), which needs no flag")
        }
        guard rule.storages.contains(combination.storage) else {
            throw misfit(
                "storage \(combination.storage.rawValue)", "does not decode to \(compute.name)",
                "give --quantize none")
        }
        guard rule.devices.contains(combination.device) else {
            throw misfit(
                "device \(combination.device.rawValue)", "\(compute.name) does not run there",
                "give --dtype bfloat16")
        }
        try validate(combination.lossScaling, for: rule)
    }

    private static func validate(
        _ lossScaling: LossScaling, for rule: Rule
    ) throws(Diagnosis) {
        switch (rule.needsLossScaling, lossScaling) {
        case (true, .none):
            throw Diagnosis(
                .float16WithoutScaling, at: "dtype \(rule.compute.name)",
                "gradients below 6e-8 become zero in it",
                remedy: "give --loss-scaling dynamic, or --dtype bfloat16")
        case (true, .fixed(let scale)) where !(scale > 0 && scale.isFinite):
            throw misfit(
                "loss scaling \(scale)", "a scale is a finite number above 0",
                "give --loss-scaling dynamic")
        case (false, .dynamic), (false, .fixed):
            throw misfit(
                "loss scaling with dtype \(rule.compute.name)",
                "its exponents reach as far as float32's, so scaling has no effect but rounding",
                "give --loss-scaling none, or --dtype float16")
        default: return
        }
    }

    private static func misfit(_ place: String, _ reason: String, _ remedy: String) -> Diagnosis {
        Diagnosis(.dtypesDoNotFit, at: place, reason, remedy: remedy)
    }
}

extension PrecisionRules.Combination: CustomStringConvertible {
    /// `storage nf4, compute bfloat16, adapters float32, loss scaling none`.
    public var description: String {
        "storage \(storage.rawValue), compute \(compute.name), adapters \(adapter.name), "
            + "loss scaling " + YAMLWriter.text(of: lossScaling.optionValue)
    }
}

// MARK: - Tensors of a model

extension PrecisionRules {
    /// Compares what a model really holds with the rules.
    ///
    /// - Parameters:
    ///   - adapters: the trainable tensors.
    ///   - packed: name and dtype of each tensor of quantized codes.
    ///   - activations: the dtype that hidden states were found in.
    ///   - compute: the dtype that they should have.
    /// - Throws: ``Diagnosis`` of ``DiagnosisCode/dtypesDoNotFit`` naming the first tensor that breaks a rule.
    public static func check(
        adapters: [Parameter], packed: [(path: String, dtype: DType)], activations: DType,
        compute: DType
    ) throws(Diagnosis) {
        guard let rule = allowed.first(where: { $0.compute == compute }) else {
            try validate(Combination(storage: .dense, compute: compute))
            return
        }
        for parameter in adapters where parameter.value.dtype != rule.adapter {
            throw misfit(
                parameter.path,
                "this trainable tensor is \(parameter.value.dtype.name), not \(rule.adapter.name)",
                "make adapters in \(rule.adapter.name)")
        }
        for (path, dtype) in packed where dtype.isFloatingPoint {
            throw misfit(
                path, "its quantized codes are \(dtype.name), not integers",
                "quantize the base again, with --quantize nf4")
        }
        guard activations == compute else {
            throw misfit(
                "hidden states",
                "they are \(activations.name), but the compute dtype is \(compute.name)",
                "give --dtype \(activations.name), or read the base with it")
        }
    }
}

// MARK: - The table as text

extension PrecisionRules {
    /// The table of docs/precision.md, in Markdown.
    public static var table: String {
        let head = """
            | Compute | Base storage | Adapters, moments | Losses, norms | Device | Loss scaling |
            | --- | --- | --- | --- | --- | --- |

            """
        return head
            + allowed.map { rule in
                let cells = [
                    rule.compute.name, rule.storages.map(\.rawValue).joined(separator: ", "),
                    rule.adapter.name, rule.reduce.name,
                    rule.devices.map(\.rawValue).joined(separator: ", "),
                    rule.needsLossScaling ? "dynamic, or a number above 0" : "none",
                ]
                return "| " + cells.joined(separator: " | ") + " |\n"
            }.joined()
    }
}
