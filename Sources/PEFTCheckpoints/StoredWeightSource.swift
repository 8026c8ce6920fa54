package import PEFTLayers
import PEFTQuantization
package import Torch

/// Gives the linear weights that a folder holds in 4 bits as they are, and everything else from another source.
package final class StoredWeightSource: ParameterSource {
    private let files: CheckpointSource
    private let samples: any ParameterSource
    private let dense: any ParameterSource
    private let placement: any TensorPlacement

    /// Decorates a source.
    ///
    /// - Parameters:
    ///   - files: the folder.
    ///   - samples: is asked for the elements that this process keeps, so that a fingerprint can be taken of them.
    ///   - dense: where everything else comes from.
    ///   - placement: where codes and scales are kept, and which of them this process reads.
    package init(
        _ files: CheckpointSource, samples: any ParameterSource, dense: any ParameterSource,
        placement: any TensorPlacement
    ) {
        self.files = files
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
        guard let parts = try files.fourBitParts(of: path, shape: shape) else {
            return try dense.linearWeight(at: path, shape: shape)
        }
        return FourBitWeight(
            try FourBitTensor(path: path, parts, placement: placement) { range in
                _ = try samples.elements(range, at: path, shape: shape)
            })
    }
}
