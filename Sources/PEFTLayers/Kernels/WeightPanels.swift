package import CKernels
package import Torch

/// A weight as the kernels of products read it: a decoder of its tiles, whatever the storage.
///
/// For one product, and alive no longer than the storage's memory stays where it is.
public struct WeightPanels {
    package let source: CKernelsPanels
    private let owners: [Tensor]

    /// Describes a storage.
    ///
    /// - Parameters:
    ///   - owners: contiguous tensors that hold it, kept alive.
    ///   - makeSource: gets their addresses in order; nil for all in a dry run, which decodes nothing.
    package init(
        owners: [Tensor], _ makeSource: (_ addresses: [UnsafeMutableRawPointer?]) -> CKernelsPanels
    ) {
        self.owners = owners
        source =
            DryRun.isOn
            ? makeSource(owners.map { _ in nil })
            : Tensor.withAddresses(of: owners, makeSource)
    }
}
