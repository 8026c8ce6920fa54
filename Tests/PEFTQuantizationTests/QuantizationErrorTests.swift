import Foundation
import PEFTQuantization
import Testing
import Torch

/// Wrong input is named: what, where, expected, found, what to do.
@Suite struct QuantizationErrorTests {
    @Test func wrongBlockSize() {
        for blockSize in [0, -64, 16, 48, 8192] {
            #expect(throws: QuantizationError.invalidBlockSize(blockSize)) {
                try QuantizationConfig(blockSize: blockSize).validate()
            }
        }
        #expect(
            QuantizationError.invalidBlockSize(48).description
                == "block size 48: expected one of 32, 64, 128, 256, 512, 1024, 2048, 4096")
    }

    @Test func notFiniteWeight() throws {
        var numbers = [Float](repeating: 1, count: 100)
        numbers[99] = .nan
        let weight = try Tensor(numbers, shape: [10, 10])
        let error = #expect(throws: QuantizationError.self) {
            try FourBitTensor(
                quantizing: weight, config: QuantizationConfig(), path: "model.q_proj.weight")
        }
        #expect(
            error?.description == """
                model.q_proj.weight: NaN or infinity among elements 64 to 99; the checkpoint is \
                damaged or overflowed when it was saved
                """)
    }

    @Test func wrongDType() throws {
        let weight = try Tensor([UInt8](repeating: 1, count: 64), shape: [8, 8])
        let error = #expect(throws: QuantizationError.self) {
            try FourBitTensor(quantizing: weight, config: QuantizationConfig(), path: "w")
        }
        #expect(
            error?.description == """
                w: cannot quantize uint8, expected float32, bfloat16 or float16; is the checkpoint \
                already quantized?
                """)
    }

    func make(
        packed: Int = 64, absmax: Absmax, shape: [Int] = [2, 64], dtype: DType = .uint8
    ) throws -> FourBitTensor {
        try FourBitTensor(
            path: "w", quantType: .nf4, blockSize: 64, shape: shape, sourceDType: .bfloat16,
            packed: Tensor.zeros([packed], dtype: dtype), absmax: absmax)
    }

    @Test func partsThatDoNotFit() throws {
        let two = Absmax.plain(try Tensor.ones([2]))
        #expect(try make(absmax: two).numElements == 128)
        let short = #expect(throws: QuantizationError.self) { try make(packed: 63, absmax: two) }
        #expect(
            short?.description
                == "w: expected 64 bytes or elements of packed codes, found 63; is the file truncated?"
        )
        let wrong = #expect(throws: QuantizationError.self) {
            try make(absmax: two, dtype: .float32)
        }
        #expect(wrong?.description == "w: expected uint8 for packed codes, found float32")
        #expect(
            throws: QuantizationError.sizeMismatch(
                path: "w", what: "absmax", expected: 3, found: 2)
        ) { try make(packed: 65, absmax: two, shape: [1, 129]) }
    }

    @Test func nestedPartsThatDoNotFit() throws {
        func nested(_ codes: Int, _ scales: Int, _ codebook: Int) throws -> Absmax {
            .nested(
                NestedAbsmax(
                    codes: try .zeros([codes], dtype: .uint8), scales: try .zeros([scales]),
                    codebook: try .zeros([codebook]), offset: 0))
        }
        #expect(try make(absmax: nested(2, 1, 256)).storageDescription.hasSuffix("quantized"))
        for (parts, what) in [
            (try nested(3, 1, 256), "absmax"), (try nested(2, 2, 256), "nested_absmax"),
            (try nested(2, 1, 16), "nested_quant_map"),
        ] {
            let error = #expect(throws: QuantizationError.self) { try make(absmax: parts) }
            guard case .sizeMismatch("w", what, _, _) = error else {
                Issue.record("\(what): \(String(describing: error))")
                continue
            }
        }
    }

    @Test func configurationIsCodable() throws {
        let config = QuantizationConfig(
            quantType: .fp4, blockSize: 128, usesDoubleQuantization: false)
        let data = try JSONEncoder().encode(config)
        #expect(try JSONDecoder().decode(QuantizationConfig.self, from: data) == config)
    }
}
