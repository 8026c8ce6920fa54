import PEFT

var config = FineTuneConfig(
    model: CommandLine.arguments[1], data: CommandLine.arguments[2],
    outputDir: CommandLine.arguments[3])
config.loraR = 8
config.targetModules = .names(["q_proj", "v_proj"])
config.maxSteps = 20
try FineTune.run(config) { event in
    if case .step(let metrics, _) = event { print(metrics.step, metrics.loss) }
}
