import CKernels
package import Torch

extension DType {
    /// The kernels' number of the dtype; nil for those that they do not compute in.
    package var kernelElementType: Int32? {
        switch self {
        case .float32: Int32(CKERNELS_FLOAT32)
        case .bfloat16: Int32(CKERNELS_BFLOAT16)
        case .float16: Int32(CKERNELS_FLOAT16)
        default: nil
        }
    }
}
