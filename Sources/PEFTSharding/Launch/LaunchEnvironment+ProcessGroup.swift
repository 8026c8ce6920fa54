package import Torch

extension LaunchEnvironment {
    /// A store at one of these means that all ranks are on one machine.
    private static let loopbackHosts: Set<String> = ["localhost", "127.0.0.1"]

    /// Connects this process with the others of its run.
    ///
    /// The keys carry the restart count, so a restarted run does not read what the last attempt left in a store that its
    /// launcher keeps. One process gets a group of one, without a network. A process is reached at its address on the route to
    /// the store; where `GLOO_SOCKET_IFNAME` is set, at that of the interface.
    ///
    /// - Parameters:
    ///   - timeoutSeconds: how long to wait for the other ranks, here and in every call.
    ///   - backend: what moves tensors.
    /// - Returns: this process's end of the group.
    /// - Throws: `TorchError` if the store cannot be reached; `CollectiveError` naming the ranks that did not come.
    package func makeProcessGroup(
        timeoutSeconds: Double, backend: ProcessGroup.Backend = .gloo
    ) throws -> ProcessGroup {
        guard let rendezvous else {
            return try ProcessGroup(
                store: .inMemory(), rank: 0, size: 1, timeoutSeconds: timeoutSeconds,
                address: "127.0.0.1")
        }
        let store = try Store.tcp(
            host: rendezvous.host, port: rendezvous.port,
            isServer: rank == 0 && !rendezvous.isHostedByLauncher, timeoutSeconds: timeoutSeconds)
        return try ProcessGroup(
            store: store.prefixed(by: "swift-peft/\(restartCount)"), rank: rank, size: numRanks,
            timeoutSeconds: timeoutSeconds,
            address: address(rendezvous), backend: backend)
    }

    private func address(_ rendezvous: Rendezvous) -> String? {
        if Self.loopbackHosts.contains(rendezvous.host) { return "127.0.0.1" }
        if namesInterface { return nil }
        return LocalAddress.onRoute(to: rendezvous.host, port: rendezvous.port)
    }
}
