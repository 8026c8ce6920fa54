import Foundation
import PEFT

extension Library {
    /// The library itself.
    static var live: Library {
        Library(
            version: {
                try TorchRuntime.checkVersion()
                return "swift-peft \(PEFTVersion.current) (libtorch \(TorchRuntime.libraryVersion))"
            },
            train: {
                try FineTune.run(
                    $0, environment: ProcessInfo.processInfo.environment, stop: $1, report: $2)
            },
            doctor: { try Doctor.run($0) },
            plan: { try Plan.run($0) },
            score: { try Score.run($0) },
            generate: { try Generate.run($0, onText: $1) },
            chat: {
                let chat = try Chat($0)
                return { try chat.answer($0, stop: $1, onText: $2) }
            },
            merge: { try Merge.run($0) },
            combine: { try Combine.run($0) },
            quantize: { try Quantize.run($0) },
            export: { try Export.run($0) },
            inspect: { try Inspect.run($0) },
            tokenize: { try Tokenize.run($0, lines: $1, onTokens: $2) },
            initModel: { try InitModel.run($0) },
            launch: { options, stop, streams in
                let environment = ProcessInfo.processInfo.environment
                let program = URL(filePath: "/proc/self/exe").resolvingSymlinksInPath().path
                return try Launch.run(
                    options, executable: program, environment: environment, stop: stop,
                    streams: streams)
            })
    }
}
