public import PEFTTokenizers
import Torch

/// How much of the update of one layer is left after its weight was rounded to what it is stored as.
///
/// W is the base's weight, Δ the update, S what is stored of W + Δ. A weight that sits on a grid stays where it is when the update is
/// smaller than half a step: then all is lost, though the merge went well.
public struct UpdateSurvival: Equatable, Sendable {
    /// The path of the layer's weight.
    public let path: String
    /// The sum of the squares of W.
    let weightSquares: Double
    /// The sum of the squares of Δ.
    let updateSquares: Double
    /// The sum of the products of S - W and Δ.
    let products: Double
    /// The sum of the squares of S - W - Δ.
    let errorSquares: Double

    /// Below this share of the update most of it is lost.
    public static let threshold = 0.5

    /// `‖Δ‖ / ‖W‖`; not finite for a weight of zeros, such as a bias may be.
    public var relativeUpdate: Double { (updateSquares / weightSquares).squareRoot() }
    /// `<S - W, Δ> / <Δ, Δ>`: 1 if the update is there, 0 if it is lost; 1 for no update.
    public var survived: Double { updateSquares > 0 ? products / updateSquares : 1 }
    /// `‖S - W - Δ‖ / ‖Δ‖`: what rounding adds that was not learned; 0 for no update.
    public var noise: Double {
        updateSquares > 0 ? (errorSquares / updateSquares).squareRoot() : 0
    }

    /// Compares the weights of a layer.
    ///
    /// - Parameters:
    ///   - path: of the weight.
    ///   - base: W, float32.
    ///   - merged: W + Δ, float32.
    ///   - stored: S, float32.
    /// - Throws: `TorchError` if memory does not suffice.
    /// - Memory: three more tensors of that size.
    init(path: String, base: Tensor, merged: Tensor, stored: Tensor) throws(TorchError) {
        let update = try merged - base
        let change = try stored - base
        self.path = path
        weightSquares = try Self.sum(base, base)
        updateSquares = try Self.sum(update, update)
        products = try Self.sum(change, update)
        try change.addInPlace(update, scaledBy: -1)
        errorSquares = try Self.sum(change, change)
    }

    /// Makes figures of their sums.
    package init(
        path: String, weightSquares: Double, updateSquares: Double, products: Double,
        errorSquares: Double
    ) {
        self.path = path
        self.weightSquares = weightSquares
        self.updateSquares = updateSquares
        self.products = products
        self.errorSquares = errorSquares
    }

    private init(path: String, _ layers: [UpdateSurvival]) {
        self.path = path
        weightSquares = layers.reduce(0) { $0 + $1.weightSquares }
        updateSquares = layers.reduce(0) { $0 + $1.updateSquares }
        products = layers.reduce(0) { $0 + $1.products }
        errorSquares = layers.reduce(0) { $0 + $1.errorSquares }
    }

    /// All layers as if they were one.
    package static func total(_ layers: [UpdateSurvival], path: String) -> UpdateSurvival {
        UpdateSurvival(path: path, layers)
    }

    private static func sum(_ left: Tensor, _ right: Tensor) throws(TorchError) -> Double {
        try (left * right).sum().item()
    }

    /// The figures as JSON.
    public var json: JSONObject {
        [
            "path": .string(path),
            "relative_update": relativeUpdate.isFinite ? .double(relativeUpdate) : .null,
            "survived": .double(survived), "noise": .double(noise),
        ]
    }
}

/// What was measured while tensors were written, by path: files have an order of their own.
final class SurvivalRecord {
    private var found: [String: UpdateSurvival] = [:]

    /// Notes a layer.
    func add(_ survival: UpdateSurvival) { found[survival.path] = survival }

    /// The layers in an order of paths.
    func layers(in order: [String]) -> [UpdateSurvival] { order.compactMap { found[$0] } }
}
