import CTorch

/// A seeded stream of random numbers (libtorch's Mersenne Twister on the CPU).
///
/// There is no global generator: whoever draws numbers is handed one.
public final class Generator {
    let handle: OpaquePointer

    /// Starts the stream of a seed; equal seeds give equal numbers.
    public init(seed: UInt64) throws(TorchError) {
        var out: OpaquePointer?
        guard ctorch_generator_make(seed, &out) == 0, let out else {
            throw TorchError.last("Generator", [])
        }
        handle = out
    }

    deinit {
        ctorch_generator_free(handle)
    }
}

extension Tensor {
    /// Independent float32 numbers, uniform in `[low, high)`.
    public static func uniform(
        _ shape: [Int], from low: Double = 0, to high: Double = 1, generator: Generator
    ) throws(TorchError) -> Tensor {
        let tensor = try empty(shape)
        try check(
            "uniform", [tensor],
            ctorch_random_uniform(tensor.handle, low, high, generator.handle))
        return tensor
    }

    /// Independent numbers, normal.
    public static func normal(
        _ shape: [Int], mean: Double = 0, standardDeviation: Double = 1, dtype: DType = .float32,
        generator: Generator
    ) throws(TorchError) -> Tensor {
        let tensor = try empty(shape, dtype: dtype)
        try check(
            "normal", [tensor],
            ctorch_random_normal(tensor.handle, mean, standardDeviation, generator.handle))
        return tensor
    }

    /// Independent numbers, 1 with the given probability and else 0.
    public static func bernoulli(
        _ shape: [Int], probability: Double, dtype: DType = .float32, generator: Generator
    ) throws(TorchError) -> Tensor {
        let tensor = try empty(shape, dtype: dtype)
        try check(
            "bernoulli", [tensor],
            ctorch_random_bernoulli(tensor.handle, probability, generator.handle))
        return tensor
    }

    /// One index drawn with the (unnormalized) probabilities in self, `[classes]`.
    public func multinomial(generator: Generator) throws(TorchError) -> Int {
        let index = try Tensor.make("multinomial", [self]) {
            ctorch_random_multinomial(handle, generator.handle, $0)
        }
        return Int(try index.item())
    }
}
