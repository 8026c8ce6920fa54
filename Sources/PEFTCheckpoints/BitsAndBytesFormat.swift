import Foundation
package import PEFTAdapters
package import PEFTQuantization
package import Torch

/// How bitsandbytes stores a 4-bit weight: the codes under the weight's name, scales and levels beside them, and a JSON text as bytes.
///
/// - Source: bitsandbytes 0.50.2 `functional.py:QuantState.as_dict(packed=True)`, `from_dict`; `nn/modules.py:_save_to_state_dict`.
package enum BitsAndBytesFormat {
    /// What follows a weight's name in the name of its JSON text; the codebook's name follows.
    static let stateMarker = ".quant_state.bitsandbytes__"
    /// What follows a weight's name in the names of its other parts.
    static let absmax = ".absmax"
    static let quantMap = ".quant_map"
    static let nestedAbsmax = ".nested_absmax"
    static let nestedQuantMap = ".nested_quant_map"

    /// The JSON text of a weight.
    struct State: Equatable {
        var quantType: QuantType
        var blockSize: Int
        var dtype: DType
        var shape: [Int]
        /// The mean of the scales, where these are quantized.
        var nestedOffset: Float?

        /// The text, as Python's `json.dumps` writes it.
        var json: String {
            let shape = ConfigValue.array(shape.map { .int($0) })
            var fields = [
                "\"quant_type\": \"\(quantType.rawValue)\"", "\"blocksize\": \(blockSize)",
                "\"dtype\": \"\(dtype.name)\"", "\"shape\": \(shape)",
            ]
            if let nestedOffset {
                fields += [
                    "\"nested_blocksize\": \(NestedAbsmax.blockSize)",
                    "\"nested_dtype\": \"float32\"",
                    "\"nested_offset\": \(ConfigValue.double(Double(nestedOffset)))",
                ]
            }
            return "{" + fields.joined(separator: ", ") + "}"
        }
    }

    // MARK: - Writing

    /// The tensors of a weight, in bitsandbytes' order.
    ///
    /// - Parameters:
    ///   - name: of the weight.
    ///   - tensor: codes and scales; only the scales are kept.
    ///   - codes: gives the codes when they are written, uint8.
    /// - Returns: what goes into the file.
    /// - Throws: `TorchError` if memory does not suffice.
    package static func tensors(
        of name: String, _ tensor: FourBitTensor, codes: @escaping () throws -> Tensor
    ) throws(TorchError) -> [SafetensorsTensor] {
        var state = State(
            quantType: tensor.quantType, blockSize: tensor.blockSize, dtype: tensor.sourceDType,
            shape: tensor.shape)
        let levels = try Tensor(tensor.quantType.codebook, shape: [16])
        let size = tensor.packed.numElements
        var tensors = [
            SafetensorsTensor(name: name, shape: [size, 1], dtype: .uint8) {
                try codes().reshape([size, 1])
            }
        ]
        switch tensor.absmax {
        case .plain(let scales):
            tensors += [
                SafetensorsTensor(name: name + absmax, scales),
                SafetensorsTensor(name: name + quantMap, levels),
            ]
        case .nested(let nested):
            state.nestedOffset = nested.offset
            tensors += [
                SafetensorsTensor(name: name + absmax, nested.codes),
                SafetensorsTensor(name: name + quantMap, levels),
                SafetensorsTensor(name: name + nestedAbsmax, nested.scales),
                SafetensorsTensor(name: name + nestedQuantMap, nested.codebook),
            ]
        }
        let text = Array(state.json.utf8)
        return tensors + [
            SafetensorsTensor(
                name: name + stateMarker + tensor.quantType.rawValue, dtype: .uint8,
                shape: [text.count], bytes: text)
        ]
    }

    /// What `config.json` says of such weights, as transformers writes it.
    ///
    /// - Parameters:
    ///   - config: codebook and double quantization.
    ///   - dtype: what is computed in.
    /// - Returns: the value of `quantization_config`.
    /// - Source: transformers 5.23 `utils/quantization_config.py:BitsAndBytesConfig.to_dict`.
    package static func configuration(
        _ config: QuantizationConfig, computeDType dtype: DType
    ) -> ConfigValue {
        .object([
            "_load_in_4bit": .bool(true), "_load_in_8bit": .bool(false),
            "bnb_4bit_compute_dtype": .string(dtype.name),
            "bnb_4bit_quant_storage": .string("uint8"),
            "bnb_4bit_quant_type": .string(config.quantType.rawValue),
            "bnb_4bit_use_double_quant": .bool(config.usesDoubleQuantization),
            "llm_int8_enable_fp32_cpu_offload": .bool(false),
            "llm_int8_has_fp16_weight": .bool(false), "llm_int8_skip_modules": .null,
            "llm_int8_threshold": .double(6), "load_in_4bit": .bool(true),
            "load_in_8bit": .bool(false), "quant_method": .string("bitsandbytes"),
        ])
    }
}

// MARK: - Reading

extension BitsAndBytesFormat.State {
    private struct Fields: Decodable {
        let quantType: String
        let blocksize: Int
        let dtype: String
        let shape: [Int]
        let nestedBlocksize: Int?
        let nestedDtype: String?
        let nestedOffset: Double?
    }

    /// Reads the JSON text of a weight.
    ///
    /// - Parameters:
    ///   - text: the bytes.
    ///   - path: of the file, for errors.
    ///   - name: of the weight, for errors.
    /// - Throws: `CheckpointError`.
    init(
        _ text: UnsafeRawBufferPointer, path: String, name: String
    ) throws(CheckpointError) {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        guard let fields = try? decoder.decode(Fields.self, from: Data(text)) else {
            throw .malformed(
                path: path, reason: "\(name): its quant_state is not what bitsandbytes writes",
                remedy: "the file is damaged: copy or download it again")
        }
        let dtypes: [String: DType] = [
            "float32": .float32, "bfloat16": .bfloat16, "float16": .float16,
        ]
        guard let quantType = QuantType(rawValue: fields.quantType),
            let dtype = dtypes[fields.dtype],
            QuantizationConfig.blockSizes.contains(fields.blocksize), Self.isSize(fields.shape),
            fields.nestedOffset == nil
                || fields.nestedBlocksize == NestedAbsmax.blockSize
                    && fields.nestedDtype == "float32"
        else {
            throw .unsupported(
                path: path,
                reason: "\(name): its quant_state is \(String(decoding: text, as: UTF8.self))",
                remedy: "read are nf4 and fp4, blocks of 32 to 4096, and constants in blocks of 256"
            )
        }
        self.init(
            quantType: quantType, blockSize: fields.blocksize, dtype: dtype, shape: fields.shape,
            nestedOffset: fields.nestedOffset.map { Float($0) })
    }

    /// Whether a tensor can have these extents at all.
    private static func isSize(_ shape: [Int]) -> Bool {
        var count = 1
        for extent in shape {
            let (product, overflows) = count.multipliedReportingOverflow(by: extent)
            guard extent > 0, !overflows, product < 1 << 48 else { return false }
            count = product
        }
        return true
    }
}
