import PEFTSharding
import Torch

extension RankGroup {
    /// The processes that a launcher has started, divided as a configuration says; tensors on GPUs go over NCCL, others over Gloo.
    ///
    /// - Throws: `LaunchError`; ``TrainingError/groupsDoNotDivide(ranksPerGroup:numRanks:)``; `CollectiveError` naming ranks that did not come.
    convenience init(
        _ launch: LaunchEnvironment, _ config: FineTuneConfig, on device: Device
    ) throws {
        guard launch.numRanks > 1 else {
            self.init()
            return
        }
        let numShards = try config.numShards(of: launch.numRanks)
        let world = try launch.makeProcessGroup(
            timeoutSeconds: config.ddpTimeout, backend: device.isCUDA ? .nccl : .gloo)
        try self.init(world, numShards: numShards, on: device.isCUDA ? device : .cpu)
    }

    /// The first process of a dry run of so many.
    ///
    /// - Throws: ``TrainingError/groupsDoNotDivide(ranksPerGroup:numRanks:)``.
    convenience init(dryRunOf config: FineTuneConfig, numRanks: Int) throws {
        try self.init(
            ProcessGroup(dryRunOf: 0, of: numRanks),
            numShards: config.numShards(of: numRanks))
    }
}

extension FineTuneConfig {
    /// Processes that together hold everything once.
    fileprivate func numShards(of numRanks: Int) throws(TrainingError) -> Int {
        let numShards =
            switch sharding {
            case .full, .gradOp: numRanks
            case .none: 1
            case .hybrid(let ranksPerGroup): ranksPerGroup
            }
        guard numRanks % numShards == 0 else {
            throw .groupsDoNotDivide(ranksPerGroup: numShards, numRanks: numRanks)
        }
        return numShards
    }
}
