// Kernels in products of float32 numbers, AVX512.
#include "linear.h"

#if CKERNELS_X86

CKERNELS_AVX512_BEGIN
#include "arithmetic_float32.h"
#include "linear_passes.h"
CKERNELS_TARGET_END

namespace linear {

const Passes passes_avx512[2] = {
    PassesOf<arithmetic::Float32<CKERNELS_ISA_AVX512, lanes::Float32>>::passes,
    PassesOf<arithmetic::Float32<CKERNELS_ISA_AVX512, lanes::BFloat16<false>>>::passes,
};

}  // namespace linear

#endif
