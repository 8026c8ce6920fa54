#include "isa.h"

int32_t ckernels_isa_is_supported(int32_t isa) {
    switch (isa) {
    case CKERNELS_ISA_PORTABLE:
        return 1;
#if CKERNELS_X86
    case CKERNELS_ISA_AVX2:
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c") && __builtin_cpu_supports("fma");
    case CKERNELS_ISA_AVX512:
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    case CKERNELS_ISA_AVX512_BF16:
        return ckernels_isa_is_supported(CKERNELS_ISA_AVX512) && __builtin_cpu_supports("avx512bf16");
#endif
    default:
        return 0;
    }
}
