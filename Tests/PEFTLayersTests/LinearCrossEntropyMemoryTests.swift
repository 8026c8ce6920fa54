import CKernels
import PEFTLayers
import Testing
import Torch

/// The kernel writes its results and its workspace and nothing around them, whatever strides and alignment.
@Suite(.enabled(if: InstructionSet.avx2.isSupported, "the processor has no fused products"))
struct LinearCrossEntropyMemoryTests {
    private static let canary: UInt8 = 0xa5
    private static let margin = 64

    /// Bytes between two margins of canaries, at an address that only the element's size divides.
    private struct Guarded {
        private var storage: [UInt8]
        private let begin: Int
        private let count: Int

        init(count: Int, alignment: Int) {
            self.count = count
            begin = margin + alignment
            storage = Array(repeating: canary, count: begin + count + margin)
        }

        mutating func withAddress<Result>(_ body: (UnsafeMutableRawPointer?) -> Result) -> Result {
            storage.withUnsafeMutableBytes { body($0.baseAddress.map { $0 + begin }) }
        }

        var bytes: ArraySlice<UInt8> { storage[begin..<begin + count] }
        var isIntactAround: Bool {
            (storage[..<begin] + storage[(begin + count)...]).allSatisfy { $0 == canary }
        }
    }

    /// Rows at a stride, the elements between them NaN.
    private static func strided(_ tensor: Tensor, stride: Int) throws -> [UInt16] {
        let (rows, columns) = (tensor.shape[0], tensor.shape[1])
        var result = Array(repeating: UInt16(0x7fc0), count: (rows - 1) * stride + columns)
        tensor.withUnsafeBytes { bytes in
            let elements = bytes.bindMemory(to: UInt16.self)
            for row in 0..<rows {
                for column in 0..<columns {
                    result[row * stride + column] = elements[row * columns + column]
                }
            }
        }
        return result
    }

    /// Calls the kernel on guarded memory: its losses' and gradient's bytes, or nil for one that is not wanted.
    private func run(
        _ subject: HeadCase, hiddenStride: Int, weightStride: Int, withGradient: Bool
    ) throws -> (losses: [UInt8], gradient: [UInt8]?) {
        let (count, hiddenSize) = (subject.labels.count, subject.hidden.shape[1])
        let hidden = try Self.strided(subject.hidden, stride: hiddenStride)
        let weight = try Self.strided(subject.weight, stride: weightStride)
        let set = subject.instructionSet.rawValue
        let numBytes = ckernels_cross_entropy_workspace_bytes(
            set, Int64(count), Int64(hiddenSize), withGradient ? 1 : 0, 1)
        var workspace = Guarded(count: Int(numBytes), alignment: 4)
        var losses = Guarded(count: count * 4, alignment: 4)
        var gradient = Guarded(count: withGradient ? count * hiddenSize * 2 : 0, alignment: 2)
        let status = workspace.withAddress { workspace in
            losses.withAddress { losses in
                gradient.withAddress { gradient in
                    hidden.withUnsafeBufferPointer { hidden in
                        weight.withUnsafeBufferPointer { weight in
                            ckernels_cross_entropy(
                                set,
                                CKernelsLinearHead(
                                    hidden_size: Int64(hiddenSize),
                                    vocabulary_size: Int64(subject.weight.shape[0]),
                                    hidden: hidden.baseAddress, hidden_stride: Int64(hiddenStride),
                                    weight: weight.baseAddress,
                                    weight_stride: Int64(weightStride)),
                                Int64(count), subject.positions, subject.labels,
                                CKernelsThreads(count: 1, run: nil), workspace,
                                losses?.assumingMemoryBound(to: Float.self),
                                withGradient
                                    ? gradient?.assumingMemoryBound(to: UInt16.self) : nil)
                        }
                    }
                }
            }
        }
        #expect(status == 0)
        #expect(workspace.isIntactAround && losses.isIntactAround && gradient.isIntactAround)
        return (Array(losses.bytes), withGradient ? Array(gradient.bytes) : nil)
    }

    @Test(
        arguments: [(1, 2, 3), (23, 30, 127), (90, 64, 128), (60, 66, 300), (250, 40, 145)],
        HeadCase.instructionSets)
    func writesItsResultsOnlyAtAnyStride(
        _ shape: (Int, Int, Int), on instructionSet: InstructionSet
    ) throws {
        let subject = try HeadCase(
            numTokens: shape.0, hiddenSize: shape.1, vocabularySize: shape.2
        ).with(on: instructionSet)
        let expected = try subject.computed()
        for (padding, withGradient) in [0, 1, 2].flatMap({ [($0, true), ($0, false)] }) {
            let found = try run(
                subject, hiddenStride: shape.1 + padding, weightStride: shape.1 + padding,
                withGradient: withGradient)
            #expect(found.losses == expected.losses.withUnsafeBytes { Array($0) })
            guard let gradient = found.gradient else { continue }
            #expect(try gradient == #require(expected.gradient).withUnsafeBytes { Array($0) })
        }
    }

    @Test(arguments: [(Int64(6), Int64(5)), (6, -1), (7, 0)])
    func refusesLabelsOutOfRangeAndOddSizesWithoutWriting(
        hiddenSize: Int64, label: Int64
    ) throws {
        let elements = Array(repeating: UInt16(0), count: 35)
        var losses: [Float] = [3]
        let status = elements.withUnsafeBufferPointer { elements in
            ckernels_cross_entropy(
                Int32(CKERNELS_ISA_AVX512_BF16),
                CKernelsLinearHead(
                    hidden_size: hiddenSize, vocabulary_size: 5, hidden: elements.baseAddress,
                    hidden_stride: hiddenSize, weight: elements.baseAddress,
                    weight_stride: hiddenSize),
                1, [0], [label], CKernelsThreads(count: 1, run: nil), nil, &losses, nil)
        }
        #expect(status == -1)
        #expect(losses == [3])
    }
}
