/// What the shape of a learning rate depends on, by the names of transformers' `lr_scheduler_kwargs`.
public struct ScheduleOptions: Sendable, Hashable {
    /// How a stage of `warmup_stable_decay` goes.
    public enum Stage: String, Sendable, CaseIterable {
        /// Along a line.
        case linear
        /// Along a cosine.
        case cosine
        /// Along one minus a root.
        case oneMinusSqrt = "1-sqrt"
    }

    /// Waves of the cosine; half a one by default, one with restarts.
    public var numCycles: Double?
    /// The last learning rate of `polynomial`.
    public var lrEnd = 1e-7
    /// The exponent of `polynomial`.
    public var power = 1.0
    /// The time scale of `inverse_sqrt`; nil for the steps of warm-up, or 10,000 without.
    public var timescale: Double?
    /// The least learning rate of `cosine_with_min_lr`.
    public var minLr: Double?
    /// The same as a share of the peak.
    public var minLrRate: Double?
    /// Steps of decay of `warmup_stable_decay`.
    public var numDecaySteps: Int?
    /// Steps at its peak; nil for those that are left.
    public var numStableSteps: Int?
    /// How its warm-up goes.
    public var warmupType = Stage.linear
    /// How its decay goes.
    public var decayType = Stage.cosine
    /// Its least learning rate, as a share of the peak.
    public var minLrRatio = 0.0

    /// Makes transformers' defaults.
    public init() {}

    /// Reads the values of a configuration; what is not of the right kind, ``problem(_:_:for:)`` finds.
    init(_ values: [String: ScalarOption]) {
        for (key, value) in values { Self.set(key, value, in: &self) }
    }

    /// Sets one value.
    ///
    /// - Returns: what it must be, if it is not; nil if it was set.
    @discardableResult
    private static func set(
        _ key: String, _ value: ScalarOption, in options: inout ScheduleOptions
    ) -> String? {
        switch (key, value) {
        case ("num_cycles", .number(let number)) where number > 0: options.numCycles = number
        case ("num_cycles", _): return "a number above 0"
        case ("lr_end", .number(let number)) where number >= 0: options.lrEnd = number
        case ("power", .number(let number)) where number > 0: options.power = number
        case ("power", _): return "a number above 0"
        case ("timescale", .number(let number)) where number > 0: options.timescale = number
        case ("timescale", _): return "a number above 0"
        case ("min_lr", .number(let number)) where number >= 0: options.minLr = number
        case ("min_lr_rate", .number(let number)) where (0...1).contains(number):
            options.minLrRate = number
        case ("min_lr_rate", _): return "at least 0 and at most 1"
        case ("min_lr_ratio", .number(let number)) where (0...1).contains(number):
            options.minLrRatio = number
        case ("min_lr_ratio", _): return "at least 0 and at most 1"
        case ("num_decay_steps", let value):
            guard let count = value.count else { return "a whole number, at least 0" }
            options.numDecaySteps = count
        case ("num_stable_steps", let value):
            guard let count = value.count else { return "a whole number, at least 0" }
            options.numStableSteps = count
        case ("warmup_type", let value):
            guard let stage = value.stage else { return stages }
            options.warmupType = stage
        case ("decay_type", let value):
            guard let stage = value.stage else { return stages }
            options.decayType = stage
        default: return "a number, at least 0"
        }
        return nil
    }

    private static let stages = "one of linear, cosine, 1-sqrt"

    /// What is wrong with one value of a configuration.
    ///
    /// - Returns: what is expected instead; nil if it is good.
    static func problem(_ key: String, _ value: ScalarOption) -> String? {
        var options = ScheduleOptions()
        return set(key, value, in: &options)
    }
}

/// A number or a word.
public enum ScalarOption: Hashable, Sendable, Codable, ConfigParsable {
    /// A number.
    case number(Double)
    /// A word.
    case text(String)

    package static var expectation: String { "a number or a word" }
    package static var placeholder: String { "X" }

    package init?(_ value: OptionValue) {
        if let number = Double(value) {
            self = .number(number)
        } else if let text = String(value) {
            self = .text(text)
        } else {
            return nil
        }
    }

    package var optionValue: OptionValue {
        switch self {
        case .number(let number): number.optionValue
        case .text(let text): text.optionValue
        }
    }

    /// Reads a number or a string.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let number = try? container.decode(Double.self) {
            self = .number(number)
        } else {
            self = .text(try container.decode(String.self))
        }
    }

    /// Writes a number or a string.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .number(let number): try container.encode(number)
        case .text(let text): try container.encode(text)
        }
    }

    /// A whole number from 0.
    fileprivate var count: Int? {
        guard case .number(let number) = self, let count = Int(exactly: number), count >= 0 else {
            return nil
        }
        return count
    }

    fileprivate var stage: ScheduleOptions.Stage? {
        guard case .text(let text) = self else { return nil }
        return ScheduleOptions.Stage(rawValue: text)
    }
}
