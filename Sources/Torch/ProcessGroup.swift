import CTorch
import Foundation

/// The processes of a run, each with a rank, that call collectives together.
///
/// All ranks make the same calls in the same order. Before the data of a call moves, the ranks exchange what they call,
/// with its number, tensor and label, so a rank that calls something else is an error on every rank and never a wrong
/// number. A worker thread carries the calls out one after the other while this process goes on.
///
/// After a failure the group has ended: its connections are closed, and every later call throws the first error at once.
package final class ProcessGroup {
    /// This process's number, from zero.
    package let rank: Int
    /// The number of processes.
    package let size: Int
    /// How long a rank waits for the others in one call.
    package let timeoutSeconds: Double

    /// What this process has sent to others in this group and those made of it.
    package let traffic: Traffic
    /// What moves the tensors.
    package let backend: Backend

    /// Where the processes meet; nil in a dry run.
    private let connection: (store: Store, handle: OpaquePointer)?
    private let address: String?
    /// The ranks of the whole run that this group's are, which errors name; nil for the group of all.
    private let members: [Int]?
    private let numRanksOfRun: Int
    private var numCalls = 0
    private var failure: CollectiveError?

    private static let pollMicroseconds: UInt32 = 10_000

    /// Connects this process with all others of the group over TCP.
    ///
    /// - Parameters:
    ///   - store: where the processes find each other; one name space for one group.
    ///   - rank: this process's number, in `0..<size`, no two alike.
    ///   - size: the number of processes.
    ///   - timeoutSeconds: how long to wait for the others, here and in every call.
    ///   - address: this host's name or address under which the others reach it; nil takes the interface in
    ///     `GLOO_SOCKET_IFNAME`, else the host's own name.
    ///   - backend: what moves the tensors, the same on all ranks; the connections over TCP are made in any case.
    /// - Throws: `CollectiveError` naming the ranks that did not come, or what the backend lacks here.
    package convenience init(
        store: Store, rank: Int, size: Int, timeoutSeconds: Double, address: String? = nil,
        backend: Backend = .gloo
    ) throws(CollectiveError) {
        try self.init(
            store: store, rank: rank, size: size, timeoutSeconds: timeoutSeconds,
            address: address, backend: backend, members: nil, numRanksOfRun: size,
            traffic: Traffic())
    }

    /// A process of a dry run: nobody else is there, calls only count what they would send.
    package init(dryRunOf rank: Int, of size: Int, traffic: Traffic = Traffic()) {
        (self.rank, self.size, numRanksOfRun, self.traffic) = (rank, size, size, traffic)
        (connection, address, members, timeoutSeconds) = (nil, nil, nil, .infinity)
        backend = .gloo
    }

    private init(
        store: Store, rank: Int, size: Int, timeoutSeconds: Double, address: String?,
        backend: Backend, members: [Int]?, numRanksOfRun: Int, traffic: Traffic
    ) throws(CollectiveError) {
        let handle = try Self.connect(
            store, rank: rank, size: size, timeoutSeconds: timeoutSeconds, address: address,
            backend: backend)
        connection = (store, handle)
        self.traffic = traffic
        self.backend = backend
        self.rank = rank
        self.size = size
        self.timeoutSeconds = timeoutSeconds
        self.address = address
        self.members = members
        self.numRanksOfRun = numRanksOfRun
    }

    /// A group of some ranks of this one, with calls of its own; its errors name the ranks of this group.
    ///
    /// - Parameters:
    ///   - ranks: ascending, this process's among them; every rank of them makes the same call.
    ///   - name: of the group, a name of its own in the run.
    /// - Returns: this process's end of the group.
    /// - Throws: `CollectiveError` naming the ranks that did not come.
    package func subgroup(
        of ranks: [Int], named name: String
    ) throws(CollectiveError) -> ProcessGroup {
        guard let position = ranks.firstIndex(of: rank) else {
            throw refusal(of: "subgroup \(name)", "rank \(rank) is not one of \(ranks)")
        }
        guard let connection else {
            return ProcessGroup(dryRunOf: position, of: ranks.count, traffic: traffic)
        }
        let part: Store
        do {
            part = try connection.store.prefixed(by: name)
        } catch {
            throw refusal(of: "subgroup \(name)", error.description)
        }
        return try ProcessGroup(
            store: part, rank: position, size: ranks.count, timeoutSeconds: timeoutSeconds,
            address: address, backend: backend, members: ranks, numRanksOfRun: size,
            traffic: traffic)
    }

    /// The rank in the whole run of one of this group.
    private func name(of rank: Int) -> Int { members?[rank] ?? rank }

    deinit {
        if let connection { ctorch_distributed_group_free(connection.handle) }
    }

    // MARK: - Connecting

    private static func connect(
        _ store: Store, rank: Int, size: Int, timeoutSeconds: Double, address: String?,
        backend: Backend
    ) throws(CollectiveError) -> OpaquePointer {
        func failed(
            _ reason: CollectiveError.Reason, silent: [Int] = [], _ message: String = ""
        ) -> CollectiveError {
            CollectiveError(
                reason: reason, rank: rank, numRanks: size, call: "connect",
                timeoutSeconds: timeoutSeconds,
                peers: silent.map { .init(rank: $0) }, message: message)
        }
        guard size > 0, size <= Int32.max, (0..<size).contains(rank), timeoutSeconds > 0 else {
            throw failed(
                .refused("expected a rank from 0 to below the size, and a positive timeout"))
        }
        if let problem = backend.problem { throw failed(.refused(problem)) }
        let numJoined: Int
        do {
            numJoined = try store.add(1, to: "joined/\(rank)")
        } catch {
            throw failed(.notConnected, error.description)
        }
        guard numJoined == 1 else {
            throw failed(
                .refused(
                    """
                    a process has joined as rank \(rank) before: give every process a rank of its own, \
                    and every run a new store
                    """))
        }
        var out: OpaquePointer?
        let status = ctorch_distributed_connect(
            store.handle, backend == .nccl, Int32(rank), Int32(size), address, timeoutSeconds,
            &out)
        if status == 0, let out { return out }
        let message = String(cString: ctorch_last_error())
        throw failed(
            .notConnected,
            silent: absentRanks(store, rank: rank, size: size, timeoutSeconds: timeoutSeconds),
            message)
    }

    /// The ranks that have not joined.
    ///
    /// Waits a little for the others to look too, since this process may host the store.
    private static func absentRanks(
        _ store: Store, rank: Int, size: Int, timeoutSeconds: Double
    ) -> [Int] {
        let absent = (0..<size).filter { (try? store.has("joined/\($0)")) == false }
        if (try? store.set("read/\(rank)", to: "")) != nil {
            let others = (0..<size).filter { $0 != rank && !absent.contains($0) }
            _ = waitForNotes(
                "read", of: others, in: store, for: grace(timeoutSeconds: timeoutSeconds))
        }
        return absent
    }

    // MARK: - Calls

    /// Queues a call under the next number.
    ///
    /// - Parameters:
    ///   - name: the collective's name.
    ///   - details: the rest of what all ranks must agree on, such as ` of float32[4], sum`.
    ///   - label: what it is for.
    ///   - sentBytes: what this process sends of its tensors.
    ///   - call: the C function, given the group, the call in words and where to put the work.
    /// - Returns: work to wait for.
    /// - Throws: `CollectiveError` if the group has ended.
    func start(
        _ name: String, _ details: String, _ label: String, sentBytes: Int,
        _ call: (OpaquePointer, String, UnsafeMutablePointer<OpaquePointer?>) -> Int32
    ) throws(CollectiveError) -> CollectiveWork {
        try throwIfFailed()
        traffic.sentBytes += sentBytes
        guard let handle = connection?.handle else { return CollectiveWork() }
        let text = "\(name) #\(numCalls + 1)\(details)" + (label.isEmpty ? "" : " (\(label))")
        var out: OpaquePointer?
        guard call(handle, text, &out) == 0, let out else {
            throw refusal(of: text, String(cString: ctorch_last_error()))
        }
        numCalls += 1
        return CollectiveWork(owning: out, of: self)
    }

    /// The error of a call that is wrong on this rank alone.
    func refusal(of call: String, _ problem: String) -> CollectiveError {
        CollectiveError(
            reason: .refused(problem), rank: name(of: rank), numRanks: numRanksOfRun, call: call,
            timeoutSeconds: timeoutSeconds)
    }

    // MARK: - Failure

    /// Throws the error that the group has ended with, if it has.
    func throwIfFailed() throws(CollectiveError) {
        if failure == nil, let connection,
            ctorch_distributed_group_has_failed(connection.handle)
        {
            failure = makeFailure(connection.store, connection.handle)
        }
        if let failure { throw failure }
    }

    private func makeFailure(_ store: Store, _ handle: OpaquePointer) -> CollectiveError {
        let isDiverged = ctorch_distributed_failure_call_of(handle, 0) != nil
        let elapsedSeconds = ctorch_distributed_failure_elapsed_seconds(handle)
        let reason: CollectiveError.Reason =
            isDiverged
            ? .diverged : elapsedSeconds < timeoutSeconds ? .connectionLost : .timedOut
        // Looked at first: the host of the store may go once everybody has read there.
        let isStoreLost = ctorch_distributed_failure_is_store_lost(handle)
        return CollectiveError(
            reason: reason, rank: name(of: rank), numRanks: numRanksOfRun,
            call: text(ctorch_distributed_failure_call(handle)), timeoutSeconds: timeoutSeconds,
            peers: isDiverged
                ? exchangedCalls(handle)
                : isStoreLost
                    ? peerRanks.map { .init(rank: name(of: $0)) } : notesOfPeers(store),
            message: text(ctorch_distributed_failure_message(handle)), isStoreLost: isStoreLost)
    }

    /// What each other rank sent before the data of the call.
    private func exchangedCalls(_ handle: OpaquePointer) -> [CollectiveError.Peer] {
        peerRanks.map {
            .init(
                rank: name(of: $0),
                call: text(ctorch_distributed_failure_call_of(handle, Int32($0))))
        }
    }

    /// What the other ranks have left in the store when they failed, waiting a little for those still missing.
    ///
    /// A rank that fails closes its connections, so the failure reaches every rank in a call within moments; who tells
    /// nothing is the rank to look at. Ranks that have read wait for each other, since one of them may host the store.
    private func notesOfPeers(_ store: Store) -> [CollectiveError.Peer] {
        let grace = Self.grace(timeoutSeconds: timeoutSeconds)
        let notes = Self.waitForNotes("failed", of: peerRanks, in: store, for: grace)
        if (try? store.set("read/\(rank)", to: "")) != nil {
            _ = Self.waitForNotes("read", of: notes.keys.sorted(), in: store, for: grace)
        }
        return peerRanks.map { peer in
            guard let note = notes[peer] else { return .init(rank: name(of: peer)) }
            let lines = note.split(separator: "\n", maxSplits: 1).map(String.init)
            return .init(rank: name(of: peer), call: lines.first, message: lines.dropFirst().first)
        }
    }

    /// Polls the store until all the ranks have left a note or the time is up; returns the notes there are.
    private static func waitForNotes(
        _ name: String, of ranks: [Int], in store: Store, for duration: Duration
    ) -> [Int: String] {
        let deadline = ContinuousClock.now + duration
        var notes: [Int: String] = [:]
        while notes.count < ranks.count {
            for peer in ranks where notes[peer] == nil {
                let key = "\(name)/\(peer)"
                // The store may be gone with the process that hosted it.
                guard let isSet = try? store.has(key) else { return notes }
                // Read at once, for the same reason.
                if isSet { notes[peer] = try? store.text(key, timeoutSeconds: 1) }
            }
            guard notes.count < ranks.count, ContinuousClock.now < deadline else { break }
            usleep(pollMicroseconds)
        }
        return notes
    }

    /// How long a rank that has failed waits for what the others have to say: 3 s, at most the timeout.
    private static func grace(timeoutSeconds: Double) -> Duration {
        .seconds(min(3, timeoutSeconds))
    }

    private var peerRanks: [Int] { (0..<size).filter { $0 != rank } }

    private func text(_ pointer: UnsafePointer<CChar>?) -> String {
        pointer.map { String(cString: $0) } ?? ""
    }
}

/// What one process has sent.
package final class Traffic {
    /// Bytes of tensors, by ring algorithms; what is exchanged before each call does not count.
    package fileprivate(set) var sentBytes = 0

    /// Nothing yet.
    package init() {}
}
