import Foundation
import PEFTQuantization
import Torch

/// The tensors of a GGUF file under Hugging Face names.
final class GGUFStore: TensorStore {
    let file: GGUFFile
    let shapes: [String: [Int]]
    let architecture: GGUFArchitecture
    private let infos: [String: GGUFTensorInfo]
    /// The tensors that the file holds in pieces.
    private let wholes: [String: PiecedTensor]

    /// Maps the names of `file`.
    ///
    /// - Throws: `CheckpointError.unsupported` if tensors have types that cannot be decoded.
    init(_ file: GGUFFile, architecture: GGUFArchitecture) throws {
        self.file = file
        self.architecture = architecture
        try Self.checkTypes(file)
        infos = Dictionary(
            file.tensors.map { (architecture.huggingFaceName($0.name) ?? $0.name, $0) },
            uniquingKeysWith: { first, _ in first })
        wholes = architecture.expertTensors(infos.mapValues(\.shape))
        let pieces = Set(wholes.values.flatMap { $0.pieces.map(\.name) })
        shapes = infos.mapValues(\.shape).filter { !pieces.contains($0.key) }
            .merging(wholes.mapValues(\.shape)) { $1 }
    }

    var path: String { file.file.url.path }

    func storage(of name: String) -> String {
        infos[wholes[name]?.pieces.first?.name ?? name]?.type.name ?? "nothing"
    }

    func isFloatingPoint(_ name: String) -> Bool { shapes[name] != nil }

    func isPieced(_ name: String) -> Bool { wholes[name] != nil }

    func load(_ range: Range<Int>, of name: String) throws -> Tensor {
        if let whole = wholes[name] { return try whole.load(range) { try load($0, of: $1) } }
        guard let info = infos[name] else {
            throw CheckpointError.tensors(
                path: path, problems: [.missing(name: name, expected: [])])
        }
        let elements = try ordered(range, of: info)
        guard architecture.normOffset != 0, name.hasSuffix("norm.weight") else { return elements }
        return try elements.to(.float32) + -architecture.normOffset
    }

    /// Divisors of rotary frequencies are in the configuration.
    func isHarmless(_ name: String) -> Bool {
        name.hasPrefix("rope_f") && !name.contains("blk.")
            || name.hasSuffix(".attn_rot_embd.weight")
    }

    /// Elements in the order of Hugging Face's rows.
    private func ordered(_ range: Range<Int>, of info: GGUFTensorInfo) throws -> Tensor {
        switch architecture.rowOrder(info.name) {
        case nil: return try decode(range, of: info)
        case .interleavedQueries:
            let shape = try GGUFHyperParameters(file, architecture)
            return try deinterleaved(range, of: info, numHeads: shape.numAttentionHeads)
        case .interleavedKeys:
            let shape = try GGUFHyperParameters(file, architecture)
            return try deinterleaved(range, of: info, numHeads: shape.numKeyValueHeads)
        case .queriesKeysValues:
            let shape = try GGUFHyperParameters(file, architecture)
            return try regrouped(range, of: info, numHeads: shape.numAttentionHeads)
        }
    }

    /// Decodes the blocks that hold the elements of a range.
    private func decode(_ range: Range<Int>, of info: GGUFTensorInfo) throws -> Tensor {
        if let dtype = Self.plainTypes[info.type.name] {
            return try file.file.tensor(info.byteRange, elements: range, dtype: dtype)
        }
        guard let format = GGUFBlockFormat(rawValue: info.type.id) else {
            throw Self.unsupportedTypes([info], path: path)
        }
        guard !range.isEmpty else { return try Tensor.empty([0]) }
        let (perBlock, sizeBytes) = (info.type.elementsPerBlock, info.type.bytesPerBlock)
        let blocks = range.lowerBound / perBlock..<(range.upperBound + perBlock - 1) / perBlock
        let start = info.byteRange.lowerBound + blocks.lowerBound * sizeBytes
        let tensor = try Tensor.empty([blocks.count * perBlock])
        MappedRange(file.file, start..<(start + blocks.count * sizeBytes)).withBytes { bytes in
            tensor.withUnsafeMutableBytes { format.decode(bytes, into: $0) }
        }
        return try tensor.narrow(0, range.lowerBound - blocks.lowerBound * perBlock, range.count)
    }

    /// Puts the rows of each head back in the order of Hugging Face.
    ///
    /// llama.cpp rotates neighbouring rows (0, 1), (2, 3), ...; Hugging Face rotates row i of the first half with
    /// row i of the second. `[H, D/2, 2, C] -> [H, 2, D/2, C]`, for the heads that the range touches.
    ///
    /// - Source: llama.cpp convert_hf_to_gguf.py:LlamaModel.permute, inverted.
    private func deinterleaved(
        _ range: Range<Int>, of info: GGUFTensorInfo, numHeads: Int
    ) throws -> Tensor {
        let shape = info.shape
        guard let numRows = shape.first, numHeads > 0, numRows % (2 * numHeads) == 0 else {
            throw rowsDoNotDivide(info, numHeads: numHeads, "even size")
        }
        guard !range.isEmpty else { return try decode(range, of: info) }
        let headCount = info.shape.reduce(1, *) / numHeads
        let heads = range.lowerBound / headCount..<(range.upperBound - 1) / headCount + 1
        let stored = try decode(
            heads.lowerBound * headCount..<heads.upperBound * headCount, of: info)
        let halves = try stored.reshape([heads.count, numRows / numHeads / 2, 2, -1])
            .transposed(1, 2)
        let result = try Tensor.empty(halves.shape, dtype: halves.dtype)
        try result.copyInPlace(from: halves)
        return try result.reshape([-1])
            .narrow(0, range.lowerBound - heads.lowerBound * headCount, range.count)
    }

    /// Puts each head's query, key and value together: `[3, H, D, C] -> [H, 3, D, C]`.
    ///
    /// - Source: llama.cpp conversion/gptneox.py:GPTNeoXModel.modify_tensors, inverted.
    private func regrouped(
        _ range: Range<Int>, of info: GGUFTensorInfo, numHeads: Int
    ) throws -> Tensor {
        guard let numRows = info.shape.first, numHeads > 0, numRows % (3 * numHeads) == 0 else {
            throw rowsDoNotDivide(info, numHeads: numHeads, "three parts each")
        }
        let count = info.shape.reduce(1, *)
        let parts = try decode(0..<count, of: info)
            .reshape([3, numHeads, count / (3 * numHeads)]).transposed(0, 1)
        let result = try Tensor.empty(parts.shape, dtype: parts.dtype)
        try result.copyInPlace(from: parts)
        return try result.reshape([-1]).narrow(0, range.lowerBound, range.count)
    }

    /// The whole tensor as the file has it, in the file's order of rows.
    func stored(_ info: GGUFTensorInfo) throws -> Tensor {
        try decode(0..<info.shape.reduce(1, *), of: info)
    }

    /// The Hugging Face name of what a stored tensor holds, or is a piece of; nil if the family has no such tensor.
    func modelName(of info: GGUFTensorInfo) -> String? {
        wholes.first { $0.value.pieces.contains { $0.name == info.name } }?.key
            ?? architecture.huggingFaceName(info.name)
    }

    /// The elements of a stored tensor from the model's: what ``load(_:of:)`` does, inverted.
    ///
    /// - Parameters:
    ///   - values: the whole tensor of the model at ``modelName(of:)``, float32.
    ///   - info: the stored tensor.
    /// - Returns: contiguous, in the file's shape and order of rows.
    /// - Throws: `CheckpointError` if the rows do not divide into heads.
    func storedElements(_ values: Tensor, of info: GGUFTensorInfo) throws -> Tensor {
        let name = modelName(of: info) ?? info.name
        if let whole = wholes[name] { return try piece(of: values, whole, info) }
        var values = values
        if architecture.normOffset != 0, name.hasSuffix("norm.weight") {
            values = try values + architecture.normOffset
        }
        guard architecture.rowOrder(info.name) != nil else { return try values.contiguous() }
        let parameters = try GGUFHyperParameters(file, architecture)
        let rows = try values.reshape([values.shape[0], -1])
        return try architecture.storedOrder(
            rows, of: info.name, numHeads: parameters.numAttentionHeads,
            numKeyValueHeads: parameters.numKeyValueHeads, path: path
        ).reshape(info.shape)
    }

    /// The experts' rows that a stored tensor has of a whole: `[E, n O, I] -> [E, n, O, I] -> [E, O, I]`.
    private func piece(
        of values: Tensor, _ whole: PiecedTensor, _ info: GGUFTensorInfo
    ) throws -> Tensor {
        let names = whole.pieces.prefix(whole.pieces.count / info.shape[0]).map(\.name)
        guard let index = names.firstIndex(of: info.name) else {
            preconditionFailure("\(info.name) is no piece of it")
        }
        return try values.reshape([info.shape[0], names.count, info.shape[1], info.shape[2]])
            .select(1, index).contiguous()
    }

    private func rowsDoNotDivide(
        _ info: GGUFTensorInfo, numHeads: Int, _ what: String
    ) -> CheckpointError {
        .malformed(
            path: path,
            reason: "tensor \(info.name) of shape \(info.shape) does not divide into "
                + "\(numHeads) heads of \(what)",
            remedy: "the head counts in the metadata are wrong: convert the model again")
    }

    // MARK: - Types

    /// Types whose elements tensors hold as they are.
    private static let plainTypes: [String: DType] = [
        "F32": .float32, "F16": .float16, "BF16": .bfloat16,
    ]

    private static func checkTypes(_ file: GGUFFile) throws(CheckpointError) {
        let unknown = file.tensors.filter {
            plainTypes[$0.type.name] == nil && GGUFBlockFormat(rawValue: $0.type.id) == nil
        }
        guard unknown.isEmpty else {
            throw unsupportedTypes(unknown, path: file.file.url.path)
        }
    }

    private static func unsupportedTypes(
        _ infos: [GGUFTensorInfo], path: String
    ) -> CheckpointError {
        let counts = Dictionary(grouping: infos, by: \.type.name).sorted { $0.key < $1.key }
            .map { "\($0.value.count) of type \($0.key)" }
        return .unsupported(
            path: path,
            reason: "tensors of types that are not supported: " + counts.joined(separator: ", "),
            remedy: "take a file with the types "
                + GGUFBlockFormat.allCases.map(\.name).joined(separator: ", "))
    }
}
