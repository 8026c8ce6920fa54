package import Torch

/// Puts what another source answers on a device, tensor by tensor.
///
/// The other source reads, quantizes and casts in host memory as it does for the CPU, so that bytes and numbers are the same on every
/// device. Elements of a range stay in host memory: who asks for them fills a shard there.
package final class DeviceSource: ParameterSource {
    private let base: any ParameterSource
    private let device: Device

    /// Decorates a source.
    package init(_ base: any ParameterSource, on device: Device) {
        self.base = base
        self.device = device
    }

    /// The tensor on the device.
    public func tensor(at path: String, shape: [Int]) throws -> Tensor {
        try base.tensor(at: path, shape: shape).to(device)
    }

    /// The other source's elements, in host memory.
    public func elements(_ range: Range<Int>, at path: String, shape: [Int]) throws -> Tensor {
        try base.elements(range, at: path, shape: shape)
    }

    /// The weight on the device, in its storage.
    public func linearWeight(at path: String, shape: [Int]) throws -> any LinearWeight {
        try base.linearWeight(at: path, shape: shape).moved(to: device)
    }
}
