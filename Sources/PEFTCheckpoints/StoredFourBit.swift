import Foundation
import PEFTLayers
import PEFTQuantization
import Torch

/// The 4-bit weights of a Hugging Face folder, as bitsandbytes wrote them.
struct StoredFourBit {
    /// One weight: its description, and where its parts are.
    struct Weight {
        let state: BitsAndBytesFormat.State
        fileprivate let codes: Location
        fileprivate let absmax: Location
        fileprivate let nested: (absmax: Location, quantMap: Location)?
    }

    typealias Location = (file: SafetensorsFile, entry: SafetensorsEntry)

    /// The weights by name.
    let weights: [String: Weight]
    /// The names of all their parts but the codes.
    let parts: Set<String>

    /// Finds the weights of a folder.
    ///
    /// - Throws: `CheckpointError` if parts are missing, or hold something else than bitsandbytes writes.
    init(_ files: ShardedSafetensors) throws(CheckpointError) {
        var weights: [String: Weight] = [:]
        var parts: Set<String> = []
        var problems: [TensorProblem] = []
        for stateName in files.names {
            guard let marker = stateName.range(of: BitsAndBytesFormat.stateMarker),
                let (file, entry) = files.location(stateName)
            else { continue }
            let name = String(stateName[..<marker.lowerBound])
            let state = try file.withBytes(of: entry) { (bytes) throws(CheckpointError) in
                try BitsAndBytesFormat.State(bytes, path: files.folder.path, name: name)
            }
            parts.insert(stateName)
            var reader = PartReader(files: files, name: name)
            let count = state.shape.reduce(1, *)
            let numBlocks = (count + state.blockSize - 1) / state.blockSize
            let numScales = (numBlocks + NestedAbsmax.blockSize - 1) / NestedAbsmax.blockSize
            let isNested = state.nestedOffset != nil
            let codes = reader.codes(sizeBytes: (count + 1) / 2)
            let absmax = reader.part(
                BitsAndBytesFormat.absmax, [numBlocks], isNested ? .uint8 : .float32)
            let quantMap = reader.part(BitsAndBytesFormat.quantMap, [16], .float32)
            var nested: (absmax: Location, quantMap: Location)?
            if isNested,
                let scales = reader.part(BitsAndBytesFormat.nestedAbsmax, [numScales], .float32),
                let map = reader.part(BitsAndBytesFormat.nestedQuantMap, [256], .float32)
            {
                nested = (scales, map)
            }
            problems += reader.problems
            parts.formUnion(reader.found)
            guard reader.problems.isEmpty, let codes, let absmax, let quantMap else { continue }
            try Self.requireCodebook(state.quantType, quantMap, name: name)
            weights[name] = Weight(state: state, codes: codes, absmax: absmax, nested: nested)
        }
        guard problems.isEmpty else {
            throw .tensors(path: files.folder.path, problems: problems)
        }
        self.weights = weights
        self.parts = parts
    }

    /// Refuses levels that are not those of the codebook's name.
    private static func requireCodebook(
        _ quantType: QuantType, _ location: Location, name: String
    ) throws(CheckpointError) {
        let isKnown = location.file.withBytes(of: location.entry) { bytes in
            quantType.codebook.enumerated().allSatisfy { index, level in
                bytes.loadUnaligned(fromByteOffset: 4 * index, as: Float.self) == level
            }
        }
        guard isKnown else {
            throw .unsupported(
                path: location.file.file.url.path,
                reason: "\(name): its levels are not those of \(quantType.rawValue)",
                remedy: "quantize the model again with bitsandbytes or peft quantize")
        }
    }

    /// A weight as 4-bit storages take it.
    func parts(of weight: Weight) -> FourBitParts {
        let state = weight.state
        return FourBitParts(
            quantType: state.quantType, blockSize: state.blockSize, shape: state.shape,
            sourceDType: state.dtype, isNested: weight.nested != nil,
            codes: { range in
                let (file, entry) = weight.codes
                let start = entry.byteRange.lowerBound
                return try file.file.tensor(
                    start + range.lowerBound..<start + range.upperBound, shape: [range.count],
                    dtype: .uint8)
            },
            absmax: {
                let scales = try weight.absmax.file.tensor(weight.absmax.entry)
                guard let nested = weight.nested, let offset = state.nestedOffset else {
                    return .plain(scales)
                }
                return .nested(
                    NestedAbsmax(
                        codes: scales, scales: try nested.absmax.file.tensor(nested.absmax.entry),
                        codebook: try nested.quantMap.file.tensor(nested.quantMap.entry).clone(),
                        offset: offset))
            })
    }

    /// Decodes the blocks that hold the elements of a range: float32 `[range.count]`.
    func decoded(_ range: Range<Int>, of weight: Weight) throws -> Tensor {
        guard !range.isEmpty else { return try Tensor.empty([0]) }
        let parts = parts(of: weight)
        let (size, count) = (parts.blockSize, parts.shape.reduce(1, *))
        let blocks = range.lowerBound / size..<(range.upperBound + size - 1) / size
        let elements = blocks.lowerBound * size..<min(blocks.upperBound * size, count)
        let absmax = try parts.absmax().decoded().narrow(0, blocks.lowerBound, blocks.count)
        let tensor = try FourBitTensor(
            path: "", quantType: parts.quantType, blockSize: size, shape: [elements.count],
            sourceDType: parts.sourceDType,
            packed: parts.codes(elements.lowerBound / 2..<(elements.upperBound + 1) / 2),
            absmax: .plain(absmax))
        return try tensor.dequantized(to: .float32)
            .narrow(0, range.lowerBound - elements.lowerBound, range.count)
    }
}

/// Finds the parts of one weight, and collects what is wrong with them.
private struct PartReader {
    let files: ShardedSafetensors
    let name: String
    var problems: [TensorProblem] = []
    var found: Set<String> = []

    init(files: ShardedSafetensors, name: String) {
        self.files = files
        self.name = name
    }

    /// The codes, in whatever element type they were kept.
    mutating func codes(sizeBytes: Int) -> StoredFourBit.Location? {
        guard let location = files.location(name) else {
            problems.append(.missing(name: name, expected: [sizeBytes, 1]))
            return nil
        }
        guard location.entry.byteRange.count == sizeBytes else {
            problems.append(
                .shape(name: name, expected: [sizeBytes, 1], found: location.entry.shape))
            return nil
        }
        return location
    }

    /// A part of this shape and element type.
    mutating func part(
        _ suffix: String, _ shape: [Int], _ dtype: SafetensorsDType
    ) -> StoredFourBit.Location? {
        guard let location = files.location(name + suffix) else {
            problems.append(.missing(name: name + suffix, expected: shape))
            return nil
        }
        found.insert(name + suffix)
        if location.entry.dtype != dtype {
            problems.append(
                .dtype(
                    name: name + suffix, expected: dtype.rawValue,
                    found: location.entry.dtype.rawValue))
        } else if location.entry.shape.reduce(1, *) != shape[0] {
            problems.append(
                .shape(name: name + suffix, expected: shape, found: location.entry.shape))
        }
        return location
    }
}
