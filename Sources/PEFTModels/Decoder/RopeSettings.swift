import Foundation
import PEFTLayers

/// The rotary settings of a file, `rope_parameters` or `rope_scaling`: for all blocks, or for each kind of attention its own.
public struct RopeSettings: Codable, Hashable, Sendable {
    /// For all blocks.
    public var shared: RopeParameters
    /// For blocks that see everything before a token.
    public var fullAttention: RopeParameters?
    /// For blocks that see a window.
    public var slidingAttention: RopeParameters?

    private enum CodingKeys: String, CodingKey {
        case fullAttention, slidingAttention
    }

    /// Reads either form.
    public init(from decoder: any Decoder) throws {
        shared = try RopeParameters(from: decoder)
        let kinds = try decoder.container(keyedBy: CodingKeys.self)
        fullAttention = try kinds.decodeIfPresent(RopeParameters.self, forKey: .fullAttention)
        slidingAttention = try kinds.decodeIfPresent(
            RopeParameters.self, forKey: .slidingAttention)
    }

    /// Writes the form that was read.
    public func encode(to encoder: any Encoder) throws {
        try shared.encode(to: encoder)
        var kinds = encoder.container(keyedBy: CodingKeys.self)
        try kinds.encodeIfPresent(fullAttention, forKey: .fullAttention)
        try kinds.encodeIfPresent(slidingAttention, forKey: .slidingAttention)
    }
}

/// Rotary settings; property names are the keys in camel case.
///
/// - Source: transformers 5.23 `modeling_rope_utils.py:RopeParameters`.
public struct RopeParameters: Codable, Hashable, Sendable {
    /// Base of the frequencies.
    public var ropeTheta: Double?
    /// The scaling; `default` means none.
    public var ropeType: String?
    /// The scaling under its older name.
    public var type: String?
    /// The share of a head's channels that is rotated.
    public var partialRotaryFactor: Double?
    /// How much longer sequences become.
    public var factor: Double?
    /// The longest sequence before scaling.
    public var originalMaxPositionEmbeddings: Int?
    /// Factor of sine and cosine.
    public var attentionFactor: Double?
    /// A bound of YaRN.
    public var betaFast: Double?
    /// A bound of YaRN.
    public var betaSlow: Double?
    /// Part of YaRN's attention factor.
    public var mscale: Double?
    /// Part of YaRN's attention factor.
    public var mscaleAllDim: Double?
    /// Whether YaRN's bounds are whole channels.
    public var truncate: Bool?
    /// Divisors of LongRoPE for short sequences.
    public var shortFactor: [Double]?
    /// Divisors of LongRoPE for long sequences.
    public var longFactor: [Double]?
    /// A bound of Llama 3.
    public var lowFreqFactor: Double?
    /// A bound of Llama 3.
    public var highFreqFactor: Double?

    /// Makes settings that say nothing.
    public init() {}
}

/// A rotary embedding as a family needs it: how many channels, which frequencies.
struct RotarySettings {
    let numChannels: Int
    let theta: Double
    let scaling: RotaryScaling

    func makeEmbedding() throws -> RotaryEmbedding {
        try RotaryEmbedding(headDim: numChannels, theta: theta, scaling: scaling)
    }
}

extension DecoderConfig {
    /// The rotary embedding that the configuration asks for.
    ///
    /// - Parameters:
    ///   - choose: the settings to take of a file that has several.
    ///   - theta: base of the frequencies where the settings do not say it; nil takes ``ropeTheta``.
    ///   - aliases: other names of scalings.
    /// - Returns: what the embedding is made of.
    /// - Throws: `ModelError` naming the key that is missing or not known.
    func rotarySettings(
        _ choose: (RopeSettings) -> RopeParameters? = { $0.shared }, theta: Double? = nil,
        aliases: [String: String] = [:]
    ) throws(ModelError) -> RotarySettings {
        let reader = RopeReader(
            key: ropeScaling == nil ? "rope_parameters" : "rope_scaling",
            parameters: (ropeScaling ?? ropeParameters).flatMap(choose) ?? RopeParameters(),
            decoder: self)
        let share = reader.parameters.partialRotaryFactor ?? partialRotaryFactor ?? 1
        let numChannels = Int(Double(headSize) * share)
        guard numChannels > 0, numChannels.isMultiple(of: 2), numChannels <= headSize else {
            throw .invalidConfiguration(
                key: share == 1 ? "head_dim" : "partial_rotary_factor",
                found: share == 1 ? "\(headSize)" : "\(share) of \(headSize) channels",
                expected: "a positive even number" + (share == 1 ? "" : " of channels"))
        }
        let method = reader.method
        return RotarySettings(
            numChannels: numChannels, theta: reader.parameters.ropeTheta ?? theta ?? ropeTheta,
            scaling: try reader.scaling(aliases[method] ?? method, numChannels: numChannels))
    }
}

/// Makes a scaling of rotary settings.
private struct RopeReader {
    let key: String
    let parameters: RopeParameters
    let decoder: DecoderConfig

    var method: String { parameters.ropeType ?? parameters.type ?? "default" }

    func scaling(_ method: String, numChannels: Int) throws(ModelError) -> RotaryScaling {
        switch method {
        case "default": return .none
        case "linear": return .linear(factor: try positive(parameters.factor, "factor"))
        case "dynamic":
            guard numChannels > 2 else {
                throw invalid("rope_type", found: "\"dynamic\"", "more than two rotated channels")
            }
            return .dynamic(
                factor: try positive(parameters.factor, "factor"),
                maxPositionEmbeddings: decoder.maxPositionEmbeddings)
        case "llama3": return .llama3(try llama3())
        case "yarn": return .yarn(try yarn())
        case "longrope": return .longRoPE(try longRoPE(numChannels: numChannels))
        default:
            throw invalid(
                "rope_type", found: "\"\(method)\"",
                "one of default, linear, dynamic, llama3, yarn, longrope")
        }
    }

    private var originalMaxPositionEmbeddings: Int {
        decoder.originalMaxPositionEmbeddings ?? parameters.originalMaxPositionEmbeddings
            ?? decoder.maxPositionEmbeddings
    }

    /// How much longer sequences become, by the settings or by the lengths.
    private var impliedFactor: Double {
        parameters.factor
            ?? Double(decoder.maxPositionEmbeddings) / Double(originalMaxPositionEmbeddings)
    }

    private func llama3() throws(ModelError) -> RotaryScaling.Llama3 {
        RotaryScaling.Llama3(
            factor: try positive(parameters.factor, "factor"),
            lowFrequencyFactor: try positive(parameters.lowFreqFactor, "low_freq_factor"),
            highFrequencyFactor: try positive(parameters.highFreqFactor, "high_freq_factor"),
            originalMaxPositionEmbeddings: originalMaxPositionEmbeddings)
    }

    private func yarn() throws(ModelError) -> RotaryScaling.YaRN {
        func scale(_ factor: Double, _ mscale: Double) -> Double {
            factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1
        }
        let factor = try positive(impliedFactor, "factor")
        var attentionFactor = parameters.attentionFactor ?? scale(factor, 1)
        if parameters.attentionFactor == nil, let own = parameters.mscale,
            let all = parameters.mscaleAllDim, own != 0, all != 0
        {
            attentionFactor = scale(factor, own) / scale(factor, all)
        }
        func bound(_ value: Double?, _ standard: Double) -> Double {
            value.map { $0 == 0 ? standard : $0 } ?? standard
        }
        return RotaryScaling.YaRN(
            factor: factor, attentionFactor: attentionFactor,
            betaFast: bound(parameters.betaFast, 32), betaSlow: bound(parameters.betaSlow, 1),
            truncatesBounds: parameters.truncate ?? true,
            originalMaxPositionEmbeddings: originalMaxPositionEmbeddings)
    }

    private func longRoPE(numChannels: Int) throws(ModelError) -> RotaryScaling.LongRoPE {
        func divisors(_ values: [Double]?, _ name: String) throws(ModelError) -> [Double] {
            guard let values, values.count == numChannels / 2 else {
                throw invalid(
                    name, found: values.map { "\($0.count)" } ?? "nothing",
                    "\(numChannels / 2) numbers, one for each pair of rotated channels")
            }
            return values
        }
        let (factor, original) = (impliedFactor, originalMaxPositionEmbeddings)
        let derived = factor <= 1 ? 1 : (1 + log(factor) / log(Double(original))).squareRoot()
        return RotaryScaling.LongRoPE(
            shortFactor: try divisors(parameters.shortFactor, "short_factor"),
            longFactor: try divisors(parameters.longFactor, "long_factor"),
            attentionFactor: parameters.attentionFactor ?? derived,
            originalMaxPositionEmbeddings: original)
    }

    private func positive(_ value: Double?, _ name: String) throws(ModelError) -> Double {
        guard let value, value > 0 else {
            throw invalid(name, found: value.map { "\($0)" } ?? "nothing", "a positive number")
        }
        return value
    }

    private func invalid(_ name: String, found: String, _ expected: String) -> ModelError {
        .invalidConfiguration(key: "\(key).\(name)", found: found, expected: expected)
    }
}
