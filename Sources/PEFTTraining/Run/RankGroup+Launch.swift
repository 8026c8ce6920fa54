import PEFTSharding
import Torch

extension RankGroup {
    /// The processes that a launcher has started, divided as a configuration says.
    ///
    /// - Throws: `LaunchError`; ``TrainingError/groupsDoNotDivide(ranksPerGroup:numRanks:)``; `CollectiveError` naming ranks that did not come.
    convenience init(_ launch: LaunchEnvironment, _ config: FineTuneConfig) throws {
        guard launch.numRanks > 1 else {
            self.init()
            return
        }
        let numShards =
            switch config.sharding {
            case .full, .gradOp: launch.numRanks
            case .none: 1
            case .hybrid(let ranksPerGroup): ranksPerGroup
            }
        guard launch.numRanks % numShards == 0 else {
            throw TrainingError.groupsDoNotDivide(
                ranksPerGroup: numShards, numRanks: launch.numRanks)
        }
        try self.init(
            try launch.makeProcessGroup(timeoutSeconds: config.ddpTimeout), numShards: numShards)
    }
}
