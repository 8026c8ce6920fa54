import CTorch

extension ProcessGroup {
    /// What moves the tensors of a group.
    ///
    /// The ranks compare their calls over Gloo with either, so errors are the same.
    package enum Backend: String, Sendable, CaseIterable {
        /// Gloo, over TCP, for tensors in host memory.
        case gloo
        /// NCCL, for tensors on NVIDIA GPUs; needs a CUDA build of libtorch and a GPU.
        case nccl

        /// What is missing for the backend here and what to do; nil if it can be used.
        package var problem: String? {
            switch self {
            case .gloo: nil
            case .nccl: Self.problem(numNCCLDevices: Int(ctorch_distributed_num_nccl_devices()))
            }
        }

        /// What is missing for NCCL.
        ///
        /// - Parameter numNCCLDevices: how many GPUs CUDA sees, or -1 if this build has no NCCL.
        /// - Returns: what is missing and what to do; nil if nothing is.
        package static func problem(numNCCLDevices: Int) -> String? {
            switch numNCCLDevices {
            case ..<0:
                """
                the backend nccl is not in this build: libtorch \(TorchRuntime.headerVersion) \
                was without lib/libtorch_cuda.so, or without nvidia/cu13/include and nvidia/nccl/include beside it; \
                build with LIBTORCH=$PWD/.libtorch-cuda after make cuda-check, or use the backend gloo
                """
            case 0:
                """
                the backend nccl needs a GPU, and CUDA finds none on this machine: check nvidia-smi and \
                CUDA_VISIBLE_DEVICES, or use the backend gloo
                """
            default: nil
            }
        }
    }
}
