import Foundation
import PEFT

/// Reads a base model as QLoRA holds it: the linear weights in NF4.
func readBase(_ model: URL) throws -> BaseModel {
    try BaseModel(
        at: model,
        options: BaseModelOptions(quantization: QuantizationConfig(), computeDType: .float32))
}

/// Attaches a new LoRA.
func attachLoRA(
    to base: BaseModel, targets: TargetModules = .names(["q_proj", "v_proj"])
) throws -> AdaptedModel {
    try AdaptedModel(base, adapter: LoRAConfig(targetModules: targets), seed: 1)
}

/// One row of tokens, all of them learned.
func makeRows() -> TokenBatch {
    let tokens: [Int32] = [3, 1, 4, 1, 5, 9, 2, 6]
    return TokenBatch([
        TokenSequence(tokens: tokens, isTarget: tokens.map { _ in true }, row: 0)
    ])
}

/// The loss of rows, as training computes it.
func loss(
    of base: BaseModel, on rows: TokenBatch, usesAdapters: Bool = true
) throws -> Tensor {
    let context = ForwardContext(
        layout: SequenceLayout(segmentLengths: rows.segmentLengths), usesAdapters: usesAdapters)
    return try base.model.losses(
        tokens: rows.tokens, targets: rows.targets, context: context,
        execution: ResidentExecution()
    ).sum
}
