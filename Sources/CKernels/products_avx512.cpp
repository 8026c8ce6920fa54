// Kernels in products of float32 numbers, AVX512.
#include "cross_entropy.h"
#include "linear.h"

#if CKERNELS_X86

CKERNELS_AVX512_BEGIN
#include "arithmetic_float32.h"
#include "cross_entropy_group.h"
#include "linear_passes.h"
CKERNELS_TARGET_END

namespace {

using FromFloat32 = arithmetic::Float32<CKERNELS_ISA_AVX512, lanes::Float32>;
using FromBFloat16 = arithmetic::Float32<CKERNELS_ISA_AVX512, lanes::BFloat16<false>>;

}  // namespace

const linear::Passes linear::passes_avx512[2] = {PassesOf<FromFloat32>::passes, PassesOf<FromBFloat16>::passes};
const cross_entropy::Kernel cross_entropy::kernel_avx512 = KernelOf<FromBFloat16>::kernel;

#endif
