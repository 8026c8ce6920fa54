/// What adapters know a linear layer by whose weight is a parameter of a module that is no linear layer in Hugging Face's model.
///
/// Such are the router of a mixture of experts, and the linears of its experts, whose weights are one tensor of three dimensions.
/// PEFT adapts them by `target_parameters`.
public struct TargetParameter: Hashable, Sendable {
    /// The parameter's path: `model.layers.0.mlp.experts.gate_up_proj`.
    public let path: String
    /// The experts whose rows lie one below the other in the weight; nil for one layer.
    public let numExperts: Int?
    /// The modules that lie one below the other in the rows of the layer, or of an expert, by the names that transformers 4 had for
    /// them and adapters still use in `target_modules`: `gate_proj`, `up_proj`; none if adapters never used any.
    public let moduleNames: [String]

    /// Describes a parameter.
    public init(path: String, numExperts: Int? = nil, moduleNames: [String] = []) {
        self.path = path
        self.numExperts = numExperts
        self.moduleNames = moduleNames
    }
}
