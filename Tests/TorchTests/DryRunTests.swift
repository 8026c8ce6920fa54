import Testing
import Torch

@Suite struct DryRunTests {
    private static let kilobyte = 256  // elements of float32

    @Test func whatIsAliveAtOnceIsCounted() throws {
        let peak = try DryRun.peak {
            let first = try Tensor.zeros([Self.kilobyte])
            for _ in 0..<3 { _ = try first + first }  // one result at a time
            _ = try (first + 1).reshape([16, 16]).transposed()  // views take nothing
        }
        #expect(peak[.activations] == 2 * 1024)
        #expect(peak[.base] == 0)
    }

    /// The numbers are those of the moment when most was alive, not of each part's own.
    @Test func partsAreCountedAtThePeak() throws {
        let peak = try DryRun.peak {
            let base = try DryRun.part(.base) { try Tensor.zeros([Self.kilobyte]) }
            do {
                let wide = try DryRun.part(.loss) { () throws(TorchError) in
                    let result = try Tensor.empty([4 * Self.kilobyte])
                    return try DryRun.part(.gathered) { () throws(TorchError) in
                        [result, try Tensor.empty([Self.kilobyte])]
                    }
                }
                #expect(wide[0].shape == [4 * Self.kilobyte])
            }
            let later = try Tensor.empty([3 * Self.kilobyte])
            withExtendedLifetime((base, later)) {}
        }
        #expect(
            peak == [
                .activations: 0, .base: 1024, .adapter: 0, .optimizer: 0, .gathered: 1024,
                .loss: 4096,
            ])
    }

    /// Backward keeps what forward saved and adds the gradients, as with elements.
    @Test func backwardIsCounted() throws {
        let peak = try DryRun.peak {
            let weight = try DryRun.part(.adapter) { try Tensor.empty([16, 16]) }
            try weight.setRequiresGrad(true)
            // The input stays for the weight's gradient, the output for its own.
            let hidden = try Tensor.empty([64, 16]).linear(weight)
            let loss = try hidden.power(2).sum()
            try loss.backward()
            #expect(weight.grad?.shape == [16, 16])
        }
        #expect(peak[.adapter] == 1024)
        #expect((peak[.activations] ?? 0) >= 3 * 4096)
    }

    @Test func aDryRunHasNothingToRead() throws {
        #expect(throws: TorchError.self) {
            _ = try DryRun.peak { _ = try Tensor([1, 2] as [Float], shape: [2]).sum().item() }
        }
        #expect(!DryRun.isOn)
        #expect(try Tensor([1, 2] as [Float], shape: [2]).sum().item() == 3)
    }

    /// What outlives its dry run is not taken off the next one.
    @Test func runsAreCountedApart() throws {
        var kept: Tensor?
        _ = try DryRun.peak { kept = try Tensor.zeros([Self.kilobyte]) }
        let peak = try DryRun.peak {
            kept = nil
            _ = try Tensor.zeros([Self.kilobyte])
        }
        #expect(kept == nil)
        #expect(peak[.activations] == 1024)
    }

    /// Calls of a dry run return at once and count what a ring sends.
    @Test func trafficIsCounted() throws {
        let group = ProcessGroup(dryRunOf: 1, of: 4)
        _ = try DryRun.peak {
            let part = try Tensor.empty([Self.kilobyte])
            let whole = try Tensor.empty([4 * Self.kilobyte])
            try group.allGather(part, into: whole)
            #expect(group.traffic.sentBytes == 3 * 1024)
            try group.reduceScatter(whole, into: part)
            #expect(group.traffic.sentBytes == 6 * 1024)
            try group.subgroup(of: [1, 3], named: "pair").allReduce(part)
            #expect(group.traffic.sentBytes == 7 * 1024)
            try group.broadcast(part, from: 0)
            #expect(group.traffic.sentBytes == 7 * 1024)
        }
    }
}
