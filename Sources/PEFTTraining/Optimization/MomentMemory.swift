import PEFTSharding
import Torch

/// Where the moments of an optimizer are: beside the tensors that they belong to, or out of their memory but for those of one tensor
/// at a time.
///
/// Out of host memory is in a file; out of a device's memory is in page-locked host memory.
struct MomentMemory {
    private enum Place {
        /// Where the tensors are.
        case beside
        /// In a file; each tensor's bytes there, in whole pages.
        case file(OffloadedPages, ranges: [Range<Int>])
        /// In host memory, from which they go to the device for an update, and back.
        case host(Device)
    }

    /// The moments where they are kept, zero at first, float32.
    let tensors: [Tensor]
    private let place: Place

    /// Makes moments.
    ///
    /// - Parameters:
    ///   - parameters: the tensor that each belongs to; all on one device.
    ///   - folder: on whose disk they are kept; nil for memory.
    /// - Throws: `TorchError` if memory does not suffice, `OffloadFile.Failure` if the disk does not.
    init(of parameters: [Tensor], folder: String?) throws {
        let shapes = parameters.map(\.shape)
        let device = parameters.first?.device ?? .cpu
        guard let folder, !shapes.isEmpty else {
            tensors = try shapes.map { shape throws(TorchError) in
                try Tensor.zeros(shape, on: device)
            }
            place = .beside
            return
        }
        guard device.isHost else {
            tensors = try shapes.map { shape throws(TorchError) in
                let moment = try Tensor.pinned(shape, dtype: .float32)
                try moment.fillInPlace(0)
                return moment
            }
            place = .host(device)
            return
        }
        let ranges = Self.ranges(of: shapes)
        let end = ranges.last?.upperBound ?? 0
        guard !DryRun.isOn else {
            let file = try Tensor.storage(sizeBytes: end, of: "the optimizer's file")
            tensors = try zip(ranges, shapes).map { range, shape throws(TorchError) in
                try file.view(atByte: range.lowerBound, shape: shape, dtype: .float32)
            }
            place = .beside
            return
        }
        let pages = try OffloadFile(in: folder).mapped(sizeBytes: end)
        tensors = try zip(ranges, shapes).map { range, shape throws(TorchError) in
            try pages.tensor(atByte: range.lowerBound, shape: shape, dtype: .float32)
        }
        place = .file(pages, ranges: ranges)
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

    /// Runs what changes the moments at some positions, on the device of their tensors; those kept elsewhere are there again after it.
    func using(
        _ positions: Range<Int>, _ body: ([Tensor]) throws(TorchError) -> Void
    ) throws(TorchError) {
        defer { release(positions) }
        let kept = Array(tensors[positions])
        guard case .host(let device) = place else { return try body(kept) }
        let copies = try kept.map { moment throws(TorchError) in try moment.to(device) }
        try body(copies)
        for (moment, copy) in zip(kept, copies) { try moment.copyInPlace(from: copy) }
    }

    /// Runs what reads or fills the moment at a position, where it is kept.
    func reading<Result>(
        _ position: Int, _ body: (Tensor) throws -> Result
    ) throws -> Result {
        defer { release(position..<position + 1) }
        return try body(tensors[position])
    }

    /// Lets those in a file leave memory.
    private func release(_ positions: Range<Int>) {
        guard case .file(let pages, let ranges) = place else { return }
        for position in positions { pages.release(ranges[position]) }
    }
}
