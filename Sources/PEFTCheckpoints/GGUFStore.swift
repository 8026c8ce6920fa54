import Foundation
import PEFTQuantization
import Torch

/// The tensors of a GGUF file under Hugging Face names.
final class GGUFStore: TensorStore {
    let file: GGUFFile
    let shapes: [String: [Int]]
    private let architecture: GGUFArchitecture
    private let infos: [String: GGUFTensorInfo]

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
        shapes = infos.mapValues(\.shape)
        try checkFrequencyFactors()
    }

    var path: String { file.file.url.path }

    func storage(of name: String) -> String { infos[name]?.type.name ?? "nothing" }

    func isFloatingPoint(_ name: String) -> Bool { infos[name] != nil }

    func load(_ range: Range<Int>, of name: String) throws -> Tensor {
        guard let info = infos[name] else {
            throw CheckpointError.tensors(
                path: path, problems: [.missing(name: name, expected: [])])
        }
        guard let numHeads = try architecture.numInterleavedHeads(info.name, file) else {
            return try decode(range, of: info)
        }
        return try deinterleaved(range, of: info, numHeads: numHeads)
    }

    /// Rotary frequencies follow from the configuration; `init` has checked that their factors are 1.
    func isHarmless(_ name: String) -> Bool {
        name == "rope_freqs.weight" || name.hasSuffix(".attn_rot_embd.weight")
    }

    /// Refuses factors on the rotary frequencies, which change every attention score.
    private func checkFrequencyFactors() throws {
        guard infos["rope_freqs.weight"] != nil else { return }
        let numFactors = shapes["rope_freqs.weight"]?.reduce(1, *) ?? 0
        let factors = try load(0..<numFactors, of: "rope_freqs.weight").floats()
        guard factors.allSatisfy({ $0 == 1 }) else {
            throw CheckpointError.unsupported(
                path: path,
                reason: "rope_freqs.weight scales the rotary frequencies, as Llama 3.1 does",
                remedy: "this is not supported: take another model or file")
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
            throw CheckpointError.malformed(
                path: path,
                reason:
                    "tensor \(info.name) of shape \(shape) does not divide into \(numHeads) heads "
                    + "of even size",
                remedy: "the head counts in the metadata are wrong: convert the model again")
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
            remedy: "take a file with the types F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1 or Q8_0")
    }
}
