package import CKernels
import Torch

extension CKernelsThreads {
    /// The threads of libtorch's operations, as many as it may use now.
    package static var libtorch: CKernelsThreads {
        CKernelsThreads(
            count: Int32(TorchRuntime.numThreads), run: TorchRuntime.runInParallel)
    }
}
