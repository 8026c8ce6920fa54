import PEFTLayers
import Testing
import Torch

@Suite struct KeyValueCacheTests {
    @Test(arguments: [
        [1], [64, 1], [63, 1, 1], [100, 1, 1], [1, 130], Array(repeating: 1, count: 150),
    ])
    func returnsEverythingAppendedSoFar(counts: [Int]) throws {
        let cache = KeyValueCache()
        let total = counts.reduce(0, +)
        let keys = try Tensor.random([total, 2, 3], seed: 1)
        let values = try Tensor.random([total, 2, 3], seed: 2)
        var start = 0
        for count in counts {
            let all = try cache.append(
                layer: 0, keys: keys.narrow(0, start, count), values: values.narrow(0, start, count)
            )
            start += count
            #expect(cache.numTokens == start)
            #expect(try all.keys.isEqual(to: keys.narrow(0, 0, start)))
            #expect(try all.values.isEqual(to: values.narrow(0, 0, start)))
        }
    }

    @Test func layersHaveTheirOwnTensors() throws {
        let cache = KeyValueCache()
        for step in 0..<3 {
            for layer in 0..<2 {
                let value = Double(10 * layer + step)
                let all = try cache.append(
                    layer: layer, keys: .full([1, 1, 2], value), values: .full([1, 1, 2], -value))
                #expect(try all.keys.select(2, 0).floats().last == Float(value))
                #expect(all.keys.shape == [step + 1, 1, 2])
            }
        }
        #expect(cache.numTokens == 3)
        #expect(KeyValueCache().numTokens == 0)
    }

    @Test func dtypeIsThatOfTheFirst() throws {
        let cache = KeyValueCache()
        let states = try Tensor.ones([70, 1, 2], dtype: .bfloat16)
        #expect(try cache.append(layer: 0, keys: states, values: states).keys.dtype == .bfloat16)
    }

    @Test func holdsNoGraph() throws {
        let states = try Tensor.random([3, 1, 2], seed: 3)
        try states.setRequiresGrad(true)
        let all = try KeyValueCache().append(
            layer: 0, keys: states * 2, values: states * 3)
        #expect(!all.keys.requiresGrad)
        #expect(!all.values.requiresGrad)
    }

    @Test(arguments: [[1, 3, 4], [1, 2, 1], [1, 1, 4]])
    func shapeThatChangesIsAnErrorAndAddsNothing(shape: [Int]) throws {
        let cache = KeyValueCache()
        let first = try Tensor.ones([2, 2, 4])
        _ = try cache.append(layer: 0, keys: first, values: first)
        let error = #expect(throws: TorchError.self) {
            _ = try cache.append(layer: 0, keys: .ones(shape), values: .ones(shape))
        }
        #expect(error?.operands.contains("float32\(shape)") == true)
        #expect(cache.numTokens == 2)
        #expect(try cache.append(layer: 0, keys: first, values: first).keys.shape == [4, 2, 4])
    }
}
