import CKernels
import PEFTLayers
import Testing
import Torch

/// Kernels write their own range and nothing around it, whatever the alignment.
@Suite struct ElementwiseMemoryTests {
    private static let canary: UInt8 = 0xa5
    private static let margin = 64

    /// Elements between two margins of canaries, at an address that only their own size divides.
    private final class Guarded {
        private var storage: [UInt8]
        private let begin: Int
        private let size: Int

        init(count: Int, elementSize: Int) {
            size = count * elementSize
            begin = margin + elementSize
            storage = Array(repeating: canary, count: begin + size + margin)
        }

        /// Lends the address of the first element.
        func write(_ body: (UnsafeMutableRawPointer?) -> Void) {
            storage.withUnsafeMutableBytes { body($0.baseAddress.map { $0 + begin }) }
        }

        /// Whether the given bytes of the elements were written, and no others: something in each four bytes of the range.
        func isWritten(only range: Range<Int>) -> Bool {
            let written = range.lowerBound + begin..<range.upperBound + begin
            let outside = storage[..<written.lowerBound] + storage[written.upperBound...]
            return outside.allSatisfy { $0 == canary }
                && stride(from: written.lowerBound, to: written.upperBound, by: 4).allSatisfy {
                    storage[$0..<min($0 + 4, written.upperBound)].contains { $0 != canary }
                }
        }
    }

    private struct Case {
        let isa: Int32
        let type: Int32
        let elementSize: Int
        let numRows = 3
        let width: Int

        /// Numbers of the element type; what they are does not matter here.
        func input(_ count: Int) -> Guarded {
            let result = Guarded(count: count, elementSize: elementSize)
            result.write { address in
                guard let address else { return }
                for index in 0..<count * elementSize {
                    address.storeBytes(of: UInt8(index % 60), toByteOffset: index, as: UInt8.self)
                }
            }
            return result
        }

        func output(_ count: Int) -> Guarded { Guarded(count: count, elementSize: elementSize) }

        /// The bytes of the second of three rows.
        var middleRow: Range<Int> { width * elementSize..<2 * width * elementSize }
    }

    /// Calls `body` for each instruction set, element type and width.
    private func forEachCase(_ body: (Case) -> Void) {
        for instructionSet in ElementwiseKernelsTests.instructionSets {
            for dtype in ElementwiseKernelsTests.dtypes {
                for width in [1, 7, 16, 33, 64, 100] {
                    guard let type = dtype.kernelElementType else { continue }
                    body(
                        Case(
                            isa: instructionSet.rawValue, type: type,
                            elementSize: dtype.sizeBytes, width: width))
                }
            }
        }
    }

    @Test func rmsNormWritesItsRows() {
        forEachCase { subject in
            let (count, width) = (subject.numRows * subject.width, Int64(subject.width))
            let (x, dy, weight) = (
                subject.input(count), subject.input(count), subject.input(subject.width)
            )
            let (output, gradient) = (subject.output(count), subject.output(count))
            let inverse = Guarded(count: 3, elementSize: 4)
            let weightGradient = Guarded(count: subject.width, elementSize: 4)
            addresses([x, dy, weight, output, gradient, inverse, weightGradient]) { at in
                let inverse = at[5]?.assumingMemoryBound(to: Float.self)
                #expect(
                    ckernels_rmsnorm_forward(
                        subject.isa, subject.type, at[0], at[2], 0, 1, 1e-5, width, 1, 2, at[3],
                        inverse)
                        == 0)
                #expect(
                    ckernels_rmsnorm_backward(
                        subject.isa, subject.type, at[1], at[0], at[2], 0, inverse, width, 1, 2,
                        at[4])
                        == 0)
            }
            #expect(inverse.isWritten(only: 4..<8))
            #expect(output.isWritten(only: subject.middleRow))
            #expect(gradient.isWritten(only: subject.middleRow))
            let channels = subject.width / 3..<subject.width - subject.width / 3
            let (first, end) = (Int64(channels.lowerBound), Int64(channels.upperBound))
            addresses([x, dy, inverse, weightGradient]) { at in
                let floats = [at[2], at[3]].map { $0?.assumingMemoryBound(to: Float.self) }
                #expect(
                    ckernels_rmsnorm_weight_gradient(
                        subject.isa, subject.type, at[1], at[0], floats[0], 3, width, first,
                        end, floats[1]) == 0)
            }
            let written = 4 * channels.lowerBound..<4 * channels.upperBound
            #expect(weightGradient.isWritten(only: written))
        }
    }

    @Test func swiGLUWritesItsElements() {
        forEachCase { subject in
            let count = subject.numRows * subject.width
            let inputs = (0..<3).map { _ in subject.input(count) }
            let outputs = (0..<3).map { _ in subject.output(count) }
            let (begin, end) = (Int64(subject.width), Int64(2 * subject.width))
            addresses(inputs + outputs) { at in
                #expect(
                    ckernels_swiglu_forward(
                        subject.isa, subject.type, at[0], at[1], begin, end, at[3]) == 0)
                #expect(
                    ckernels_swiglu_backward(
                        subject.isa, subject.type, at[2], at[0], at[1], begin, end, at[4], at[5])
                        == 0)
            }
            for output in outputs { #expect(output.isWritten(only: subject.middleRow)) }
        }
    }

    @Test func rotationWritesItsTokens() {
        forEachCase { subject in
            let (numHeads, width) = (2, subject.width)
            let states = subject.input(3 * numHeads * 2 * width)
            let (cosine, sine) = (subject.input(3 * width), subject.input(3 * width))
            let output = subject.output(3 * numHeads * 2 * width)
            addresses([states, cosine, sine, output]) { at in
                let heads = CKernelsStates(
                    data: at[0], token_stride: Int64(4 * width), head_stride: Int64(2 * width),
                    num_heads: 2, head_size: Int64(2 * width))
                #expect(
                    ckernels_rotary_rotate(
                        subject.isa, subject.type, heads, at[1], at[2], 0, 1, 2, at[3]) == 0)
            }
            let token = subject.elementSize * 4 * width
            #expect(output.isWritten(only: token..<2 * token))
        }
    }

    @Test func maskWritesItsBlocks() {
        for instructionSet in ElementwiseKernelsTests.instructionSets {
            for count in [9, 33, 90, 100] {
                let mask = Guarded(count: count, elementSize: 1)
                addresses([mask]) { at in
                    #expect(
                        ckernels_dropout_mask(
                            instructionSet.rawValue, 1, 100, Int64(count), 1, 25,
                            at[0]?.assumingMemoryBound(to: UInt8.self)) == 0)
                }
                #expect(mask.isWritten(only: 4..<count))
            }
        }
    }

    @Test func masksAreAppliedToTheirElements() {
        forEachCase { subject in
            let count = subject.numRows * subject.width
            let input = subject.input(count)
            let (kept, output) = (Guarded(count: count, elementSize: 1), subject.output(count))
            addresses([input, kept, output]) { at in
                let kept = at[1]?.assumingMemoryBound(to: UInt8.self)
                #expect(
                    ckernels_dropout_apply(
                        subject.isa, subject.type, at[0], kept, Int64(subject.width),
                        Int64(2 * subject.width), at[2]) == 0)
            }
            #expect(output.isWritten(only: subject.middleRow))
        }
    }

    @Test func unknownTypesAndInstructionsAreRefused() {
        for (isa, type) in [(0, 3), (0, -1), (4, 0), (-1, 0)] {
            #expect(ckernels_swiglu_forward(Int32(isa), Int32(type), nil, nil, 0, 0, nil) == -1)
        }
    }

    /// Lends the addresses of several buffers.
    private func addresses(
        _ buffers: [Guarded], _ body: ([UnsafeMutableRawPointer?]) -> Void
    ) {
        func lend(_ index: Int, _ found: [UnsafeMutableRawPointer?]) {
            guard index < buffers.count else { return body(found) }
            buffers[index].write { lend(index + 1, found + [$0]) }
        }
        lend(0, [])
    }
}
