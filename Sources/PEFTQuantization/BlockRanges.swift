internal import Dispatch
internal import Torch

/// Splits work on the blocks of a tensor over threads.
enum BlockRanges {
    /// Elements below which starting threads costs more than it gains.
    static let minElementsPerThread = 1 << 18

    /// Runs `body` on disjoint ranges that cover `0..<numBlocks`, on as many threads as libtorch may use.
    ///
    /// - Parameters:
    ///   - numBlocks: blocks of the tensor.
    ///   - numElements: elements of the tensor, which decide whether threads are worth it.
    ///   - body: touches its own range only.
    static func forEach(
        _ numBlocks: Int, numElements: Int, _ body: (Range<Int>) -> Void
    ) {
        let numThreads = min(TorchRuntime.numThreads, numElements / minElementsPerThread)
        guard numThreads > 1 else { return body(0..<numBlocks) }
        // Safe: calls touch disjoint ranges of memory that outlives them, since all end before this function does.
        nonisolated(unsafe) let body = body
        DispatchQueue.concurrentPerform(iterations: numThreads) { thread in
            body(numBlocks * thread / numThreads..<numBlocks * (thread + 1) / numThreads)
        }
    }
}
