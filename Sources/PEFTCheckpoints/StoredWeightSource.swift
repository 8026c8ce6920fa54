package import PEFTLayers
package import PEFTQuantization
package import Torch

/// Gives the linear weights that a folder holds in codes as they are, and everything else from another source.
package final class StoredWeightSource: ParameterSource {
    private let parts: (_ path: String, _ shape: [Int]) throws -> QuantizedParts?
    private let samples: any ParameterSource
    private let dense: any ParameterSource
    private let placement: any TensorPlacement

    /// Decorates a source.
    ///
    /// - Parameters:
    ///   - parts: a weight of the folder by its path, of a shape; nil for one that is no codes.
    ///   - samples: is asked for the elements that this process keeps, so that a fingerprint can be taken of them.
    ///   - dense: where everything else comes from.
    ///   - placement: where codes and scales are kept, and which of them this process reads.
    package init(
        _ parts: @escaping (_ path: String, _ shape: [Int]) throws -> QuantizedParts?,
        samples: any ParameterSource, dense: any ParameterSource, placement: any TensorPlacement
    ) {
        self.parts = parts
        self.samples = samples
        self.dense = dense
        self.placement = placement
    }

    /// The dense source's tensor.
    public func tensor(at path: String, shape: [Int]) throws -> Tensor {
        try dense.tensor(at: path, shape: shape)
    }

    /// The weight of the files, or the dense source's.
    ///
    /// - Throws: `CheckpointError` for a weight of another shape; `QuantizationError`.
    public func linearWeight(at path: String, shape: [Int]) throws -> any LinearWeight {
        func sample(_ range: Range<Int>) throws {
            _ = try samples.elements(range, at: path, shape: shape)
        }
        switch try parts(path, shape) {
        case .fourBit(let parts):
            return FourBitWeight(
                try FourBitTensor(path: path, parts, placement: placement, read: sample))
        case .int8(let parts):
            return try Int8Weight(path: path, parts, placement: placement, read: sample)
        case nil:
            return try dense.linearWeight(at: path, shape: shape)
        }
    }
}
