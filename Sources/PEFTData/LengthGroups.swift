/// Groups an order so that elements of a batch have about the same length, and the longest comes first.
///
/// The order is cut into groups of up to 50 batches, each sorted from long to short. Then the longest element of all changes places with
/// the first, so that a batch that does not fit into memory comes at once.
///
/// - Source: transformers 5.23 `trainer_pt_utils.py:get_length_grouped_indices`. Differs from its use there: a batch is a whole step of
///   all processes, so the order does not depend on their number.
///
/// - Parameters:
///   - order: each of `0..<count` once.
///   - lengths: tokens of each element.
///   - batchSize: elements of a batch.
/// - Returns: each of `0..<count` once.
/// - Complexity: O(count log count).
package func groupedByLength(_ order: [Int], lengths: [Int], batchSize: Int) -> [Int] {
    let numBatches = max(1, min(order.count / (batchSize * 4), 50))
    let size = numBatches * batchSize
    var grouped: [Int] = []
    var starts: [Int] = []
    for start in stride(from: 0, to: order.count, by: size) {
        starts.append(start)
        let group = order[start..<min(start + size, order.count)].enumerated().sorted {
            (lengths[$0.element], $1.offset) > (lengths[$1.element], $0.offset)
        }
        grouped += group.map(\.element)
    }
    // Each group begins with its longest.
    var longest = 0
    for start in starts where lengths[grouped[start]] > lengths[grouped[longest]] {
        longest = start
    }
    if !grouped.isEmpty { grouped.swapAt(0, longest) }
    return grouped
}
