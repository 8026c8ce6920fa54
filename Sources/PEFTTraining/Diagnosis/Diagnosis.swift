public import PEFTTokenizers

/// What is wrong with a set-up, where, why, and what to do about it.
public struct Diagnosis: Error, Hashable, Sendable, CustomStringConvertible {
    /// The stable name of the failure.
    public let code: DiagnosisCode
    /// Where it is: a layer and operation, a tensor, a file and row.
    public let place: String
    /// Why, in one sentence without a period.
    public let reason: String
    /// The flag or call that mends it.
    public let remedy: String
    /// The trainable tensors that it keeps from learning; empty where it is not about tensors.
    public let tensors: [String]

    /// Describes a failure.
    public init(
        _ code: DiagnosisCode, at place: String, _ reason: String, remedy: String,
        tensors: [String] = []
    ) {
        self.code = code
        self.place = place
        self.reason = reason
        self.remedy = remedy
        self.tensors = tensors
    }

    /// The values as JSON, with these names in snake_case.
    public var json: JSONObject {
        JSONObject([
            ("code", .string(code.rawValue)),
            ("place", .string(place)),
            ("reason", .string(reason)),
            ("remedy", .string(remedy)),
            ("tensors", .array(tensors.map { .string($0) })),
        ])
    }

    /// The most tensors that a message lists.
    private static let numListed = 4

    /// `PEFT-G002: model.layers.3.mlp.down_proj: reason; remedy (keeps 7 tensors from learning: ...)`.
    public var description: String {
        let listed = tensors.prefix(Self.numListed).joined(separator: ", ")
        let rest = tensors.count - Self.numListed
        let more = rest > 0 ? " and \(rest) more" : ""
        let effect =
            tensors.isEmpty
            ? "" : "; without gradient: \(tensors.count) trainable tensors (\(listed)\(more))"
        return "\(code.rawValue): \(place): \(reason)\(effect); \(remedy)"
    }
}
