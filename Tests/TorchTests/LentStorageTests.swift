import Testing
import Torch

@Suite struct LentStorageTests {
    private func bytes(_ values: [Float]) throws -> Tensor {
        try Tensor(values, shape: [values.count]).view(
            atByte: 0, shape: [4 * values.count], dtype: .uint8)
    }

    @Test func tensorsHaveElementsWhileAStorageHasMemory() throws {
        let storage = try Tensor.storage(sizeBytes: 24, of: "unit 3")
        let first = try storage.view(atByte: 0, shape: [2, 2], dtype: .float32)
        let second = try storage.view(atByte: 16, shape: [2], dtype: .float32)
        for values in [[1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1]] as [[Float]] {
            try storage.lend(bytes(values))
            #expect(try first.floats() == Array(values[..<4]))
            #expect(try (second + 1).floats() == values[4...].map { $0 + 1 })
            try storage.giveBack(of: "unit 3")
        }
        let error = #expect(throws: TorchError.self) { _ = try first + 1 }
        #expect(error?.description.contains("unit 3 is not in memory") == true, "\(error as Any)")
    }

    @Test func aStorageIsWithoutMemoryAtFirst() throws {
        let view = try Tensor.storage(sizeBytes: 4, of: "unit 0")
            .view(atByte: 0, shape: [1], dtype: .float32)
        #expect(view.shape == [1])
        let error = #expect(throws: TorchError.self) { _ = try view.clone() }
        #expect(error?.description.contains("unit 0 is not in memory") == true, "\(error as Any)")
    }

    @Test func aLentBufferLivesThoughNobodyElseHoldsIt() throws {
        let storage = try Tensor.storage(sizeBytes: 8, of: "unit")
        let view = try storage.view(atByte: 0, shape: [2], dtype: .float32)
        do { try storage.lend(bytes([7, 8])) }
        #expect(try view.floats() == [7, 8])
    }

    @Test func whatDoesNotFitIsRefused() throws {
        let storage = try Tensor.storage(sizeBytes: 8, of: "unit")
        #expect(throws: TorchError.self) { try storage.lend(bytes([1])) }
        #expect(throws: TorchError.self) {
            _ = try storage.view(atByte: 2, shape: [1], dtype: .float32)
        }
        #expect(throws: TorchError.self) {
            _ = try storage.view(atByte: 4, shape: [2], dtype: .float32)
        }
    }

    /// Who holds the tensor holds the same one; its gradient comes to it as before.
    @Test func aLeafAdoptsAStorageAndStaysWhoItIs() throws {
        let leaf = try Tensor([1, 2] as [Float], shape: [2])
        try leaf.setRequiresGrad(true)
        let identity = leaf.identity
        let storage = try Tensor.storage(sizeBytes: 8, of: "unit")
        try leaf.adopt(storage.view(atByte: 0, shape: [2], dtype: .float32))
        try storage.lend(bytes([3, 4]))
        #expect(leaf.identity == identity)
        #expect(leaf.requiresGrad)
        try (leaf * leaf).sum().backward()
        #expect(try leaf.grad?.floats() == [6, 8])
    }
}
