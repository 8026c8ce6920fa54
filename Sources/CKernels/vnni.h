// Products of bfloat16 pairs with AVX512-BF16: lanes, layouts and the micro-kernel that all products share.
//
// "Pairs" are two adjacent bfloat16 numbers of the depth in one 32-bit lane, the layout that vdpbf16ps multiplies. One operand is
// read as it lies (rows, two numbers broadcast at a time), the other is packed: for each pair of the depth, columns of 16 lanes.
//
// Functions between CKERNELS_VNNI_BEGIN and CKERNELS_VNNI_END are compiled for these instructions, without compiler flags; call them
// only where CKERNELS_ISA_AVX512_BF16 is supported.
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa.h"

#if CKERNELS_X86

#define CKERNELS_VNNI_BEGIN CKERNELS_AVX512_BF16_BEGIN
#define CKERNELS_VNNI_END CKERNELS_TARGET_END

CKERNELS_VNNI_BEGIN

namespace vnni {

using bfloat16 = uint16_t;

inline constexpr float log2_e = 1.4426950408889634f;
inline constexpr float ln_2 = 0.6931471805599453f;

// Lanes of a register.
inline constexpr int lanes = 16;

// sum[l] += a[2l] b[2l] + a[2l+1] b[2l+1]. Subnormal numbers count as zero.
CKERNELS_INLINE __m512 dot(__m512 sum, __m512i a, __m512i b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

// Rounds to nearest, ties to even: `low` into numbers 0...15, `high` into 16...31.
CKERNELS_INLINE __m512i narrowed(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

CKERNELS_INLINE __m256i narrowed(__m512 x) { return (__m256i)_mm512_cvtneps_pbh(x); }

CKERNELS_INLINE __m512 widened(__m256i x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

// A mask of the first `count` of 32 numbers, or of 16 lanes; count may be beyond either end.
CKERNELS_INLINE __mmask32 first_of_32(int64_t count) {
    return count <= 0 ? 0 : count >= 32 ? ~uint32_t(0) : (uint32_t(1) << count) - 1;
}

CKERNELS_INLINE __mmask16 first_of_16(int64_t count) {
    return count <= 0 ? 0 : count >= 16 ? 0xffff : (uint32_t(1) << count) - 1;
}

// The numbers at p, zero from `count` on; nothing beyond is read.
CKERNELS_INLINE __m512i load_up_to(const bfloat16 *p, int64_t count) {
    return _mm512_maskz_loadu_epi16(first_of_32(count), p);
}

// 2^t, relative error 4e-6, for t up to 127; below -126 it is 2^-126, about 1e-38. A NaN stays one.
//
// Polynomial of degree 4 on [-1/2, 1/2]. In _mm512_max_ps the second operand is returned where either is a NaN.
CKERNELS_INLINE __m512 exp2(__m512 t) {
    const __m512 magic = _mm512_set1_ps(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    t = _mm512_max_ps(_mm512_set1_ps(-126.0f), t);
    const __m512 shifted = _mm512_add_ps(t, magic);
    const __m512 r = _mm512_sub_ps(t, _mm512_sub_ps(shifted, magic));
    __m512 p = _mm512_set1_ps(0.009618129107628477f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.05550410866482158f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.2402265069591007f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.6931471805599453f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}

// Transposes 16 x 16 elements of 32 bits.
CKERNELS_INLINE void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

// Pairs of two rows of 32 numbers: (a[0], b[0]), (a[1], b[1]), ...; `low` has the first 16 of them, `high` the others.
CKERNELS_INLINE void pairs_of_rows(__m512i a, __m512i b, __m512i &low, __m512i &high) {
    const __m512i first = _mm512_set_epi16(
        47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    low = _mm512_permutex2var_epi16(a, first, b);
    high = _mm512_permutex2var_epi16(a, _mm512_add_epi16(first, _mm512_set1_epi16(16)), b);
}

// Pairs of the two halves of a register: (x[0], x[16]), (x[1], x[17]), ...
CKERNELS_INLINE __m512i pairs_of_halves(__m512i x) {
    const __m512i order = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, x);
}

// Two bfloat16 numbers read as one, wherever they lie.
using Pair __attribute__((aligned(2), may_alias)) = int32_t;

// sums[r][c] += rows[r] packed[c], over `depth` pairs.
//
// rows: pairs, `stride` (in pairs) from one row to the next; packed: for each pair of the depth, Columns registers. Four rows by
// four columns keep 16 sums in registers and read eight operands for 16 products, which is where the processor's limit is.
template <int Rows, int Columns>
CKERNELS_INLINE void multiply(
    const uint32_t *rows, ptrdiff_t stride, const uint32_t *packed, int64_t depth, __m512 (&sums)[Rows][Columns]) {
#pragma clang loop unroll(disable)
    for (int64_t k = 0; k < depth; k++) {
        __m512i b[Columns];
        for (int c = 0; c < Columns; c++) b[c] = _mm512_loadu_si512(packed + (k * Columns + c) * lanes);
        for (int r = 0; r < Rows; r++) {
            const __m512i a = _mm512_set1_epi32(reinterpret_cast<const Pair *>(rows)[r * stride + k]);
            for (int c = 0; c < Columns; c++) sums[r][c] = dot(sums[r][c], a, b[c]);
        }
    }
}

}  // namespace vnni

CKERNELS_VNNI_END

#endif
