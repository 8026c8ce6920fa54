import PEFTSharding
import Torch

/// Where the state of an optimizer is: beside the tensors that it belongs to, or out of their memory but for that of one tensor at a
/// time.
///
/// Out of host memory is in a file; out of a device's memory is in page-locked host memory.
package struct StateMemory {
    private enum Place {
        /// Where the tensors are.
        case beside
        /// In a file; each tensor's bytes there, in whole pages.
        case file(OffloadedPages, ranges: [Range<Int>])
        /// In host memory, from which they go to the device for an update, and back.
        case host(Device)
    }

    /// The state where it is kept, zero at first.
    let tensors: [Tensor]
    private let place: Place

    /// Makes a state of zeros.
    ///
    /// - Parameters:
    ///   - layout: the tensors.
    ///   - device: where the tensors are that they belong to.
    ///   - folder: on whose disk they are kept; nil for memory.
    /// - Throws: `TorchError` if memory does not suffice, `OffloadFile.Failure` if the disk does not.
    init(_ layout: [StateTensor], on device: Device, folder: String?) throws {
        guard let folder, !layout.isEmpty else {
            tensors = try layout.map { kept throws(TorchError) in
                try Tensor.zeros(kept.shape, dtype: kept.dtype, on: device)
            }
            place = .beside
            return
        }
        guard device.isHost else {
            tensors = try layout.map { kept throws(TorchError) in
                let tensor = try Tensor.pinned(kept.shape, dtype: kept.dtype)
                try tensor.fillInPlace(0)
                return tensor
            }
            place = .host(device)
            return
        }
        let ranges = Self.ranges(of: layout)
        let end = ranges.last?.upperBound ?? 0
        guard !DryRun.isOn else {
            let file = try Tensor.storage(sizeBytes: end, of: "the optimizer's file")
            tensors = try zip(ranges, layout).map { range, kept throws(TorchError) in
                try file.view(atByte: range.lowerBound, shape: kept.shape, dtype: kept.dtype)
            }
            place = .beside
            return
        }
        let pages = try OffloadFile(in: folder).mapped(sizeBytes: end)
        tensors = try zip(ranges, layout).map { range, kept throws(TorchError) in
            try pages.tensor(atByte: range.lowerBound, shape: kept.shape, dtype: kept.dtype)
        }
        place = .file(pages, ranges: ranges)
    }

    private static func ranges(of layout: [StateTensor]) -> [Range<Int>] {
        let granule = OffloadedPages.granule
        var end = 0
        return layout.map { kept in
            let start = end
            end += (kept.sizeBytes + granule - 1) / granule * granule
            return start..<end
        }
    }

    /// Runs what changes the state at some positions, on the device of its tensors; what is kept elsewhere is there again after it.
    func using(
        _ positions: Range<Int>, _ body: ([Tensor]) throws(TorchError) -> Void
    ) throws(TorchError) {
        defer { release(positions) }
        let kept = Array(tensors[positions])
        guard case .host(let device) = place else { return try body(kept) }
        let copies = try kept.map { tensor throws(TorchError) in try tensor.to(device) }
        try body(copies)
        for (tensor, copy) in zip(kept, copies) { try tensor.copyInPlace(from: copy) }
    }

    /// Runs what reads or fills the state at a position, where it is kept.
    func reading<Result>(
        _ position: Int, _ body: (Tensor) throws -> Result
    ) throws -> Result {
        defer { release(position..<position + 1) }
        return try body(tensors[position])
    }

    /// Lets what is in a file leave memory.
    private func release(_ positions: Range<Int>) {
        guard case .file(let pages, let ranges) = place else { return }
        for position in positions { pages.release(ranges[position]) }
    }
}
