import Torch

/// What a process holds besides tensors.
enum ProcessMemory {
    /// Bytes of libtorch's kernels once a step has run.
    ///
    /// Pages of the library, what oneDNN compiles, the stacks and scratch of threads: what runs took beyond their dry runs, 50 to
    /// 110 MB on one thread or several (docs/decisions/0010).
    private static let kernelBytes = 75_000_000

    /// Predicts it from what the process holds before it computes anything: code, tokenizer and rows.
    static func predicted(residentBytes: Int) -> Int { residentBytes + kernelBytes }
}
