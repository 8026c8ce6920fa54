import Foundation
import Synchronization

/// Asks a training run, from another thread or a signal handler, to stop after its current step, or a model to end its answer.
///
/// The run writes a checkpoint, reports `TrainingEvent.interrupted` and returns.
public final class StopRequest: Sendable {
    private let signalNumber = Atomic<Int32>(0)
    private let numSignals = Atomic<Int>(0)

    /// Makes a request that nobody has made yet.
    public init() {}

    /// Asks to stop; the first signal stays.
    ///
    /// - Parameter signal: the signal's number (`SIGINT`, `SIGTERM`, `SIGUSR1`), above 0.
    public func request(signal: Int32) {
        _ = signalNumber.compareExchange(expected: 0, desired: signal, ordering: .relaxed)
        numSignals.add(1, ordering: .releasing)
    }

    /// Takes the request back: what begins now is not meant.
    package func withdraw() { signalNumber.store(0, ordering: .relaxed) }

    /// How often somebody has asked: a launcher passes on every signal.
    package var count: Int { numSignals.load(ordering: .acquiring) }

    /// The signal that asked; nil while nobody has.
    public var signal: Int32? {
        let number = signalNumber.load(ordering: .relaxed)
        return number == 0 ? nil : number
    }

    /// What a signal is called.
    static func name(ofSignal signal: Int32) -> String {
        switch signal {
        case SIGINT: "SIGINT"
        case SIGTERM: "SIGTERM"
        case SIGUSR1: "SIGUSR1"
        default: "signal \(signal)"
        }
    }
}
