import Torch

/// Splits work on the blocks of a tensor over threads.
package struct BlockParallelism: Sendable {
    /// As many threads as libtorch may use, where they pay off.
    package static let automatic = BlockParallelism()

    /// The most threads, or nil for as many as libtorch may use at the time.
    package let maxThreads: Int?
    /// Elements below which another thread costs more than it gains: tens of microseconds of decoding.
    package let minElementsPerThread: Int

    /// Makes a policy.
    package init(maxThreads: Int? = nil, minElementsPerThread: Int = 1 << 18) {
        self.maxThreads = maxThreads
        self.minElementsPerThread = minElementsPerThread
    }

    /// Runs `body` on disjoint ranges that cover `0..<numBlocks`; returns when all have ended.
    ///
    /// - Parameters:
    ///   - numBlocks: blocks of the tensor.
    ///   - numElements: elements of the tensor, which decide how many threads are worth it.
    ///   - body: writes to its own range only.
    package func forEachRange(
        of numBlocks: Int, numElements: Int, _ body: (Range<Int>) -> Void
    ) {
        let numThreads = min(
            maxThreads ?? TorchRuntime.numThreads, numElements / minElementsPerThread)
        guard numThreads > 1 else { return body(0..<numBlocks) }
        TorchRuntime.inParallel(numThreads) { thread in
            body(numBlocks * thread / numThreads..<numBlocks * (thread + 1) / numThreads)
        }
    }
}
