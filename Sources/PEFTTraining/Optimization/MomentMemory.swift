import PEFTSharding
import Torch

/// Where the moments of an optimizer are: in memory, or in a file of which one tensor's pages are in memory at a time.
struct MomentMemory {
    /// The moments, zero at first, float32, in the order of the shapes.
    let tensors: [Tensor]
    /// The file's pages; nil for memory, and in a dry run.
    private let pages: OffloadedPages?
    /// Each tensor's bytes in the file, in whole pages.
    private let ranges: [Range<Int>]

    /// Makes moments of shapes.
    ///
    /// - Parameters:
    ///   - shapes: of each.
    ///   - folder: on whose disk they are kept; nil for memory.
    /// - Throws: `TorchError` if memory does not suffice, `OffloadFile.Failure` if the disk does not.
    init(shapes: [[Int]], folder: String?) throws {
        guard let folder, !shapes.isEmpty else {
            tensors = try shapes.map { shape throws(TorchError) in try Tensor.zeros(shape) }
            (pages, ranges) = (nil, [])
            return
        }
        let ranges = Self.ranges(of: shapes)
        let end = ranges.last?.upperBound ?? 0
        self.ranges = ranges
        guard !DryRun.isOn else {
            let file = try Tensor.storage(sizeBytes: end, of: "the optimizer's file")
            tensors = try zip(ranges, shapes).map { range, shape throws(TorchError) in
                try file.view(atByte: range.lowerBound, shape: shape, dtype: .float32)
            }
            pages = nil
            return
        }
        let pages = try OffloadFile(in: folder).mapped(sizeBytes: end)
        tensors = try zip(ranges, shapes).map { range, shape throws(TorchError) in
            try pages.tensor(atByte: range.lowerBound, shape: shape, dtype: .float32)
        }
        self.pages = pages
    }

    private static func ranges(of shapes: [[Int]]) -> [Range<Int>] {
        let granule = OffloadedPages.granule
        var end = 0
        return shapes.map { shape in
            let start = end
            let sizeBytes = shape.reduce(DType.float32.sizeBytes, *)
            end += (sizeBytes + granule - 1) / granule * granule
            return start..<end
        }
    }

    /// Runs what uses the moments at some positions; those in a file leave memory after it.
    func using<Result, Failure: Error>(
        _ positions: Range<Int>, _ body: () throws(Failure) -> Result
    ) throws(Failure) -> Result {
        defer {
            if let pages {
                for position in positions { pages.release(ranges[position]) }
            }
        }
        return try body()
    }
}
