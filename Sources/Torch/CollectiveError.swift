/// A collective that failed on this rank: what it was, what is known of the other ranks, and what to do.
///
/// Unless the call was refused for its arguments, the group has ended with it.
package struct CollectiveError: Error, Equatable, Sendable {
    /// What went wrong.
    package enum Reason: Equatable, Sendable {
        /// The call's arguments are wrong; nothing was sent and the group goes on.
        case refused(String)
        /// The ranks called different collectives; no data was moved.
        case diverged
        /// A rank did not come to the call in time.
        case timedOut
        /// A connection broke, or another rank gave up.
        case connectionLost
        /// The group could not be formed.
        case notConnected
    }

    /// What is known of another rank.
    package struct Peer: Equatable, Sendable {
        /// Its rank.
        package let rank: Int
        /// The collective that it called, with number, tensor and label; nil if it has told nothing.
        package let call: String?
        /// Why its call failed, in the backend's words; nil if it has told nothing.
        package let message: String?

        /// What a rank has told, if anything.
        package init(rank: Int, call: String? = nil, message: String? = nil) {
            self.rank = rank
            self.call = call
            self.message = message
        }
    }

    /// What went wrong.
    package let reason: Reason
    /// The rank of this process.
    package let rank: Int
    /// The number of ranks in the group.
    package let numRanks: Int
    /// The collective, with number, tensor and label: `broadcast #12 of float32[4] from rank 0 (gather of layer 3)`.
    package let call: String
    /// How long a rank waits for the others.
    package let timeoutSeconds: Double
    /// What is known of the other ranks; empty if the reason lies in this one.
    package let peers: [Peer]
    /// The reason in the backend's words.
    package let message: String
    /// Whether the store is gone, in which the ranks tell each other why they fail.
    package let isStoreLost: Bool

    /// The error of one call.
    package init(
        reason: Reason, rank: Int, numRanks: Int, call: String, timeoutSeconds: Double,
        peers: [Peer] = [], message: String = "", isStoreLost: Bool = false
    ) {
        self.isStoreLost = isStoreLost
        self.reason = reason
        self.rank = rank
        self.numRanks = numRanks
        self.call = call
        self.timeoutSeconds = timeoutSeconds
        self.peers = peers
        self.message = message
    }

    /// Whether another rank is gone, or gave up; what this one has done is not in question.
    package var isLoss: Bool { reason == .timedOut || reason == .connectionLost }

    /// The collective's name: `broadcast`.
    package var collective: String { String(call.prefix { $0 != " " }) }

    /// The number of the call within its group, counted from one; nil if the group was not formed.
    package var sequence: Int? {
        call.firstMatch(of: /^\w+ #(\d+)/).flatMap { Int($0.1) }
    }

    /// The ranks that have told nothing: they have ended, or they are still busy elsewhere.
    package var silentRanks: [Int] { peers.filter { $0.call == nil }.map(\.rank) }
}

extension CollectiveError: CustomStringConvertible {
    /// What failed and on which rank, what is known of the others, and what to do.
    package var description: String {
        let here = "rank \(rank) of \(numRanks)"
        switch reason {
        case .refused(let problem):
            return "\(here): \(call): \(problem)"
        case .diverged:
            let calls = ["rank \(rank) called \(call)"] + peers.map(Self.callText)
            return """
                \(here): the ranks called different collectives, so no data was moved: \
                \(calls.joined(separator: ", ")); every rank must make the same calls in the same order: \
                look for a branch that depends on the rank or on its data
                """
        case .timedOut:
            return """
                \(here): \(call) timed out after \(timeoutSeconds) s; \(peerText); \
                if a rank is slow rather than lost, raise the timeout (\(Self.shortened(message)))
                """
        case .connectionLost:
            return "\(here): \(call) lost a connection; \(peerText) (\(Self.shortened(message)))"
        case .notConnected:
            return """
                \(here): the group did not form within \(timeoutSeconds) s; \(missingText) (\(Self.shortened(message)))
                """
        }
    }

    private static func callText(_ peer: Peer) -> String {
        "rank \(peer.rank) called \(peer.call ?? "nothing")"
    }

    /// The silent ranks and what to do about them, then the ranks that have failed too.
    private var peerText: String {
        var parts: [String] = []
        if isStoreLost {
            parts.append(
                """
                the store is gone with the process that hosts it, rank 0 unless the launcher does; restart \
                all ranks from the last checkpoint
                """)
        } else if !silentRanks.isEmpty {
            parts.append(
                """
                \(Self.ranksText(silentRanks)) told nothing: ended, or busy elsewhere; \
                see what was logged there and restart all ranks from the last checkpoint
                """)
        }
        for peer in peers {
            guard let call = peer.call else { continue }
            parts.append(
                "rank \(peer.rank) failed in \(call): \(Self.shortened(peer.message ?? "no reason given"))"
            )
        }
        return parts.joined(separator: "; ")
    }

    private var missingText: String {
        silentRanks.isEmpty
            ? "all ranks found the store but could not connect: check that they reach each other"
            : """
            \(Self.ranksText(silentRanks)) did not come: start all \(numRanks) processes with the same store
            """
    }

    /// Gloo's words without the place in its source and its advice.
    private static func shortened(_ message: String) -> String {
        var text = message[...]
        if text.hasPrefix("["), let end = text.firstRange(of: "] ") {
            text = text[end.upperBound...]
        }
        if let advice = text.firstRange(of: ". This is typically") {
            text = text[..<advice.lowerBound]
        }
        return String(text)
    }

    private static func ranksText(_ ranks: [Int]) -> String {
        (ranks.count == 1 ? "rank " : "ranks ") + ranks.map(String.init).joined(separator: ", ")
    }
}
