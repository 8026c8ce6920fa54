import Foundation
import PEFT

/// The entry point of `peft`.
@main
enum Main {
    /// Runs the command line and exits with its status.
    static func main() {
        signal(SIGXFSZ, SIG_IGN)  // a file over the size limit is an error with a message
        let process = ProcessInfo.processInfo
        let arguments = Array(process.arguments.dropFirst())
        if let reason = ProcessLimits.exhausted() {
            Console.writeNote("peft: error: \(reason)\n")
            exit(Command.Status.failed)
        }
        if let parent = process.environment[Launch.parentVariable].flatMap({ pid_t($0) }) {
            TorchRuntime.endWithParent()
            if getppid() != parent { exit(Command.Status.failed) }  // it has ended already
        }
        let console = Console.process(environment: process.environment)
        let stop = StopRequest()
        let startOfLine = console.isTerminal ? "\n" : ""  // the live line stays where it is
        let command = Command(console: console, library: .live, stop: stop)
        let watch = makeWatch(arguments.first.flatMap { CommandName(rawValue: $0) }, stop) {
            Console.writeNote(
                startOfLine + "note: stopping after this step; once more to stop at once\n")
        }
        let status = command.run(arguments)
        watch?.end()
        exit(status)
    }

    /// What signals do but end the program: training saves, a launcher passes them on, an answer ends.
    private static func makeWatch(
        _ command: CommandName?, _ stop: StopRequest, notify: @escaping @Sendable () -> Void
    ) -> SignalWatch? {
        switch command {
        case .train: SignalWatch(stop, notify: notify)
        case .launch: SignalWatch(stop, endsAtSecond: false) {}
        case .chat: SignalWatch(stop, numbers: [SIGINT], endsAtSecond: false) {}
        default: nil
        }
    }
}
