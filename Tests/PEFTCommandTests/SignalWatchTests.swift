import Dispatch
import Foundation
import PEFT
import PEFTCommand
import Testing

@Suite(.serialized) struct SignalWatchTests {
    @Test(arguments: [SIGINT, SIGTERM, SIGUSR1])
    func theFirstSignalMakesTheRequest(number: Int32) async {
        await #expect(processExitsWith: .exitCode(7)) { [number] in
            let stop = StopRequest()
            let isNotified = DispatchSemaphore(value: 0)
            let watch = SignalWatch(stop) { isNotified.signal() }
            kill(getpid(), number)
            isNotified.wait()
            watch.end()
            exit(stop.signal == number ? 7 : 1)
        }
    }

    @Test(arguments: [SIGINT, SIGTERM, SIGUSR1])
    func theSecondSignalEndsTheProcess(number: Int32) async {
        await #expect(processExitsWith: .exitCode(128 + number)) { [number] in
            let isNotified = DispatchSemaphore(value: 0)
            let watch = SignalWatch(StopRequest()) { isNotified.signal() }
            kill(getpid(), SIGTERM)
            isNotified.wait()
            kill(getpid(), number)
            isNotified.wait()
            watch.end()
        }
    }
}
