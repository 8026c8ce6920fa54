import PEFTLayers
import TestSupport
import Testing
import Torch

@Suite struct SharedPrefixesTests {
    private static let prompt = (0..<20).map { Int32($0) }

    private func make(
        _ rows: [[Int32]], areAlike: (Int, Int) -> Bool = { _, _ in true }
    ) -> SharedPrefixes? {
        SharedPrefixes(
            tokens: rows.flatMap { $0 }, rowLengths: rows.map(\.count), areAlike: areAlike)
    }

    @Test func commonBeginningsAreComputedOnce() throws {
        let rows: [[Int32]] = [
            Self.prompt + [30, 31], [5], Self.prompt + [40], Self.prompt + [30, 50, 51],
        ]
        let shared = try #require(make(rows))
        #expect(shared.layout.segmentLengths == [22, 1, 1, 2])
        #expect(shared.kept(of: rows.flatMap { $0 }) == Self.prompt + [30, 31, 5, 40, 50, 51])
        #expect(shared.layout.positions == (0..<22).map(Int64.init) + [0, 20, 21, 22])
        let states = try Tensor((0..<26).map(Float.init), shape: [26, 1])
        let prompt = (0..<20).map(Float.init)
        #expect(
            try shared.inRows(states).floats()
                == prompt + [20, 21, 22] + prompt + [23] + prompt + [20, 24, 25])
    }

    @Test func gradientsOfASharedTokenAddUp() throws {
        let shared = try #require(make([Self.prompt + [1], Self.prompt + [2], Self.prompt + [3]]))
        let states = try Tensor.ones([23, 2], dtype: .bfloat16)
        try states.setRequiresGrad(true)
        try shared.inRows(states).sum().backward()
        let gradient = try #require(states.grad)
        #expect(gradient.dtype == .bfloat16)
        let expected = Array(repeating: Float(3), count: 40) + Array(repeating: Float(1), count: 6)
        #expect(try gradient.to(.float32).floats() == expected)
    }

    @Test func everyRowKeepsATokenOfItsOwn() throws {
        let shared = try #require(make([Self.prompt + [1], Self.prompt + [1], Self.prompt]))
        #expect(shared.layout.segmentLengths == [21, 1, 1])
        #expect(shared.layout.positions.suffix(2) == [20, 19])
    }

    @Test func nothingIsSharedWhereNothingCanBe() {
        #expect(make([Self.prompt]) == nil)
        #expect(make([[1, 2], [3, 4]]) == nil)
        let short = Array(Self.prompt.prefix(SharedPrefixes.shortest - 1))
        #expect(make([short + [30], short + [31]]) == nil)
        #expect(make([Self.prompt + [1], Self.prompt + [2, 3]]) { $0 == $1 } == nil)
    }
}
