import PEFTSharding
import Torch

/// Where the moments of an optimizer are: in memory, or in a file of which one tensor's pages are in memory at a time.
struct MomentMemory {
    /// A tensor's place in the file; nil for memory, and in a dry run.
    private typealias Place = (pages: OffloadedPages, range: Range<Int>)

    /// The moments, zero at first, float32, in the order of the shapes.
    let tensors: [Tensor]
    private let places: [Place?]

    /// Makes moments of shapes.
    ///
    /// - Parameters:
    ///   - shapes: of each.
    ///   - folder: on whose disk they are kept; nil for memory.
    /// - Throws: `TorchError` if memory does not suffice, `OffloadFile.Failure` if the disk does not.
    init(shapes: [[Int]], folder: String?) throws {
        guard let folder, !shapes.isEmpty else {
            tensors = try shapes.map { shape throws(TorchError) in try Tensor.zeros(shape) }
            places = shapes.map { _ in nil }
            return
        }
        var ranges: [Range<Int>] = []
        var end = 0
        for shape in shapes {
            let sizeBytes = shape.reduce(DType.float32.sizeBytes, *)
            let granule = OffloadedPages.granule
            let next = end + (sizeBytes + granule - 1) / granule * granule
            ranges.append(end..<next)
            end = next
        }
        guard !DryRun.isOn else {
            let file = try Tensor.storage(sizeBytes: end, of: "the optimizer's file")
            tensors = try zip(ranges, shapes).map { range, shape throws(TorchError) in
                try file.view(atByte: range.lowerBound, shape: shape, dtype: .float32)
            }
            places = shapes.map { _ in nil }
            return
        }
        let pages = try OffloadFile(in: folder).mapped(sizeBytes: end)
        tensors = try zip(ranges, shapes).map { range, shape throws(TorchError) in
            try pages.tensor(atByte: range.lowerBound, shape: shape, dtype: .float32)
        }
        places = ranges.map { (pages, $0) }
    }

    /// Runs what uses the moments at some positions; those in a file leave memory after it.
    func using<Result, Failure: Error>(
        _ positions: Range<Int>, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer {
            for place in places[positions] { place?.pages.release(place?.range ?? 0..<0) }
        }
        return try body()
    }
}
