// Kernels in products of bfloat16 numbers, AVX512-BF16.
#include "cross_entropy.h"
#include "linear.h"
#include "vnni.h"

#if CKERNELS_X86

CKERNELS_AVX512_BF16_BEGIN
#include "arithmetic_bfloat16.h"
#include "cross_entropy_group.h"
#include "linear_passes.h"
CKERNELS_TARGET_END

const linear::Passes linear::passes_avx512_bf16 = PassesOf<arithmetic::BFloat16Pairs>::passes;
const cross_entropy::Kernel cross_entropy::kernel_avx512_bf16 = KernelOf<arithmetic::BFloat16Pairs>::kernel;

#endif
