import Foundation
import PEFTLayers
import PEFTQuantization
import Testing
import Torch

/// Decoding equals the `gguf` package, bit for bit.
@Suite struct GGUFBlockFormatTests {
    static let fixtures: [GGUFFixture] = ["gguf", "gguf-groups"].flatMap {
        (try? fixture($0, as: [GGUFFixture].self)) ?? []
    }

    @Test func everyFormatHasAFixture() {
        #expect(
            Set(Self.fixtures.map(\.type)) == Set(GGUFBlockFormat.allCases.map(\.rawValue)))
    }

    @Test(arguments: fixtures)
    func valuesEqualThePackage(_ expected: GGUFFixture) throws {
        let format = try #require(GGUFBlockFormat(rawValue: expected.type))
        #expect(format.name == expected.name)
        #expect(format.blockSize == expected.blockSize)
        #expect(format.bytesPerBlock == expected.bytesPerBlock)
        let decoded = try expected.bytes.withUnsafeBytes {
            try format.decoded($0, shape: expected.shape, path: "w")
        }
        #expect(decoded.shape == expected.shape)
        #expect(decoded.bytes == expected.values)
    }

    @Test(arguments: fixtures)
    func anyBytesDecodeAsInThePackage(_ expected: GGUFFixture) throws {
        let format = try #require(GGUFBlockFormat(rawValue: expected.type))
        let shape = [expected.noise.count / expected.bytesPerBlock * expected.blockSize]
        // One byte further on: a file aligns tensors, but a decoder need not rely on it.
        let shifted = Data([0]) + expected.noise
        let decoded = try shifted.withUnsafeBytes {
            try format.decoded(.init(rebasing: $0.dropFirst()), shape: shape, path: "w")
        }
        #expect(decoded.checksum == expected.noiseValues)
    }

    @Test(arguments: fixtures)
    func threadsChangeNothing(_ expected: GGUFFixture) throws {
        let format = try #require(GGUFBlockFormat(rawValue: expected.type))
        var values = Data(count: expected.values.count)
        values.withUnsafeMutableBytes { values in
            expected.bytes.withUnsafeBytes { bytes in
                format.decode(
                    bytes, into: values,
                    parallelism: BlockParallelism(maxThreads: 3, minElementsPerThread: 1))
            }
        }
        #expect(values == expected.values)
    }

    @Test func truncatedBytesAreRefused() throws {
        let error = #expect(throws: QuantizationError.self) {
            try Data(count: 39).withUnsafeBytes {
                try GGUFBlockFormat.q4_1.decoded($0, shape: [2, 32], path: "blk.0.ffn_up.weight")
            }
        }
        #expect(
            error?.description == """
                blk.0.ffn_up.weight: expected 40 bytes or elements of Q4_1 blocks, found 39; \
                is the file truncated?
                """)
    }

    @Test func partialBlocksAreRefused() {
        let error = #expect(throws: QuantizationError.self) {
            try GGUFBlockFormat.q8_0.sizeBytes(numElements: 33)
        }
        #expect(
            error?.description
                == "33 elements in format Q8_0: expected a multiple of its block size 32")
    }

    @Test func unknownTypesHaveNoFormat() {
        #expect(GGUFBlockFormat(rawValue: 16) == nil)
    }

    // MARK: - Encoding

    /// Numbers and what the package stores them as.
    struct Encoding: Decodable {
        let name: String
        let values: Data
        let bytes: Data
    }

    @Test func blocksEqualThePackage() throws {
        let cases = try fixture("gguf-encoding", as: [Encoding].self)
        #expect(cases.map(\.name) == ["F32", "F16", "BF16", "Q8_0"])
        for expected in cases {
            let format = try #require(
                GGUFBlockFormat.allCases.first { $0.name == expected.name })
            let values = expected.values.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
            let encoded = try format.encoded(
                Tensor(values, shape: [values.count]), path: "w")
            #expect(encoded.bytes == expected.bytes, "\(expected.name)")
        }
    }

    /// Not finite themselves, or in what they are stored as.
    @Test(arguments: [
        (GGUFBlockFormat.f32, Float.infinity), (.f16, 65_520), (.bf16, .nan),
        (.q8_0, -.infinity), (.q8_0, 1e9),
    ])
    func numbersThatAreNotFiniteAreRefused(_ format: GGUFBlockFormat, _ value: Float) throws {
        var values = [Float](repeating: 1, count: 64)
        values[40] = value
        let tensor = try Tensor(values, shape: [64])
        #expect(throws: QuantizationError.notFinite(path: "w", elements: 0..<64)) {
            try format.encoded(tensor, path: "w")
        }
    }
}
