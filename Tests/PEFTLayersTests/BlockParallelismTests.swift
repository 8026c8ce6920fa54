import PEFTLayers
import Synchronization
import Testing

/// Ranges are disjoint, cover everything, and are few where there is little to do.
@Suite struct BlockParallelismTests {
    func ranges(
        _ parallelism: BlockParallelism, numBlocks: Int, numElements: Int
    ) -> [Range<Int>] {
        let found = Mutex<[Range<Int>]>([])
        parallelism.forEachRange(of: numBlocks, numElements: numElements) { range in
            found.withLock { $0.append(range) }
        }
        return found.withLock { $0.sorted { $0.lowerBound < $1.lowerBound } }
    }

    @Test(arguments: [0, 1, 2, 7, 64, 1001])
    func rangesCoverAllBlocksOnce(_ numBlocks: Int) {
        for maxThreads in [1, 2, 3, 8] {
            let parallelism = BlockParallelism(maxThreads: maxThreads, minElementsPerThread: 1)
            let found = ranges(parallelism, numBlocks: numBlocks, numElements: numBlocks * 64)
            #expect(found.flatMap { Array($0) } == Array(0..<numBlocks))
            #expect(found.count == (numBlocks == 0 ? 1 : maxThreads))
        }
    }

    @Test func smallTensorsStayOnOneThread() {
        let parallelism = BlockParallelism(maxThreads: 8, minElementsPerThread: 1000)
        #expect(ranges(parallelism, numBlocks: 10, numElements: 1999).count == 1)
        #expect(ranges(parallelism, numBlocks: 10, numElements: 2000).count == 2)
        #expect(ranges(parallelism, numBlocks: 10, numElements: 1_000_000).count == 8)
    }
}
