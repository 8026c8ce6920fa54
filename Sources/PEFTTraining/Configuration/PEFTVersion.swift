/// The version of swift-peft.
public enum PEFTVersion {
    /// The version, as semantic versioning has it.
    public static let current = "0.1.0"
}
