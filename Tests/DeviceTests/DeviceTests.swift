import CSimulatedDevice
import PEFTLayers
import TestSupport
import Testing
import Torch

/// The simulated device; known to libtorch from the first use on.
enum Simulated {
    static let device: Device = {
        simulated_device_register()
        return .privateUse
    }()
}

@Suite struct DeviceTests {
    @Test func namesAreLibtorchs() {
        #expect(Device.cpu.description == "cpu")
        #expect(Device.cuda(3).description == "cuda:3")
        #expect(Simulated.device.description == "simulated:0")
    }

    @Test func copiesGoThereAndBack() throws {
        let values = try Tensor([1, -2, 3.5, 4] as [Float], shape: [2, 2])
        let moved = try values.to(Simulated.device)
        #expect(moved.device == Simulated.device)
        #expect(moved.summary == "float32[2, 2] on simulated:0")
        #expect(try moved.to(.cpu).device == .cpu)
        #expect(try moved.floats() == [1, -2, 3.5, 4])
        #expect(try moved.transposed().floats() == [1, 3.5, -2, 4])
        #expect(try (moved * 2).to(.int64).int64s() == [2, -4, 7, 8])
        #expect(try moved.sum().item() == 6.5)
        #expect(try moved.to(Simulated.device) === moved)
    }

    @Test func tensorsAreMadeThere() throws {
        let before = simulated_device_live_bytes()
        let zeros = try Tensor.zeros([3, 2], dtype: .bfloat16, on: Simulated.device)
        #expect(zeros.device == Simulated.device)
        #expect(try zeros.floats() == [0, 0, 0, 0, 0, 0])
        #expect(try Tensor.full([2], 1.5, on: Simulated.device).floats() == [1.5, 1.5])
        #expect(simulated_device_live_bytes() == before + 12)
    }

    @Test func devicesAreNotMixed() throws {
        let (left, right) = (try Tensor.ones([2]), try Tensor.ones([2], on: Simulated.device))
        let error = #expect(throws: TorchError.self) { try left + right }
        #expect(
            error?.description.hasPrefix("add(float32[2], float32[2] on simulated:0): Expected all")
                == true)
    }

    @Test func bytesOfADeviceAreNotReadByAccident() async {
        await #expect(processExitsWith: .failure) {
            _ = try Tensor.ones([2], on: Simulated.device).withUnsafeBytes { $0.count }
        }
    }

    /// Forward and backward of one linear layer.
    @Test func aLinearLayerDifferentiatesThere() throws {
        let generator = try Generator(seed: 1)
        let (input, weight) = (
            try Tensor.normal([5, 8], generator: generator),
            try Tensor.normal([6, 8], generator: generator)
        )
        func gradients(on device: Device) throws -> (output: [Float], gradients: [[Float]]) {
            let leaves = try [input, weight].map { try $0.clone().to(device) }
            for leaf in leaves { try leaf.setRequiresGrad(true) }
            let output = try leaves[0].linear(leaves[1]).silu()
            try (output * output).sum().backward()
            return (try output.detach().floats(), try leaves.map { try #require($0.grad).floats() })
        }
        let (host, there) = (try gradients(on: .cpu), try gradients(on: Simulated.device))
        #expect(Tolerance.relativeError(there.output, host.output) < Tolerance.float32)
        for (found, expected) in zip(there.gradients, host.gradients) {
            #expect(Tolerance.relativeError(found, expected) < Tolerance.float32)
        }
    }
}
