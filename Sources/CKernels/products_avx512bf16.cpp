// Kernels in products of bfloat16 numbers, AVX512-BF16.
#include "linear.h"
#include "vnni.h"

#if CKERNELS_X86

CKERNELS_AVX512_BF16_BEGIN
#include "arithmetic_bfloat16.h"
#include "linear_passes.h"
CKERNELS_TARGET_END

namespace linear {

const Passes passes_avx512_bf16 = PassesOf<arithmetic::BFloat16Pairs>::passes;

}  // namespace linear

#endif
