public import PEFTLayers
public import Torch

/// A tensor of the base that is trained as a whole, in float32: of a module of `modules_to_save`, or a bias.
///
/// Layers compute with it in the place of the base's own, which stays: a pass without adapters uses that one.
///
/// - Source: peft 0.21.2 `utils/other.py:ModulesToSaveWrapper`.
///
/// Differs from PEFT: it is float32 whatever the base's dtype; a pass without adapters has the base's own biases, too.
public final class TrainedTensor: AdapterPart {
    /// The tensor under its name in the file.
    public let parameter: Parameter
    private let hashAtStart: UInt64

    /// The tensor.
    public var parameters: [Parameter] { [parameter] }

    /// Copies a tensor of the base that is in memory.
    ///
    /// - Parameters:
    ///   - base: what it takes the place of, see ``replace(_:)``.
    ///   - path: its name in the file.
    ///   - isTrainable: false freezes it, for inference.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: four bytes an element.
    init(of base: Parameter, as path: String, isTrainable: Bool) throws(TorchError) {
        let copy = try base.value.detach().to(.float32).clone()
        hashAtStart = try Self.hash(of: copy)
        parameter = try Parameter(path: path, value: copy, isTrainable: isTrainable)
    }

    /// Whether it has the base's numbers.
    public func changesNothing() throws(TorchError) -> Bool {
        try Self.hash(of: parameter.value) == hashAtStart
    }

    private static func hash(of tensor: Tensor) throws(TorchError) -> UInt64 {
        guard !DryRun.isOn else { return 0 }
        return try tensor.detach().to(.cpu).contiguous().withUnsafeBytes { StableHash.of($0) }
    }
}
