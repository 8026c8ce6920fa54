import Foundation
import PEFTLayers
import PEFTQuantization
import Torch

/// The 8-bit weights of a Hugging Face folder, as bitsandbytes wrote them for LLM.int8.
///
/// Beside the codes under the weight's name there are `<layer>.SCB`, the scale of each row, and `<layer>.weight_format`, 0 for rows.
///
/// - Source: bitsandbytes 0.50.2 `nn/modules.py:Linear8bitLt._save_to_state_dict`, `maybe_rearrange_weight`.
struct StoredInt8 {
    /// One weight: where its parts are.
    struct Weight {
        let shape: [Int]
        fileprivate let codes: StoredFourBit.Location
        fileprivate let scales: StoredFourBit.Location
    }

    /// The weights by name.
    let weights: [String: Weight]
    /// The names of all their parts but the codes.
    let parts: Set<String>
    /// The element type of the folder's plain numbers.
    private let dtype: DType

    private static let scalesSuffix = ".SCB"
    private static let formatSuffix = ".weight_format"

    /// Finds the weights of a folder.
    ///
    /// - Throws: `CheckpointError` if parts are missing, of another shape or element type, or in an order that is not read.
    init(_ files: ShardedSafetensors) throws(CheckpointError) {
        var weights: [String: Weight] = [:]
        var parts: Set<String> = []
        var problems: [TensorProblem] = []
        for scalesName in files.names where scalesName.hasSuffix(Self.scalesSuffix) {
            let layer = String(scalesName.dropLast(Self.scalesSuffix.count))
            let name = layer + ".weight"
            guard let scales = files.location(scalesName) else { continue }
            parts.insert(scalesName)
            if let format = files.location(layer + Self.formatSuffix) {
                parts.insert(layer + Self.formatSuffix)
                try Self.requireRows(format, name: name)
            }
            guard let codes = files.location(name) else {
                problems.append(.missing(name: name, expected: [scales.entry.shape.first ?? 0, 0]))
                continue
            }
            let found = Self.problems(name, codes.entry, scalesName, scales.entry)
            problems += found
            guard found.isEmpty else { continue }
            weights[name] = Weight(shape: codes.entry.shape, codes: codes, scales: scales)
        }
        guard problems.isEmpty else {
            throw .tensors(path: files.folder.path, problems: problems)
        }
        self.weights = weights
        self.parts = parts
        let plain = files.files.flatMap(\.entries).first {
            !parts.contains($0.name) && $0.dtype.dtype?.isFloatingPoint == true
        }
        dtype = plain?.dtype.dtype ?? .bfloat16
    }

    private static func problems(
        _ name: String, _ codes: SafetensorsEntry, _ scalesName: String, _ scales: SafetensorsEntry
    ) -> [TensorProblem] {
        var problems: [TensorProblem] = []
        if codes.dtype != .int8 {
            problems.append(.dtype(name: name, expected: "I8", found: codes.dtype.rawValue))
        }
        if scales.dtype != .float32 {
            problems.append(.dtype(name: scalesName, expected: "F32", found: scales.dtype.rawValue))
        }
        if codes.shape.count != 2 {
            problems.append(.shape(name: name, expected: scales.shape + [0], found: codes.shape))
        } else if scales.shape != [codes.shape[0]] {
            problems.append(
                .shape(name: scalesName, expected: [codes.shape[0]], found: scales.shape))
        }
        return problems
    }

    /// Refuses codes in an order for tensor cores, which old versions wrote.
    private static func requireRows(
        _ location: StoredFourBit.Location, name: String
    ) throws(CheckpointError) {
        let format = location.file.withBytes(of: location.entry) { Array($0) }
        guard format != [0] else { return }
        throw .unsupported(
            path: location.file.file.url.path,
            reason:
                "\(name): its weight_format is \(format.map(String.init).joined(separator: " "))",
            remedy:
                "codes are read row by row, weight_format 0: save the model again with bitsandbytes 0.45 or newer"
        )
    }

    /// A weight as the storage takes it.
    func parts(of weight: Weight) -> Int8Parts {
        Int8Parts(
            shape: weight.shape, sourceDType: dtype,
            codes: { try weight.codes.file.tensor(weight.codes.entry, elements: $0) },
            scales: { try weight.scales.file.tensor(weight.scales.entry) })
    }

    /// Decodes the elements of a range: float32 `[range.count]`.
    func decoded(_ range: Range<Int>, of weight: Weight) throws -> Tensor {
        let width = weight.shape[1]
        guard !range.isEmpty, width > 0 else { return try Tensor.empty([0]) }
        let rows = range.lowerBound / width..<(range.upperBound + width - 1) / width
        let parts = parts(of: weight)
        let codes = try parts.codes(rows.lowerBound * width..<rows.upperBound * width)
            .reshape([rows.count, width])
        let scales = try parts.scales().narrow(0, rows.lowerBound, rows.count)
        return try Int8Weight.decoded(codes, scales).reshape([-1])
            .narrow(0, range.lowerBound - rows.lowerBound * width, range.count)
    }
}
