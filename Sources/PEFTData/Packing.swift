/// Puts sequences into bins of at most `capacity` tokens, whole, by best fit decreasing.
///
/// The longest sequence goes first; each goes into the fullest bin that still has room for it, and
/// among equally full ones into the one that became so first, else into a new bin. Equal lengths go
/// in the order of their index. Nothing is split, and the result depends on the lengths alone.
///
/// - Parameters:
///   - lengths: the number of tokens of each sequence, each at most `capacity`.
///   - capacity: the number of tokens that a bin holds, at least 1.
/// - Returns: the indices in each bin, ascending; the bins in the order of their first index.
/// - Source: trl 1.16 `trl/data_utils.py:_pack_bfd`; Ding et al., "Fewer truncations improve language
///   modeling", 2024. Differs from it: sequences are never cut, and bins are in the order of the file.
/// - Precondition: no length is above `capacity` or below 0.
/// - Complexity: O(n log n + n log capacity).
package func packBestFitDecreasing(lengths: [Int], capacity: Int) -> [[Int]] {
    precondition(capacity > 0, "a bin of \(capacity) tokens holds nothing")
    precondition(
        lengths.allSatisfy { (0...capacity).contains($0) },
        "a sequence is longer than the bins' \(capacity) tokens")
    let order = lengths.indices.sorted { (-lengths[$0], $0) < (-lengths[$1], $1) }
    var bins: [[Int]] = []
    var open = OpenBins(capacity: capacity)
    for index in order {
        let length = lengths[index]
        if let (bin, room) = open.takeTightest(for: length) {
            bins[bin].append(index)
            open.add(bin: bin, room: room - length)
        } else {
            open.add(bin: bins.count, room: capacity - length)
            bins.append([index])
        }
    }
    return bins.map { $0.sorted() }.sorted { $0[0] < $1[0] }
}

/// Bins by the room left in them, to find the tightest one that fits.
private struct OpenBins {
    /// First in, first out, a queue for each room.
    private var queues: [ArraySlice<Int>]
    /// A complete binary tree: node i is set if a queue below it is not empty; leaf `room` is at
    /// `numLeaves + room`.
    private var isOccupied: [Bool]
    private let numLeaves: Int

    init(capacity: Int) {
        queues = Array(repeating: [], count: capacity + 1)
        var leaves = 1
        while leaves <= capacity { leaves *= 2 }
        numLeaves = leaves
        isOccupied = Array(repeating: false, count: 2 * leaves)
    }

    mutating func add(bin: Int, room: Int) {
        queues[room].append(bin)
        var node = numLeaves + room
        while node >= 1 && !isOccupied[node] {
            isOccupied[node] = true
            node /= 2
        }
    }

    mutating func takeTightest(for length: Int) -> (bin: Int, room: Int)? {
        guard let room = smallestRoom(atLeast: length) else { return nil }
        let bin = queues[room].removeFirst()
        if queues[room].isEmpty { markEmpty(room) }
        return (bin, room)
    }

    private mutating func markEmpty(_ room: Int) {
        var node = numLeaves + room
        isOccupied[node] = false
        node /= 2
        while node >= 1 {
            isOccupied[node] = isOccupied[2 * node] || isOccupied[2 * node + 1]
            if isOccupied[node] { return }
            node /= 2
        }
    }

    /// Climbs from the leaf to the first occupied subtree on its right, then descends leftmost.
    private func smallestRoom(atLeast length: Int) -> Int? {
        var node = numLeaves + length
        while !isOccupied[node] {
            while node & 1 == 1 {
                if node == 1 { return nil }
                node /= 2
            }
            node += 1
        }
        while node < numLeaves {
            node = isOccupied[2 * node] ? 2 * node : 2 * node + 1
        }
        return node - numLeaves
    }
}
