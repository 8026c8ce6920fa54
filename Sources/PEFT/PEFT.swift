@_exported public import PEFTAdapters
@_exported public import PEFTCheckpoints
@_exported public import PEFTData
@_exported public import PEFTLayers
@_exported public import PEFTModels
@_exported public import PEFTQuantization
@_exported public import PEFTSharding
@_exported public import PEFTTokenizers
@_exported public import PEFTTraining
@_exported public import Torch

/// The version of swift-peft.
public enum PEFTVersion {
    /// The version, as semantic versioning has it.
    public static let current = "0.1.0"
}
