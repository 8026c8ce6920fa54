import Foundation
import PEFT

// Mistakes that people make with adapters; each must be noticed. `docs/errors` shows them.
let mistakes: [String: (_ model: URL, _ folder: URL) throws -> Void] = [
    "AdapterForInference": { try adapterForInference($0, adapter: $1) },
    "AttachedTwice": { model, _ in try attachedTwice(model) },
    "BackwardWithoutGraph": { model, _ in try backwardWithoutGraph(model) },
    "ChangedAfterWriting": { try changedAfterWriting($0, folder: $1) },
    "DetachingExecution": { model, _ in try detachingExecution(model) },
    "ForgottenGradient": { model, _ in try forgottenGradient(model) },
    "ForwardWithoutGrad": { model, _ in try forwardWithoutGrad(model) },
    "FrozenMethod": { model, _ in try frozenMethod(model) },
    "GainAsNumber": { model, _ in try gainAsNumber(model) },
    "HeadBesideReentrantBlocks": { model, _ in try headBesideReentrantBlocks(model) },
    "LossOfTheReference": { model, _ in try lossOfTheReference(model) },
    "MaskedRows": { model, _ in try maskedRows(model) },
    "NormalizedUpdate": { model, _ in try normalizedUpdate(model) },
    "ReentrantCheckpoint": { model, _ in try reentrantCheckpoint(model) },
    "RootInTraining": { model, _ in try rootInTraining(model) },
    "RoundedOutput": { model, _ in try roundedOutput(model) },
    "SharedAdapter": { model, _ in try sharedAdapter(model) },
    "SkippedBlock": { model, _ in try skippedBlock(model) },
    "StaleOptimizer": { model, _ in try staleOptimizer(model) },
    "UnfrozenNorms": { model, _ in try unfrozenNorms(model) },
]

/// Writes to standard error.
func printError(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

let arguments = Array(CommandLine.arguments.dropFirst())
guard (2...3).contains(arguments.count), let mistake = mistakes[arguments[0]] else {
    let names = mistakes.keys.sorted().joined(separator: "\n  ")
    printError("usage: Mistakes MISTAKE MODEL [FOLDER]\n  \(names)")
    exit(2)
}
do {
    try mistake(URL(filePath: arguments[1]), URL(filePath: arguments.last ?? "."))
    print("\(arguments[0]) was not noticed")
} catch {
    printError("peft: error: \(DiagnosisCode.message(of: error))")
    exit(1)
}
