import Testing
import Torch

@Suite struct LinearAlgebraTests {
    private static let shapes = [[5, 3], [3, 5], [4, 4], [1, 7]]

    @Test(arguments: shapes) func qrFactorsAMatrix(shape: [Int]) throws {
        let matrix = try Tensor.normal(shape, generator: try Generator(seed: 1))
        let (q, r) = try matrix.qr()
        let smaller = shape.min() ?? 0
        #expect(q.shape == [shape[0], smaller] && r.shape == [smaller, shape[1]])
        try expectEqual(try q.matmul(r), matrix)
        try expectIdentity(try q.transposed().matmul(q))
        let upper = try r.floats()
        for row in 0..<smaller {
            for column in 0..<row { #expect(upper[row * shape[1] + column] == 0) }
        }
    }

    @Test(arguments: shapes) func svdFactorsAMatrix(shape: [Int]) throws {
        let matrix = try Tensor.normal(shape, generator: try Generator(seed: 2))
        let (u, s, vt) = try matrix.svd()
        let smaller = shape.min() ?? 0
        #expect(u.shape == [shape[0], smaller] && vt.shape == [smaller, shape[1]])
        try expectEqual(try (u * s).matmul(vt), matrix)
        try expectIdentity(try u.transposed().matmul(u))
        try expectIdentity(try vt.matmul(vt.transposed()))
        let values = try s.floats()
        #expect(values == values.sorted(by: >) && (values.last ?? -1) >= 0)
    }

    @Test func factorsOfWhatIsNoMatrixAreRefused() throws {
        let vector = try Tensor.ones([3])
        #expect(throws: TorchError.self) { _ = try vector.qr() }
        #expect(throws: TorchError.self) { _ = try vector.svd() }
        let infinite = try Tensor.full([3, 3], .nan)
        #expect(throws: TorchError.self) { _ = try infinite.svd() }
    }

    private func expectEqual(_ found: Tensor, _ expected: Tensor) throws {
        #expect(found.shape == expected.shape)
        for (found, expected) in zip(try found.floats(), try expected.floats()) {
            #expect(abs(found - expected) < 1e-5)
        }
    }

    private func expectIdentity(_ square: Tensor) throws {
        let size = square.shape[0]
        for (index, value) in try square.floats().enumerated() {
            #expect(abs(value - (index % (size + 1) == 0 ? 1 : 0)) < 1e-5)
        }
    }
}
