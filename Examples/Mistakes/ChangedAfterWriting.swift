import Foundation
import PEFT

/// Something else writes to the folder between writing and reading back, here a second model of the same shapes.
func changedAfterWriting(_ model: URL, folder: URL) throws {
    let writer = AdapterWriter(adapted: try attachLoRA(to: readBase(model)))
    try writer.write(to: folder)
    let other = try AdaptedModel(
        readBase(model), adapter: LoRAConfig(targetModules: .names(["q_proj", "v_proj"])),
        seed: 2)
    try AdapterWriter(adapted: other).write(to: folder)
    try writer.verify(folder)
}
