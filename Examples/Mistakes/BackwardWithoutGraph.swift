import Foundation
import PEFT

/// A training loop of one's own, without a check before it.
func backwardWithoutGraph(_ model: URL) throws {
    let base = try readBase(model)
    _ = try attachLoRA(to: base)
    let loss = try loss(of: base, on: makeRows())
    let logged = try loss.detach()
    try logged.backward()
}
