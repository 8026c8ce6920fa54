import Foundation
import PEFT

/// The mask of the targets is the wrong way round: nothing of the row is learned.
func maskedRows(_ model: URL) throws {
    let isPrompt = [true, true, true, true, true]
    let rows = TokenBatch([
        TokenSequence(tokens: [3, 1, 4, 1, 5], isTarget: isPrompt.map { !$0 }, row: 0)
    ])
    let sharded = try ShardedModel(attachLoRA(to: readBase(model)))
    _ = try ReadyModel(checking: sharded, sample: rows)
}
