/// NormalFloat4: 16 levels that split a normal distribution into parts of equal weight, with an exact zero.
///
/// `w ~ codebook[code] * absmax`, `absmax` the largest magnitude of the weight's block.
///
/// - Source: Dettmers et al. 2023, "QLoRA" (arXiv 2305.14314), appendix E; bitsandbytes 0.50.2
///   `functional.py:get_4bit_type`.
public enum NF4 {
    /// The level of each code, ascending.
    public static let codebook: [Float] = [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]
}
