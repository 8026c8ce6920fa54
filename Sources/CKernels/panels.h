// What the products of all storages with few tokens share: sums of registers, one function for each number of tokens.
#pragma once

#include "ckernels_panels.h"
#include "vnni.h"

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

namespace panels {

using vnni::bfloat16;

CKERNELS_INLINE __m128 folded(__m512 x) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// The sum of each register's lanes, for four registers, in the same order for each.
CKERNELS_INLINE __m128 sums_of_lanes(__m512 a, __m512 b, __m512 c, __m512 d) {
    return _mm_hadd_ps(_mm_hadd_ps(folded(a), folded(b)), _mm_hadd_ps(folded(c), folded(d)));
}

// Sums of rows from `begin` on: Product::multiply<Tokens>(weight, row, x, totals) adds to a register for each token.
//
// One row after the other, as they lie in memory: the processor reads ahead in one stream, and not in several short ones. What is
// ready runs out of order, so the sums of the next row do not wait for those of this one.
template <class Product, int Tokens>
void multiply_rows(
    const CKernelsPanels &weight, int64_t begin, int64_t end, const bfloat16 *x, float *sums, int64_t stride) {
    for (int64_t row = begin; row < end; row += 4) {
        __m512 totals[4][Tokens] = {};
        for (int r = 0; r < 4; r++) {
            if (row + r < end) Product::template multiply<Tokens>(weight, row + r, x, totals[r]);
        }
        for (int t = 0; t < Tokens; t++) {
            const __m128 four = sums_of_lanes(totals[0][t], totals[1][t], totals[2][t], totals[3][t]);
            _mm_mask_storeu_ps(sums + t * stride + row - begin, __mmask8(vnni::first_of_16(end - row)), four);
        }
    }
}

// CKernelsPanels.multiply, compiled for each number of tokens.
template <class Product>
void multiply(
    const CKernelsPanels *weight, int64_t begin, int64_t end, int64_t tokens, const uint16_t *x, float *sums, int64_t stride) {
    using Function = void (*)(const CKernelsPanels &, int64_t, int64_t, const bfloat16 *, float *, int64_t);
    static constexpr Function functions[CKERNELS_PANELS_MOST_TOKENS] = {
        multiply_rows<Product, 1>, multiply_rows<Product, 2>, multiply_rows<Product, 3>, multiply_rows<Product, 4>,
        multiply_rows<Product, 5>, multiply_rows<Product, 6>, multiply_rows<Product, 7>, multiply_rows<Product, 8>};
    functions[tokens - 1](*weight, begin, end, x, sums, stride);
}

}  // namespace panels

CKERNELS_VNNI_END

#endif
