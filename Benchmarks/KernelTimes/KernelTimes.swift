// Times every kernel of a training step at the shapes of SmolLM2-135M, by the instruction set that PEFT_INSTRUCTION_SET names.
//
//   KernelTimes [threads]
//
// One JSON line a layer: its name, the seconds of forward and of backward (medians), and the operations or bytes that they are
// measured by. With PEFT_INSTRUCTION_SET=portable the same layers run on libtorch's operations: Benchmarks/kernels.py compares.
import Foundation
import PEFT
import PEFTQuantization

/// A layer with its inputs: forward makes the output, which backward starts from.
struct Subject {
    let name: String
    /// Multiplications and additions, or bytes read and written, of a forward pass.
    let work: Double
    /// `flop` or `byte`.
    let unit: String
    /// The tensors that get gradients; none for a layer without backward.
    let leaves: [Tensor]
    let forward: () throws -> Tensor
}

/// SmolLM2-135M's shapes, 2 x 512 tokens.
struct Shapes {
    let tokens = 1024
    let hidden = 576
    let intermediate = 1536
    let vocabulary = 49_152
    let rank = 16
    let heads = 9
    let keyValueHeads = 3
    let headDim = 64
    let layout = SequenceLayout(segmentLengths: [512, 512])
    let dtype = DType.bfloat16
    private let generator: Generator

    init() throws { generator = try Generator(seed: 1) }

    func numbers(_ shape: Int..., requiresGrad: Bool = true) throws -> Tensor {
        let tensor = try Tensor.normal(shape, generator: generator).to(dtype)
        try tensor.setRequiresGrad(requiresGrad)
        return tensor
    }

    func scope() -> Scope { Scope(registry: ModuleRegistry(), source: RandomSource(seed: 1)) }

    /// A linear in NF4 with LoRA, as a step has most of them.
    func linear() throws -> Subject {
        let weight = try FourBitTensor(
            quantizing: numbers(intermediate, hidden, requiresGrad: false),
            config: QuantizationConfig())
        let layer = Linear(path: "linear", weight: FourBitWeight(weight))
        let adapter = try LoRA(
            target: LoRATarget(path: "linear", rank: rank, alpha: 32), inFeatures: hidden,
            outFeatures: intermediate, initialization: .random, seed: 1)
        layer.attach(adapter)
        let input = try numbers(tokens, hidden)
        let context = ForwardContext(layout: layout)
        return Subject(
            name: "linear, NF4 with LoRA, 576 -> 1536",
            work: 2 * Double(tokens)
                * Double(hidden * intermediate + rank * (hidden + intermediate)),
            unit: "flop", leaves: [input] + adapter.parameters.map(\.value)
        ) { try layer(input, context: context) }
    }

    func attention() throws -> Subject {
        let query = try numbers(tokens, heads, headDim)
        let key = try numbers(tokens, keyValueHeads, headDim)
        let value = try numbers(tokens, keyValueHeads, headDim)
        // Half of the scores are masked.
        let scores = layout.segmentLengths.reduce(0) { $0 + $1 * ($1 + 1) / 2 }
        return Subject(
            name: "attention, 9 heads of 64, 2 x 512", work: Double(4 * heads * headDim * scores),
            unit: "flop", leaves: [query, key, value]
        ) {
            try Attention.causal(
                query: query, key: key, value: value, layout: layout, scale: 1 / 8)
        }
    }

    func crossEntropy() throws -> Subject {
        let weight = try numbers(vocabulary, hidden, requiresGrad: false)
        let states = try numbers(tokens, hidden)
        let targets = (0..<tokens).map { Int32($0 * 7 % vocabulary) }
        // Forward makes the gradient, too, and backward nothing.
        return Subject(
            name: "head and cross entropy, 49152 tokens",
            work: 4 * Double(tokens * hidden) * Double(vocabulary),
            unit: "flop", leaves: []
        ) {
            try CrossEntropy.losses(hiddenStates: states, targets: targets, weight: weight) {
                slice throws(TorchError) in try slice.linear(weight.to(slice.dtype))
            }.sum
        }
    }

    func norm() throws -> Subject {
        let norm = try RMSNorm(hiddenSize: hidden, epsilon: 1e-5, scope())
        let input = try numbers(tokens, hidden)
        return Subject(
            name: "RMSNorm", work: Double(4 * tokens * hidden), unit: "byte", leaves: [input]
        ) { try norm(input) }
    }

    func rotary() throws -> Subject {
        let rotation = try RotaryEmbedding(headDim: headDim, theta: 10_000)
            .rotation(for: layout, dtype: dtype)
        let states = try numbers(tokens, heads, headDim)
        return Subject(
            name: "rotary embedding", work: Double(4 * tokens * heads * headDim), unit: "byte",
            leaves: [states]
        ) { try rotation(states) }
    }

    func swiGLU() throws -> Subject {
        let (gate, up) = (try numbers(tokens, intermediate), try numbers(tokens, intermediate))
        return Subject(
            name: "SwiGLU", work: Double(6 * tokens * intermediate), unit: "byte",
            leaves: [gate, up]
        ) { try SwiGLU.apply(gate: gate, up: up) }
    }

    func quantize() throws -> Subject {
        let weight = try numbers(intermediate, hidden, requiresGrad: false)
        return Subject(
            name: "quantize to NF4, 1536 x 576", work: Double(2 * intermediate * hidden),
            unit: "byte", leaves: []
        ) {
            _ = try FourBitTensor(quantizing: weight, config: QuantizationConfig())
            return weight
        }
    }

    func dequantize() throws -> Subject {
        let weight = try FourBitTensor(
            quantizing: numbers(intermediate, hidden, requiresGrad: false),
            config: QuantizationConfig())
        return Subject(
            name: "dequantize NF4, 1536 x 576", work: Double(2 * intermediate * hidden),
            unit: "byte", leaves: []
        ) { try weight.dequantized(to: dtype) }
    }

    var all: [() throws -> Subject] {
        [linear, attention, crossEntropy, norm, rotary, swiGLU, quantize, dequantize]
    }
}

/// The median time of a call, in calls for at least half a second.
func medianSeconds(_ body: () throws -> Void) rethrows -> Double {
    try body()
    var seconds: [Double] = []
    let clock = ContinuousClock()
    let end = clock.now + .milliseconds(500)
    while seconds.count < 5 || clock.now < end {
        let duration = try clock.measure { try body() }
        seconds.append(
            Double(duration.components.attoseconds) / 1e18 + Double(duration.components.seconds))
    }
    return seconds.sorted()[seconds.count / 2]
}

/// Times a layer, and prints its line.
func measure(_ subject: Subject) throws {
    let forward = try medianSeconds { _ = try subject.forward() }
    var line =
        "{\"kernel\": \"\(subject.name)\", \"forward_seconds\": \(forward), \"\(subject.unit)\": \(subject.work)"
    if !subject.leaves.isEmpty {
        // Both together, since a graph serves one backward pass.
        let gradient = try Tensor.ones(subject.forward().shape).to(subject.forward().dtype)
        let both = try medianSeconds {
            try subject.forward().backward(gradient: gradient)
            for leaf in subject.leaves { try leaf.setGrad(nil) }
        }
        line += ", \"backward_seconds\": \(both - forward)"
    }
    print(line + "}")
}

@main struct KernelTimes {
    static func main() throws {
        try InstructionSet.requireChoice()
        try TorchRuntime.setNumThreads(
            CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 1)
        for make in try Shapes().all { try measure(make()) }
    }
}
