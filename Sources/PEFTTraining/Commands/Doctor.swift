import Foundation
import PEFTSharding
package import Torch

/// Checks a run without making it: what `peft doctor` does.
public enum Doctor {
    /// Makes every check that `train` makes before its first step, as far as they go, and writes nothing.
    ///
    /// - Parameter config: what the run would be told; validated first.
    /// - Returns: all findings and the verdict.
    /// - Throws: `ConfigError` if the config itself is wrong; `TorchError` for a libtorch of another version;
    ///   `InstructionSetError` for one that the processor lacks; ``DeviceError`` for a device that is not there.
    public static func run(_ config: FineTuneConfig) throws -> PreflightReport {
        try run(config, on: nil)
    }

    /// The same on a device that the configuration cannot name; nil for the one that it names.
    package static func run(
        _ config: FineTuneConfig, on device: Device?
    ) throws -> PreflightReport {
        try config.validate()
        try ComputingProcess.prepare(numThreads: config.threads)
        let checkpoint =
            config.resume ? try RunCheckpoint.newest(in: URL(filePath: config.outputDir)) : nil
        let preflight = Preflight(
            config, checkpoint: checkpoint, ranks: RankGroup(),
            device: try device ?? config.device.device(), onFailure: { _ in }, report: { _ in })
        _ = try preflight.run()
        return preflight.result
    }
}
