import Foundation
import Torch

// D rotated channels of a head.

/// How rotary frequencies are changed so that a model reads longer sequences than it was first trained for.
///
/// Without scaling channel pair i turns by `f(i) = theta^(-2i/D)` a position.
///
/// - Source: transformers 5.23 `modeling_rope_utils.py`, whose arithmetic in float32 this follows.
public enum RotaryScaling: Hashable, Sendable {
    /// None.
    case none
    /// `f(i) / factor`: positions move closer together.
    case linear(factor: Double)
    /// A sequence of n tokens, longer than `maxPositionEmbeddings` m, has theta grow by `(factor n / m - factor + 1)^(D / (D - 2))`.
    case dynamic(factor: Double, maxPositionEmbeddings: Int)
    /// Long wavelengths are divided, short ones stay, those between are mixed.
    case llama3(Llama3)
    /// As `llama3` with other bounds, and scores grow.
    case yarn(YaRN)
    /// Each frequency is divided by a factor of its own, one set for short sequences and one for long ones.
    case longRoPE(LongRoPE)

    /// The numbers of Llama 3.1's scaling.
    public struct Llama3: Hashable, Sendable {
        /// Divides the frequencies of long wavelengths.
        public var factor: Double
        /// Wavelengths above `originalMaxPositionEmbeddings / lowFrequencyFactor` are long.
        public var lowFrequencyFactor: Double
        /// Wavelengths below `originalMaxPositionEmbeddings / highFrequencyFactor` are short.
        public var highFrequencyFactor: Double
        /// The longest sequence before scaling.
        public var originalMaxPositionEmbeddings: Int

        /// Takes the numbers.
        public init(
            factor: Double, lowFrequencyFactor: Double, highFrequencyFactor: Double,
            originalMaxPositionEmbeddings: Int
        ) {
            self.factor = factor
            self.lowFrequencyFactor = lowFrequencyFactor
            self.highFrequencyFactor = highFrequencyFactor
            self.originalMaxPositionEmbeddings = originalMaxPositionEmbeddings
        }
    }

    /// The numbers of YaRN.
    ///
    /// - Source: Peng et al. 2023, "YaRN: Efficient Context Window Extension of Large Language Models", section 3.2.
    public struct YaRN: Hashable, Sendable {
        /// Divides the frequencies of pairs that turn less than `betaSlow` times.
        public var factor: Double
        /// Factor of sine and cosine.
        public var attentionFactor: Double
        /// Pairs that turn more often than this over the original length stay.
        public var betaFast: Double
        /// Pairs that turn less often than this over the original length are divided.
        public var betaSlow: Double
        /// Whether the bounds between the two are whole channels.
        public var truncatesBounds: Bool
        /// The longest sequence before scaling.
        public var originalMaxPositionEmbeddings: Int

        /// Takes the numbers.
        public init(
            factor: Double, attentionFactor: Double, betaFast: Double = 32, betaSlow: Double = 1,
            truncatesBounds: Bool = true, originalMaxPositionEmbeddings: Int
        ) {
            self.factor = factor
            self.attentionFactor = attentionFactor
            self.betaFast = betaFast
            self.betaSlow = betaSlow
            self.truncatesBounds = truncatesBounds
            self.originalMaxPositionEmbeddings = originalMaxPositionEmbeddings
        }
    }

    /// The numbers of LongRoPE.
    ///
    /// - Source: Ding et al. 2024, "LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens".
    public struct LongRoPE: Hashable, Sendable {
        /// The divisor of each frequency in sequences up to the original length, `D / 2`.
        public var shortFactor: [Double]
        /// The divisor of each frequency in longer sequences, `D / 2`.
        public var longFactor: [Double]
        /// Factor of sine and cosine.
        public var attentionFactor: Double
        /// The longest sequence of the first kind.
        public var originalMaxPositionEmbeddings: Int

        /// Takes the numbers.
        public init(
            shortFactor: [Double], longFactor: [Double], attentionFactor: Double,
            originalMaxPositionEmbeddings: Int
        ) {
            self.shortFactor = shortFactor
            self.longFactor = longFactor
            self.attentionFactor = attentionFactor
            self.originalMaxPositionEmbeddings = originalMaxPositionEmbeddings
        }
    }
}

extension RotaryScaling {
    /// Factor of sine and cosine.
    var attentionFactor: Double {
        switch self {
        case .none, .linear, .dynamic, .llama3: 1
        case .yarn(let yarn): yarn.attentionFactor
        case .longRoPE(let longRoPE): longRoPE.attentionFactor
        }
    }

    /// A length with the same frequencies as a sequence of so many tokens, the same for all of them.
    func representative(of length: Int) -> Int {
        switch self {
        case .none, .linear, .llama3, .yarn: return 0
        case .dynamic(_, let maximum): return max(length, maximum)
        case .longRoPE(let longRoPE):
            return length > longRoPE.originalMaxPositionEmbeddings
                ? longRoPE.originalMaxPositionEmbeddings + 1 : 0
        }
    }

    /// The angle of each channel pair by which a position turns it, float32 `[D / 2]`.
    func inverseFrequencies(
        numChannels: Int, theta: Double, length: Int
    ) throws(TorchError) -> Tensor {
        // As transformers computes them: in float32, the exponent first.
        func inverses(_ theta: Double) throws(TorchError) -> Tensor {
            let channels = try Tensor.arange(numChannels / 2).to(.float32) * 2
            let exponents = try channels / Tensor.full([1], Double(numChannels))
            return try Tensor.full([1], theta).raised(to: exponents)
        }
        func plain(_ theta: Double) throws(TorchError) -> Tensor {
            try Tensor.ones([1]) / inverses(theta)
        }
        switch self {
        case .none: return try plain(theta)
        case .linear(let factor): return try plain(theta) / Tensor.full([1], factor)
        case .dynamic(let factor, let maximum):
            let stretch = factor * Double(length) / Double(maximum) - (factor - 1)
            return try plain(theta * pow(stretch, Double(numChannels) / Double(numChannels - 2)))
        case .llama3(let llama3): return try llama3.scaled(plain(theta))
        case .yarn(let yarn):
            return try yarn.scaled(inverses(theta), numChannels: numChannels, theta: theta)
        case .longRoPE(let longRoPE):
            let isLong = length > longRoPE.originalMaxPositionEmbeddings
            let factors = isLong ? longRoPE.longFactor : longRoPE.shortFactor
            precondition(factors.count == numChannels / 2, "a factor for each channel pair")
            let divisors = try Tensor(factors.map { Float($0) }, shape: [factors.count])
            return try Tensor.ones([1]) / (divisors * inverses(theta))
        }
    }
}

extension RotaryScaling.Llama3 {
    fileprivate func scaled(_ frequencies: Tensor) throws(TorchError) -> Tensor {
        let original = Float(originalMaxPositionEmbeddings)
        let (low, high) = (Float(lowFrequencyFactor), Float(highFrequencyFactor))
        return try mapped(frequencies) { frequency, _ in
            let wavelength = 2 * Float.pi / frequency
            if wavelength < original / high { return frequency }
            if wavelength > original / low { return frequency / Float(factor) }
            let smooth = (original / wavelength - low) / (high - low)
            return (1 - smooth) * frequency / Float(factor) + smooth * frequency
        }
    }
}

extension RotaryScaling.YaRN {
    fileprivate func scaled(
        _ inverses: Tensor, numChannels: Int, theta: Double
    ) throws(TorchError) -> Tensor {
        /// The channel pair that turns so many times over the original length.
        func pair(turning numTurns: Double) -> Double {
            let length = Double(originalMaxPositionEmbeddings)
            return Double(numChannels) * log(length / (numTurns * 2 * .pi)) / (2 * log(theta))
        }
        var (low, high) = (pair(turning: betaFast), pair(turning: betaSlow))
        if truncatesBounds {
            (low, high) = (low.rounded(.down), high.rounded(.up))
        }
        (low, high) = (max(low, 0), min(high, Double(numChannels - 1)))
        if low == high { high += 0.001 }
        return try mapped(inverses) { inverse, index in
            let ramp = min(max((Float(index) - Float(low)) / Float(high - low), 0), 1)
            let kept = 1 - ramp
            return 1 / (Float(factor) * inverse) * (1 - kept) + 1 / inverse * kept
        }
    }
}

/// A tensor of what `scale` makes of each element and its index.
private func mapped(
    _ tensor: Tensor, _ scale: (Float, Int) -> Float
) throws(TorchError) -> Tensor {
    guard !DryRun.isOn else { return tensor }
    let values = try tensor.floats().enumerated().map { scale($0.element, $0.offset) }
    return try Tensor(values, shape: [values.count])
}
