/// A 4-bit float: one sign bit, two exponent bits, one fraction bit, scaled so that the largest level is 1.
///
/// `w ~ codebook[code] * absmax`, `absmax` the largest magnitude of the weight's block. Levels are in order of bit pattern, not
/// of value; code 8 is a second zero.
///
/// - Source: bitsandbytes 0.50.2 `functional.py:get_4bit_type`.
public enum FP4 {
    /// The level of each code: multiples of 1/12.
    public static let codebook: [Float] = [
        0, 0.0625, 8, 12, 4, 6, 2, 3, 0, -0.0625, -8, -12, -4, -6, -2, -3,
    ].map { (level: Float) in level / 12 }
}
