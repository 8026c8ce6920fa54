import Torch

/// A tensor that a file holds in pieces, one after the other in row-major order: those of experts.
struct PiecedTensor: Sendable {
    /// Elements of a stored tensor.
    struct Piece: Sendable {
        let name: String
        let elements: Range<Int>
    }

    /// The extents of the whole.
    let shape: [Int]
    /// The pieces in order.
    let pieces: [Piece]

    /// Reads elements of the whole.
    ///
    /// - Parameters:
    ///   - range: elements, row-major.
    ///   - read: elements of a stored tensor, `[range.count]`.
    /// - Returns: `[range.count]`; a copy if they are of several pieces.
    /// - Throws: what `read` throws; `TorchError` if memory does not suffice.
    func load(_ range: Range<Int>, _ read: (Range<Int>, String) throws -> Tensor) throws -> Tensor {
        var parts: [Tensor] = []
        var start = 0
        for piece in pieces {
            let inside = range.clamped(to: start..<start + piece.elements.count)
            let offset = piece.elements.lowerBound - start
            start += piece.elements.count
            guard !inside.isEmpty else { continue }
            parts.append(
                try read(inside.lowerBound + offset..<inside.upperBound + offset, piece.name))
        }
        guard let first = parts.first else {
            return try read(0..<0, pieces.first?.name ?? "")
        }
        return parts.count == 1 ? first : try Tensor.concatenated(parts)
    }
}

extension PiecedTensor {
    /// The experts' tensors of a file that has one for each expert and module.
    ///
    /// - Parameters:
    ///   - shapes: of the stored tensors, by name: `mlp.experts.7.gate_proj.weight`.
    ///   - modules: the modules of each expert, by the name of the whole; see `FileConventions.expertModules`.
    /// - Returns: the wholes by name: `mlp.experts.gate_up_proj`; with the tensors that are missing in them or of another shape.
    static func experts(
        in shapes: [String: [Int]], modules: [String: [String]]
    ) -> (wholes: [String: PiecedTensor], problems: [TensorProblem]) {
        var groups: [String: (experts: String, name: String, count: Int)] = [:]
        for name in shapes.keys {
            let parts = name.split(separator: ".")
            guard parts.count >= 5, parts.last == "weight",
                let expert = Int(parts[parts.count - 3]), expert >= 0
            else { continue }
            let module = String(parts[parts.count - 2])
            guard let whole = modules.first(where: { $0.value.contains(module) }) else { continue }
            let experts = parts.dropLast(3).joined(separator: ".")
            let path = "\(experts).\(whole.key)"
            let count = max(groups[path]?.count ?? 0, expert + 1)
            groups[path] = (experts, whole.key, count)
        }
        var wholes: [String: PiecedTensor] = [:]
        var problems: [TensorProblem] = []
        for (path, group) in groups.sorted(by: { $0.key < $1.key }) {
            let names = (0..<group.count).flatMap { expert in
                (modules[group.name] ?? []).map { "\(group.experts).\(expert).\($0).weight" }
            }
            let shape = names.lazy.compactMap { shapes[$0] }.first ?? []
            for name in names where shapes[name] != shape {
                problems.append(
                    shapes[name].map { .shape(name: name, expected: shape, found: $0) }
                        ?? .missing(name: name, expected: shape))
            }
            guard shape.count == 2 else { continue }
            let rows = shape[0] * names.count / group.count
            wholes[path] = PiecedTensor(
                shape: [group.count, rows, shape[1]],
                pieces: names.map { Piece(name: $0, elements: 0..<shape[0] * shape[1]) })
        }
        return (wholes, problems)
    }
}
