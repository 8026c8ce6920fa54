/// Which rows each optimizer step trains on: a function of the step's number alone.
///
/// Nothing moves forward in it, so a resumed run needs only the step to go on with the same batches.
/// An *element* is a row, or with packing a bin of whole rows. Each epoch takes each element once, in
/// the file's order or in a permutation of (seed, epoch), or draws them from several datasets (``MixtureOrder``); a step takes
/// `perDeviceTrainBatchSize * gradientAccumulationSteps` of them, the last step of an epoch what is
/// left (as `dataloader_drop_last=False` in transformers).
public struct BatchSchedule: Sendable {
    /// How rows become steps.
    public struct Options: Sendable, Hashable {
        /// Elements in a micro-batch, at least 1.
        public var perDeviceTrainBatchSize: Int
        /// Micro-batches in a step, at least 1.
        public var gradientAccumulationSteps: Int
        /// Whether each epoch has an order of its own; else all have the file's.
        public var shuffle: Bool
        /// The seed of the orders.
        public var seed: UInt64
        /// Whether several rows share an element, up to `maxLength` tokens; each stays its own segment.
        public var packing: Bool
        /// The most tokens in a bin, at least 1; needed by `packing` and not used without it.
        public var maxLength: Int?
        /// Processes that share a step, each with micro-batches of its own.
        public var numRanks = 1
        /// Whether rows of about the same length share a step; needs `shuffle`, and has no meaning with packing.
        public var groupsByLength = false

        /// Makes options; the defaults are those of TRL's `SFTConfig`, `maxLength` aside.
        public init(
            perDeviceTrainBatchSize: Int = 8,
            gradientAccumulationSteps: Int = 1,
            shuffle: Bool = true,
            seed: UInt64 = 42,
            packing: Bool = false,
            maxLength: Int? = nil
        ) {
            self.perDeviceTrainBatchSize = perDeviceTrainBatchSize
            self.gradientAccumulationSteps = gradientAccumulationSteps
            self.shuffle = shuffle
            self.seed = seed
            self.packing = packing
            self.maxLength = maxLength
        }
    }

    /// The options that the schedule was made with.
    public let options: Options
    private let sequences: TokenSequences
    /// The sequences in each bin; nil without packing, where element i is row i of the file.
    private let bins: [[Int]]?
    private let rowsPerElement: Int
    /// Draws from several datasets; nil where each element is taken once an epoch.
    private let mixture: MixtureOrder?

    /// Plans the steps over a dataset; with packing this fills the bins, once for all epochs.
    ///
    /// - Throws: `BatchScheduleError`, for an empty dataset, a count below 1, packing without a
    ///   length, or a row that no bin holds.
    public init(dataset: TokenDataset, options: Options) throws(BatchScheduleError) {
        try Self.check(dataset, options)
        self.options = options
        sequences = dataset.sequences
        let rowsPerElement = dataset.rowsPerElement
        self.rowsPerElement = rowsPerElement
        let parts = dataset.mixture?.map(\.range) ?? [0..<dataset.sequences.count]
        var elements: [[Int]] = []
        if options.packing, let capacity = options.maxLength {
            let lengths = dataset.sequences.lengths
            var bins: [[Int]] = []
            for part in parts {
                let packed = packBestFitDecreasing(
                    lengths: Array(lengths[part]), capacity: capacity)
                elements.append(Array(bins.count..<bins.count + packed.count))
                bins += packed.map { bin in bin.map { $0 + part.lowerBound } }
            }
            self.bins = bins
        } else {
            bins = nil
            elements = parts.map { part in
                Array(part.lowerBound / rowsPerElement..<part.upperBound / rowsPerElement)
            }
        }
        mixture = dataset.mixture.map { weighted in
            MixtureOrder(
                parts: elements, weights: weighted.map(\.weight), shuffle: options.shuffle,
                seed: options.seed)
        }
    }

    /// The number of rows, or of bins with packing.
    public var numElements: Int { bins?.count ?? sequences.count / rowsPerElement }

    /// The number of steps that take each element once.
    public var stepsPerEpoch: Int { (numElements + elementsPerStep - 1) / elementsPerStep }

    /// The epoch, from 0, that a step belongs to.
    ///
    /// - Precondition: `step >= 0`.
    public func epoch(ofStep step: Int) -> Int {
        precondition(step >= 0, "step \(step) lies before the first")
        return step / stepsPerEpoch
    }

    /// What one process trains on in a step.
    public struct Share: Sendable {
        /// Its micro-batches: as many as every other process has, the last ones perhaps placeholders without a target.
        public let microBatches: [TokenBatch]
        /// The number of the first of them among those of all processes.
        public let firstIndex: Int
        /// Target tokens of the step in all processes: the loss' normalizer.
        public let numTargetTokens: Int
        /// Tokens of the step in all processes.
        public let numTokens: Int
        /// Tokens of each row of the step in all processes; of pairs, the better one's first.
        public let rowLengths: [Int]

        /// Makes a share of its parts.
        public init(
            microBatches: [TokenBatch], firstIndex: Int, numTargetTokens: Int, numTokens: Int,
            rowLengths: [Int] = []
        ) {
            self.rowLengths = rowLengths
            self.microBatches = microBatches
            self.firstIndex = firstIndex
            self.numTargetTokens = numTargetTokens
            self.numTokens = numTokens
        }
    }

    /// The share of a process in a step, counted from 0 over all epochs.
    ///
    /// The elements of a step are cut into one contiguous slice a process, of equal size but for the last ones.
    ///
    /// - Precondition: `step >= 0`, and a rank below the number of ranks.
    /// - Complexity: O(elements) when shuffled, for the epoch's order; else O(tokens of the step).
    public func share(ofRank rank: Int, step: Int) -> Share {
        let all = microBatchElements(step: step)
        let perRank = all.map(\.count).max() ?? 0
        var own = all[rank].map(batch)
        while own.count < perRank { own.append(.placeholder) }
        let rows = all.joined().joined().flatMap(rows)
        return Share(
            microBatches: own, firstIndex: rank * perRank,
            numTargetTokens: rows.reduce(0) { $0 + sequences.numTargetTokens(at: $1) },
            numTokens: rows.reduce(0) { $0 + sequences.length(at: $1) },
            rowLengths: rows.map { sequences.length(at: $0) })
    }

    /// The micro-batches of a step in the first process: one or more, none empty.
    ///
    /// - Precondition: `step >= 0`.
    /// - Complexity: as ``share(ofRank:step:)``.
    public func microBatches(step: Int) -> [TokenBatch] {
        microBatchElements(step: step)[0].map(batch)
    }

    private func batch(of elements: [Int]) -> TokenBatch {
        TokenBatch(elements.flatMap(rows).map { sequences[$0] })
    }

    private func rows(of element: Int) -> [Int] {
        bins?[element] ?? Array(element * rowsPerElement..<(element + 1) * rowsPerElement)
    }

    /// The elements of each micro-batch of a step, by rank.
    package func microBatchElements(step: Int) -> [[[Int]]] {
        microBatchElements(step: step, order: order(ofEpoch: epoch(ofStep: step)))
    }

    /// The micro-batch with the most tokens in any process.
    ///
    /// - Parameter numSteps: steps from the first that are looked through, at least one.
    /// - Returns: the first of those with most.
    /// - Complexity: O(elements) for each epoch.
    package func largestMicroBatch(inSteps numSteps: Int) -> TokenBatch {
        var largest: [Int] = []
        var most = -1
        for first in stride(from: 0, to: max(1, numSteps), by: stepsPerEpoch) {
            let order = order(ofEpoch: epoch(ofStep: first))
            for step in first..<min(first + stepsPerEpoch, max(1, numSteps)) {
                for elements in microBatchElements(step: step, order: order).joined() {
                    let count = elements.flatMap(rows).reduce(0) { $0 + sequences.length(at: $1) }
                    guard count > most else { continue }
                    (most, largest) = (count, elements)
                }
            }
        }
        return batch(of: largest)
    }

    /// The elements in the order in which an epoch takes them.
    private func order(ofEpoch epoch: Int) -> [Int] {
        if let mixture { return grouped(mixture(epoch: epoch)) }
        guard options.shuffle else { return Array(0..<numElements) }
        return grouped(
            seededPermutation(count: numElements, seed: options.seed, epoch: epoch))
    }

    /// The same elements by their length, if that is asked for.
    private func grouped(_ order: [Int]) -> [Int] {
        guard options.groupsByLength, bins == nil else { return order }
        let lengths = (0..<numElements).map { element in
            rows(of: element).reduce(0) { $0 + sequences.length(at: $1) }
        }
        return groupedByLength(order, lengths: lengths, batchSize: elementsPerStep)
    }

    private func microBatchElements(step: Int, order: [Int]) -> [[[Int]]] {
        let start = (step % stepsPerEpoch) * elementsPerStep
        let elements = Array(order[start..<min(start + elementsPerStep, numElements)])
        let perRank = (elements.count + options.numRanks - 1) / options.numRanks
        let size = options.perDeviceTrainBatchSize
        return (0..<options.numRanks).map { rank in
            let first = min(rank * perRank, elements.count)
            let slice = elements[first..<min(first + perRank, elements.count)]
            return stride(from: slice.startIndex, to: slice.endIndex, by: size).map {
                Array(slice[$0..<min($0 + size, slice.endIndex)])
            }
        }
    }

    private var elementsPerStep: Int {
        options.perDeviceTrainBatchSize * options.gradientAccumulationSteps * options.numRanks
    }

    private static func check(
        _ dataset: TokenDataset, _ options: Options
    ) throws(BatchScheduleError) {
        if dataset.sequences.isEmpty { throw .emptyDataset }
        let counts = [
            ("per_device_train_batch_size", options.perDeviceTrainBatchSize),
            ("gradient_accumulation_steps", options.gradientAccumulationSteps),
            ("max_length", options.maxLength ?? 1),
        ]
        for (option, value) in counts where value < 1 {
            throw .countBelowOne(option: option, value: value)
        }
        guard options.packing else { return }
        guard let capacity = options.maxLength else { throw .packingWithoutMaxLength }
        for row in dataset.sequences.indices where dataset.sequences.length(at: row) > capacity {
            throw .rowTooLong(
                row: dataset.sequences[row].row, length: dataset.sequences.length(at: row),
                maxLength: capacity)
        }
    }
}
