/// The 8-bit dynamic data type: an exponent in unary whose length decides how many bits are left for the fraction.
///
/// Level `+-10^(i - 6) * m`, `m` the middles of `2^i` equal parts of [0.1, 1], for i = 0...6; and 0 and 1. The range -0.993...1 in
/// 256 levels, ascending. Without sign there are twice as many parts.
///
/// - Source: Dettmers 2015, "8-Bit Approximations for Parallelism in Deep Learning" (arXiv 1511.04561), 2.2; bitsandbytes 0.50.2
///   `functional.py:create_dynamic_map`, whose rounding (float32, `torch.linspace` from both ends with fused
///   multiply-add) is repeated here bit for bit.
public enum DynamicMap {
    /// The levels, ascending.
    public static let codebook: [Float] = makeCodebook(isSigned: true)
    /// The levels without sign, ascending.
    public static let unsignedCodebook: [Float] = makeCodebook(isSigned: false)

    private static func makeCodebook(isSigned: Bool) -> [Float] {
        var levels: [Float] = [0, 1]
        let powersOfTen: [Float] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1]
        for (exponent, power) in powersOfTen.enumerated() {
            let boundaries = linspace(count: (1 << (isSigned ? exponent : exponent + 1)) + 1)
            for (low, high) in zip(boundaries, boundaries.dropFirst()) {
                let level = power * ((low + high) / 2)
                levels += isSigned ? [level, -level] : [level]
            }
        }
        return levels.sorted()
    }

    /// Equidistant values from 0.1 to 1.
    private static func linspace(count: Int) -> [Float] {
        let (start, end): (Float, Float) = (0.1, 1)
        let step = (end - start) / Float(count - 1)
        return (0..<count).map { index in
            index < count / 2
                ? start.addingProduct(step, Float(index))
                : end.addingProduct(-step, Float(count - 1 - index))
        }
    }
}
