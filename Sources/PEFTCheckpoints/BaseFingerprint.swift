/// What tells one base model from another: a digest of names, shapes and a sample of the numbers.
///
/// It depends on the values alone: bfloat16, float16, float32 and GGUF files that hold the same numbers have the same fingerprint,
/// however the model is then stored in memory. It is no proof against forgery, and a change of elements that are not sampled
/// escapes it.
public struct BaseFingerprint: Hashable, Sendable {
    /// Sixteen hexadecimal digits.
    public let digest: String
    /// Tensors of the base; a tied head is none of its own.
    public let numTensors: Int
    /// Elements of all tensors.
    public let numElements: Int

    /// The version of the computation, with which its hashes are seeded, and of the text.
    static let version = 1

    /// Makes a fingerprint of its parts.
    public init(digest: String, numTensors: Int, numElements: Int) {
        self.digest = digest
        self.numTensors = numTensors
        self.numElements = numElements
    }
}

extension BaseFingerprint: LosslessStringConvertible {
    /// The form for metadata: `1:9f86d081884c7d65:272:134515008`, version, digest, tensors, elements.
    public var description: String { "\(Self.version):\(digest):\(numTensors):\(numElements)" }

    /// Reads the form for metadata; nil for a text of another version or form.
    public init?(_ description: String) {
        let parts = description.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 4, Int(parts[0]) == Self.version, parts[1].count == 16,
            let numTensors = Int(parts[2]), let numElements = Int(parts[3])
        else { return nil }
        self.init(digest: String(parts[1]), numTensors: numTensors, numElements: numElements)
    }
}

extension BaseFingerprint: Codable {
    /// Reads the form for metadata.
    ///
    /// - Throws: `DecodingError.dataCorrupted` for a text of another version or form.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let fingerprint = BaseFingerprint(text) else {
            throw DecodingError.dataCorruptedError(
                in: container,
                debugDescription: "expected version:digest:tensors:elements, found \(text)")
        }
        self = fingerprint
    }

    /// Writes the form for metadata.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
