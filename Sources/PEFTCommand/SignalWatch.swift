import Dispatch
import Foundation
package import PEFT

/// Turns signals, by default SIGINT, SIGTERM and SIGUSR1, into a stop request; a second signal ends the process at once, unless it is to be passed on.
///
/// SIGUSR1 is what mpirun passes on to its processes: where it gets another one, it kills them soon after.
/// The handlers run on a queue of their own, so they may do what signal handlers must not.
package struct SignalWatch {
    /// What ends a run, or is passed on to its processes.
    package static let ofRuns = [SIGINT, SIGTERM, SIGUSR1]

    private let numbers: [Int32]
    private let sources: [any DispatchSourceSignal]

    /// Begins to watch.
    ///
    /// - Parameters:
    ///   - stop: the request that a signal makes.
    ///   - numbers: the signals; others keep their action.
    ///   - endsAtSecond: whether a second signal ends this process; else it makes the request again.
    ///   - notify: is called on each request, on the watch's queue.
    package init(
        _ stop: StopRequest, numbers: [Int32] = ofRuns, endsAtSecond: Bool = true,
        notify: @escaping @Sendable () -> Void
    ) {
        self.numbers = numbers
        let queue = DispatchQueue(label: "peft.signals")
        let registered = DispatchGroup()
        sources = numbers.map { number in
            signal(number, SIG_IGN)  // else the default action ends the process before the source
            let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
            source.setEventHandler {
                if endsAtSecond, stop.signal != nil { _exit(Command.Status.stopped(by: number)) }
                stop.request(signal: number)
                notify()
            }
            registered.enter()
            source.setRegistrationHandler { registered.leave() }
            source.resume()
            return source
        }
        registered.wait()  // until then a signal would be ignored
    }

    /// Gives the signals their default action again.
    package func end() {
        for source in sources { source.cancel() }
        for number in numbers { signal(number, SIG_DFL) }
    }
}
