// Instruction sets: how a kernel is compiled for one, without compiler flags.
#pragma once

#include "CKernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define CKERNELS_X86 1
#define CKERNELS_TARGET_AVX2 __attribute__((target("avx2,f16c")))
#define CKERNELS_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define CKERNELS_TARGET_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

// All functions up to CKERNELS_TARGET_END are compiled for a set, with fused products. Nothing is included in between that defines
// functions for others too.
#define CKERNELS_AVX2_BEGIN \
    _Pragma("clang attribute push(__attribute__((target(\"avx2,f16c,fma\"))), apply_to = function)")
#define CKERNELS_AVX512_BEGIN \
    _Pragma("clang attribute push(__attribute__((target(\"avx512f,avx512bw,avx512dq,avx512vl,fma\"))), apply_to = function)")
#define CKERNELS_AVX512_BF16_BEGIN \
    _Pragma("clang attribute push(__attribute__((target(\"avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma\"))), apply_to = function)")
#define CKERNELS_TARGET_END _Pragma("clang attribute pop")
#else
#define CKERNELS_X86 0
#endif

// Bodies that every instruction set shares are inlined into a function with that set's target attribute, and vectorized
// there by the compiler.
#define CKERNELS_INLINE static inline __attribute__((always_inline))
