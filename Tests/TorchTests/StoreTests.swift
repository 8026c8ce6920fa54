import Foundation
import TestSupport
import Testing
import Torch

@Suite struct StoreTests {
    @Test func keysOfOnePrefixAreNotSeenUnderAnother() throws {
        let store = try Store.inMemory()
        let left = try store.prefixed(by: "left")
        try left.set("key", to: "Wert ä")
        #expect(try left.text("key", timeoutSeconds: 1) == "Wert ä")
        #expect(try store.prefixed(by: "right").has("key") == false)
        #expect(try store.has("left/key"))
    }

    @Test func counterAddsUp() throws {
        let store = try Store.inMemory()
        #expect(try store.add(2, to: "count") == 2)
        #expect(try store.add(3, to: "count") == 5)
    }

    @Test func missingKeyTimesOut() throws {
        let folder = try Checkout.temporaryFolder()
        defer { try? FileManager.default.removeItem(at: folder) }
        let store = try Store.file(
            folder.appending(path: "store").path, numRanks: 1, timeoutSeconds: 5)
        #expect(throws: TorchError.self) { _ = try store.text("nothing", timeoutSeconds: 0.1) }
    }

    @Test func serverAndClientShareKeys() throws {
        let port = RankProcesses.freePort()
        let server = try Store.tcp(
            host: "127.0.0.1", port: port, isServer: true, timeoutSeconds: 10)
        let client = try Store.tcp(
            host: "127.0.0.1", port: port, isServer: false, timeoutSeconds: 10)
        try client.set("key", to: "value")
        #expect(try server.text("key", timeoutSeconds: 5) == "value")
    }

    @Test func absentServerIsNamed() throws {
        let port = RankProcesses.freePort()
        let error = #expect(throws: TorchError.self) {
            _ = try Store.tcp(host: "127.0.0.1", port: port, isServer: false, timeoutSeconds: 1)
        }
        #expect(error?.operation == "reach the store at 127.0.0.1:\(port)")
    }
}
