import CKernels

/// The processor features that a kernel is compiled for; those without products give the same bits on all.
package enum InstructionSet: Int32, CaseIterable, Sendable {
    case portable
    case avx2
    case avx512
    /// The same, with products of bfloat16 numbers.
    case avx512bf16

    /// Whether this processor and operating system run it.
    package var isSupported: Bool { ckernels_isa_is_supported(rawValue) == 1 }

    /// The fastest one that this machine runs.
    package static let best = allCases.last { $0.isSupported } ?? .portable
}
