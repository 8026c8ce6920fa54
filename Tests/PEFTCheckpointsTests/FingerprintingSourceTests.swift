import Foundation
import PEFTCheckpoints
import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct FingerprintingSourceTests {
    /// Answers with the tensors that it is given.
    private final class FixedSource: ParameterSource {
        let tensors: [String: Tensor]

        init(_ tensors: [String: Tensor]) { self.tensors = tensors }

        func tensor(at path: String, shape: [Int]) throws -> Tensor {
            try #require(tensors[path])
        }
    }

    private func fingerprint(
        _ tensors: [String: Tensor], order: [String]? = nil
    ) throws -> BaseFingerprint {
        let source = FingerprintingSource(FixedSource(tensors))
        for path in order ?? tensors.keys.sorted() {
            let tensor = try #require(tensors[path])
            #expect(try source.tensor(at: path, shape: tensor.shape) === tensor)
        }
        return try source.fingerprint
    }

    /// Numbers that bfloat16 and float16 hold exactly.
    private func numbers(_ count: Int) throws -> Tensor {
        try Tensor((0..<count).map { Float($0 % 97) / 4 - 12 }, shape: [count])
    }

    @Test(arguments: [DType.bfloat16, .float16, .float64], [3, 1024, 1025, 5000])
    func elementTypeIsIrrelevant(dtype: DType, count: Int) throws {
        let values = try numbers(count)
        #expect(try fingerprint(["a": values]) == fingerprint(["a": values.to(dtype)]))
    }

    /// The digest that an independent computation of the documented rule gives; another one would disown adapters.
    @Test func digestIsFrozen() throws {
        #expect(
            try fingerprint(["a.weight": numbers(5000), "b.weight": numbers(7)]).description
                == "1:6b1d3469efe59ec4:2:5007")
    }

    @Test func orderOfReadingIsIrrelevantAndRepetitionToo() throws {
        let tensors = ["a": try numbers(10), "b": try numbers(20), "c": try numbers(30)]
        let expected = try fingerprint(tensors)
        #expect(expected.numTensors == 3)
        #expect(expected.numElements == 60)
        #expect(try fingerprint(tensors, order: ["c", "a", "b"]) == expected)
        #expect(try fingerprint(tensors, order: ["c", "a", "c", "b"]) == expected)
    }

    @Test(arguments: [0, 1, 1023])
    func everyElementOfASmallTensorCounts(index: Int) throws {
        let changed = try numbers(1024)
        try changed.narrow(0, index, 1).fillInPlace(0.5)
        #expect(try fingerprint(["a": changed]) != fingerprint(["a": numbers(1024)]))
    }

    @Test(arguments: [(0, true), (1, false), (4999, true)])
    func firstAndLastElementsOfALargeTensorCount(index: Int, isSampled: Bool) throws {
        let changed = try numbers(5000)
        try changed.narrow(0, index, 1).fillInPlace(0.5)
        #expect(
            try (fingerprint(["a": changed]) != fingerprint(["a": numbers(5000)])) == isSampled)
    }

    @Test func piecesOfATensorMakeTheWhole() throws {
        let values = try numbers(5000)
        let source = FingerprintingSource(FixedSource(["a": values]))
        for (start, end) in [(0, 1200), (1200, 1201), (1201, 5000)] {
            let piece = try source.elements(start..<end, at: "a", shape: [5000])
            #expect(try piece.isEqual(to: values.narrow(0, start, end - start)))
        }
        try source.complete(with: WholePlacement())
        #expect(try source.fingerprint == fingerprint(["a": values]))
    }

    @Test func pathAndShapeCount() throws {
        let plain = try fingerprint(["a": numbers(12)])
        #expect(try fingerprint(["b": numbers(12)]).digest != plain.digest)
        #expect(try fingerprint(["a": numbers(12).reshape([3, 4])]).digest != plain.digest)
        #expect(
            try fingerprint(["a": numbers(12).reshape([3, 4])]).digest
                != fingerprint(["a": numbers(12).reshape([4, 3])]).digest)
    }

    @Test func emptyTensorsAreHashed() throws {
        #expect(try fingerprint(["a": Tensor.zeros([0, 4])]).numElements == 0)
    }

    // MARK: - Text

    @Test func textRoundTrips() throws {
        let fingerprint = BaseFingerprint(
            digest: "00ff00ff00ff00ff", numTensors: 2, numElements: 30)
        #expect(fingerprint.description == "1:00ff00ff00ff00ff:2:30")
        #expect(BaseFingerprint(fingerprint.description) == fingerprint)
        let json = try JSONEncoder().encode([fingerprint])
        #expect(String(decoding: json, as: UTF8.self) == #"["1:00ff00ff00ff00ff:2:30"]"#)
        #expect(try JSONDecoder().decode([BaseFingerprint].self, from: json) == [fingerprint])
    }

    @Test(arguments: ["", "2:00ff00ff00ff00ff:2:30", "1:00ff:2:30", "1:00ff00ff00ff00ff:2"])
    func otherTextsAreNone(text: String) {
        #expect(BaseFingerprint(text) == nil)
        #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([BaseFingerprint].self, from: Data("[\"\(text)\"]".utf8))
        }
    }

    // MARK: - In an adapter folder

    @Test func adapterFolderCarriesIt() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let fingerprint = BaseFingerprint(
            digest: "00ff00ff00ff00ff", numTensors: 2, numElements: 30)
        for _ in 0..<2 {
            try AdapterFolder.write(
                configuration: Data("{}".utf8), tensors: ["a": Tensor.ones([2])],
                base: fingerprint, to: folder)
            let adapter = try AdapterFolder.read(folder)
            #expect(adapter.baseFingerprint == fingerprint.description)
            #expect(
                adapter.weights.metadata == [
                    "format": "pt", "swift_peft_base_fingerprint": "1:00ff00ff00ff00ff:2:30",
                ])
        }
        #expect(try AdapterFolder.read(fixture("adapter")).baseFingerprint == nil)
    }
}
