import Foundation
import PEFT

/// The forward pass of training is run as one of evaluation.
func forwardWithoutGrad(_ model: URL) throws {
    let base = try readBase(model)
    let adapted = try attachLoRA(to: base)
    let report = try GradientReport(of: adapted.trainableParameters) {
        try withoutGrad { try loss(of: base, on: makeRows()) }
    }
    try report.verify()
}
