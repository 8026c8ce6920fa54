package import PEFTLayers
package import Torch

/// Work of rank 0 that needs whole trainable tensors: the other ranks gather with it what it asks for.
extension ModelShards {
    /// What rank 0 sends instead of a position when it has done its work.
    private static let done: Int64 = -1

    /// Runs a part of the work on rank 0 alone, in which it may ask for ``whole(_:)`` tensors, in any order.
    ///
    /// - Parameters:
    ///   - label: what it is, for errors.
    ///   - body: makes no other collective calls.
    /// - Throws: the body's error on rank 0, ``RankFailure`` on the others; `CollectiveError` if a rank is gone.
    package func onMain(_ label: String, _ body: () throws -> Void) throws {
        guard let world = ranks.world else { return try body() }
        guard ranks.isMain else {
            try serve(world)
            _ = try ranks.together(label) { "" }
            return
        }
        let result = Result { try body() }
        if case .failure(let error) = result, error is CollectiveError { throw error }
        try send(Self.done, world)
        _ = try ranks.together(label) {
            try result.get()
            return ""
        }
    }

    /// A trainable tensor as a whole, inside of ``onMain(_:_:)``; its elements stay until another unit is asked for.
    ///
    /// - Throws: `CollectiveError` if a rank is gone.
    package func whole(_ parameter: Parameter) throws -> Tensor {
        if let world = ranks.world, let position = position(of: parameter) {
            try send(Int64(position), world)
            try require(position)
        }
        return try parameter.value.detach()
    }

    private func serve(_ world: ProcessGroup) throws {
        while true {
            let message = try Tensor([Int64(0)], shape: [1]).to(ranks.device)
            try world.broadcast(message, from: 0, label: "work of rank 0")
            let position = try message.int64s()[0]
            guard position >= 0 else { return }
            try require(Int(position))
        }
    }

    private func send(_ message: Int64, _ world: ProcessGroup) throws {
        try world.broadcast(
            Tensor([message], shape: [1]).to(ranks.device), from: 0, label: "work of rank 0")
    }
}
