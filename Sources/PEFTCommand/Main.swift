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
        // Only training has something to save; everything else ends at the first signal as usual. A launcher passes signals on.
        let isTraining = arguments.first == CommandName.train.rawValue
        let watch =
            isTraining || arguments.first == CommandName.launch.rawValue
            ? SignalWatch(stop, endsAtSecond: isTraining) {
                guard isTraining else { return }
                let note = "note: stopping after this step; once more to stop at once\n"
                Console.writeNote(startOfLine + note)
            } : nil
        let status = command.run(arguments)
        watch?.end()
        exit(status)
    }
}
