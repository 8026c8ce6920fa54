import Foundation
import PEFT

/// The loss of the reference model, without adapters, is taken for that of the trained one.
func lossOfTheReference(_ model: URL) throws {
    let base = try readBase(model)
    _ = try attachLoRA(to: base)
    let subjects = base.registry.linears.flatMap { linear in
        linear.trainableParameters.map { GradientReport.Subject($0, layer: linear.path) }
    }
    let report = try GradientReport(of: subjects) {
        try loss(of: base, on: makeRows(), usesAdapters: false)
    }
    try report.verify()
}
