import Testing
import Torch

@Suite struct TensorTests {
    @Test func valuesComeBackAsTheyWentIn() throws {
        let tensor = try Tensor([1, 2, 3, 4, 5, 6] as [Float], shape: [2, 3])
        #expect(tensor.shape == [2, 3])
        #expect(tensor.dtype == .float32)
        #expect(tensor.sizeBytes == 24)
        #expect(try tensor.floats() == [1, 2, 3, 4, 5, 6])
        #expect(try tensor.transposed().floats() == [1, 4, 2, 5, 3, 6])
        #expect(try Tensor([1, -2] as [Int64], shape: [2]).int64s() == [1, -2])
    }

    @Test func scalarHasEmptyShape() throws {
        let scalar = try Tensor.full([], 2.5)
        #expect(scalar.shape.isEmpty)
        #expect(try scalar.item() == 2.5)
    }

    @Test func countThatDoesNotFillTheShapeIsRefused() {
        #expect(throws: TorchError.self) {
            _ = try Tensor([1, 2, 3] as [Float], shape: [2, 2])
        }
    }

    @Test func errorNamesOperationAndOperands() throws {
        let left = try Tensor.zeros([2, 3])
        let right = try Tensor.zeros([4, 5], dtype: .bfloat16)
        let error = #expect(throws: TorchError.self) { _ = try left.matmul(right) }
        #expect(error?.operation == "matmul")
        #expect(error?.operands == ["float32[2, 3]", "bfloat16[4, 5]"])
        #expect(error?.message.isEmpty == false)
    }

    @Test(arguments: DType.allCases)
    func dtypeIsKeptWithItsSize(dtype: DType) throws {
        let tensor = try Tensor.ones([3, 5], dtype: dtype)
        #expect(tensor.dtype == dtype)
        #expect(tensor.sizeBytes == 15 * dtype.sizeBytes)
        #expect(try tensor.to(.float32).floats() == Array(repeating: 1, count: 15))
        #expect(DType(name: dtype.name) == dtype)
    }

    @Test func wrappedMemoryIsSharedAndItsOwnerReleasedOnce() throws {
        final class Owner {
            let memory = UnsafeMutablePointer<Float>.allocate(capacity: 4)
            let onRelease: () -> Void
            init(_ onRelease: @escaping () -> Void) {
                self.onRelease = onRelease
                memory.initialize(repeating: 3, count: 4)
            }
            deinit {
                memory.deallocate()
                onRelease()
            }
        }
        var numReleases = 0
        do {
            let owner = Owner { numReleases += 1 }
            let tensor = try Tensor.wrapping(
                owner.memory, shape: [2, 2], dtype: .float32, keeping: owner)
            let view = try tensor.select(0, 1)
            #expect(try view.floats() == [3, 3])
            owner.memory[3] = 7
            #expect(try view.floats() == [3, 7])
            #expect(numReleases == 0)
        }
        #expect(numReleases == 1)
    }

    @Test func ownerIsReleasedWhenWrappingFails() {
        final class Owner {
            let onRelease: () -> Void
            init(_ onRelease: @escaping () -> Void) { self.onRelease = onRelease }
            deinit { onRelease() }
        }
        var numReleases = 0
        var byte: UInt8 = 0
        withUnsafePointer(to: &byte) { pointer in
            _ = #expect(throws: TorchError.self) {
                _ = try Tensor.wrapping(
                    pointer, shape: [-1], dtype: .uint8, keeping: Owner { numReleases += 1 })
            }
        }
        #expect(numReleases == 1)
    }

    @Test func reductionsAndChecks() throws {
        let tensor = try Tensor([3, -4, 0, 12] as [Float], shape: [2, 2])
        #expect(try tensor.sum().item() == 11)
        #expect(try tensor.mean([1]).floats() == [-0.5, 6])
        #expect(try tensor.norm().item() == 13)
        #expect(try tensor.argmax(1).int64s() == [0, 1])
        #expect(try tensor.allFinite())
        #expect(try !(tensor * Double.infinity).allFinite())
        #expect(try tensor.isEqual(to: tensor.clone()))
    }

    @Test func sortIsStableAndGivesOldPositions() throws {
        let tensor = try Tensor([1, 3, 2, 3] as [Float], shape: [4])
        let (values, indices) = try tensor.sorted(descending: true)
        #expect(try values.floats() == [3, 3, 2, 1])
        #expect(try indices.int64s() == [1, 3, 2, 0])
    }
}

@Suite struct GeneratorTests {
    @Test func equalSeedsGiveEqualNumbers() throws {
        let first = try Tensor.normal([7], generator: Generator(seed: 5)).floats()
        let second = try Tensor.normal([7], generator: Generator(seed: 5)).floats()
        let other = try Tensor.normal([7], generator: Generator(seed: 6)).floats()
        #expect(first == second)
        #expect(first != other)
    }

    @Test func generatorsDoNotDisturbEachOther() throws {
        let one = try Generator(seed: 1)
        let expected = try Tensor.uniform([4], generator: Generator(seed: 1)).floats()
        let start = try Tensor.uniform([2], generator: one).floats()
        _ = try Tensor.uniform([9], generator: Generator(seed: 2))
        let rest = try Tensor.uniform([2], generator: one).floats()
        #expect(start + rest == expected)
    }

    @Test func multinomialFollowsTheProbabilities() throws {
        let generator = try Generator(seed: 3)
        let weights = try Tensor([0, 1, 3] as [Float], shape: [3])
        var counts = [0, 0, 0]
        for _ in 0..<2000 { counts[try weights.multinomial(generator: generator)] += 1 }
        #expect(counts[0] == 0)
        #expect((1350...1650).contains(counts[2]))
    }
}

@Suite struct TorchRuntimeTests {
    @Test func headersAndLibraryAgree() throws {
        // What `make` pins, and what `make cuda-check` builds with.
        #expect(["2.13.0", "2.15.0"].contains(TorchRuntime.headerVersion))
        #expect(TorchRuntime.libraryVersion == TorchRuntime.headerVersion)
        try TorchRuntime.checkVersion()
    }

    @Test func otherLibraryIsRefused() {
        let error = #expect(throws: TorchError.self) {
            try TorchRuntime.checkVersion(header: "2.13.0", library: "2.15.0")
        }
        #expect(
            error?.message
                == "built with the headers of 2.13.0, but the library loaded is 2.15.0; rebuild "
                + "against the library that is installed, or load 2.13.0")
    }

    @Test func memoryIsAccounted() throws {
        let before = MemoryStatistics.current()
        let tensor = try Tensor.ones([16 << 20])
        let after = MemoryStatistics.current()
        #expect(after.residentBytes - before.residentBytes > 50 << 20)
        #expect(after.peakResidentBytes >= after.residentBytes)
        #expect(tensor.numElements == 16 << 20)
    }
}
