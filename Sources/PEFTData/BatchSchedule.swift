/// Which rows each optimizer step trains on: a function of the step's number alone.
///
/// Nothing moves forward in it, so a resumed run needs only the step to go on with the same batches.
/// An *element* is a row, or with packing a bin of whole rows. Each epoch takes each element once, in
/// the file's order or in a permutation of (seed, epoch); a step takes
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
    private let sequences: [TokenSequence]
    /// The sequences in each bin; nil without packing, where element i is sequence i.
    private let bins: [[Int]]?

    /// Plans the steps over a dataset; with packing this fills the bins, once for all epochs.
    ///
    /// - Throws: `BatchScheduleError`, for an empty dataset, a count below 1, packing without a
    ///   length, or a row that no bin holds.
    public init(dataset: TokenDataset, options: Options) throws(BatchScheduleError) {
        try Self.check(dataset, options)
        self.options = options
        sequences = dataset.sequences
        if options.packing, let capacity = options.maxLength {
            bins = packBestFitDecreasing(
                lengths: dataset.sequences.map(\.tokens.count), capacity: capacity)
        } else {
            bins = nil
        }
    }

    /// The number of rows, or of bins with packing.
    public var numElements: Int { bins?.count ?? sequences.count }

    /// The number of steps that take each element once.
    public var stepsPerEpoch: Int { (numElements + elementsPerStep - 1) / elementsPerStep }

    /// The epoch, from 0, that a step belongs to.
    ///
    /// - Precondition: `step >= 0`.
    public func epoch(ofStep step: Int) -> Int {
        precondition(step >= 0, "step \(step) lies before the first")
        return step / stepsPerEpoch
    }

    /// The micro-batches of a step, counted from 0 over all epochs: one or more, none empty.
    ///
    /// - Precondition: `step >= 0`.
    /// - Complexity: O(elements) when shuffled, for the epoch's order; else O(tokens of the step).
    public func microBatches(step: Int) -> [TokenBatch] {
        microBatchElements(step: step).map { elements in
            let indices = elements.flatMap { bins?[$0] ?? [$0] }
            return TokenBatch(indices.map { sequences[$0] })
        }
    }

    /// The elements of each micro-batch of a step.
    package func microBatchElements(step: Int) -> [[Int]] {
        let epoch = epoch(ofStep: step)
        let start = (step % stepsPerEpoch) * elementsPerStep
        let end = min(start + elementsPerStep, numElements)
        var elements = Array(start..<end)
        if options.shuffle {
            let order = seededPermutation(count: numElements, seed: options.seed, epoch: epoch)
            elements = Array(order[start..<end])
        }
        let size = options.perDeviceTrainBatchSize
        return stride(from: 0, to: elements.count, by: size).map { first in
            Array(elements[first..<min(first + size, elements.count)])
        }
    }

    private var elementsPerStep: Int {
        options.perDeviceTrainBatchSize * options.gradientAccumulationSteps
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
        for sequence in dataset.sequences where sequence.tokens.count > capacity {
            throw .rowTooLong(
                row: sequence.row, length: sequence.tokens.count, maxLength: capacity)
        }
    }
}
