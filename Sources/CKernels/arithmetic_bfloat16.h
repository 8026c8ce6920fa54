// Products of bfloat16 pairs with float32 sums, of bfloat16 activations.
#pragma once

#include "arithmetic.h"
#include "vnni.h"

namespace arithmetic {

struct BFloat16Pairs {
    using Element = vnni::bfloat16;
    using Decoded = vnni::bfloat16;
    using Word = uint32_t;
    using Words = __m512i;
    using Sums = __m512;

    // A word is a pair.
    static constexpr int depth_per_word = 2;
    static constexpr bool widens = false;
    // Four rows by four columns keep 16 sums in registers and read eight operands for 16 products.
    static constexpr int tile_rows = 4, tile_columns = 4;
    // Rows of a tile of one column.
    static constexpr int narrow_tile_rows = 8;

    CKERNELS_INLINE void decode(
        const CKernelsPanels &weight, int64_t row, int64_t row_end, int64_t column, int64_t column_end, Decoded *tile,
        int64_t stride) {
        weight.decode(&weight, row, row_end, column, column_end, tile, stride);
    }

    // MARK: Words

    CKERNELS_INLINE Words zero_words() { return _mm512_setzero_si512(); }
    CKERNELS_INLINE Words load_words(const Word *p) { return _mm512_loadu_si512(p); }
    CKERNELS_INLINE void store_words(Word *p, Words x) { _mm512_storeu_si512(p, x); }
    CKERNELS_INLINE Words broadcast(const Word *p) { return _mm512_set1_epi32(*reinterpret_cast<const vnni::Pair *>(p)); }

    // Words of a row, zero from `count` numbers on.
    CKERNELS_INLINE Words load(const Element *row, int64_t count) { return vnni::load_up_to(row, count); }
    CKERNELS_INLINE Words load_decoded(const Decoded *row) { return _mm512_loadu_si512(row); }
    CKERNELS_INLINE Words load_numbers(const float *row, int64_t count) {
        return vnni::narrowed(load_floats(row, count), load_floats(row + register_lanes, count - register_lanes));
    }

    CKERNELS_INLINE void store_words_up_to(Word *p, Words x, int64_t count) {
        _mm512_mask_storeu_epi32(p, vnni::first_of_16(count), x);
    }

    // Sixteen columns of two rows, zero beyond `num_rows` and `count` columns.
    CKERNELS_INLINE Words zip(const Element *first, int64_t stride, int64_t num_rows, int64_t count) {
        const __m512i low = num_rows > 0 ? _mm512_castsi256_si512(half(first, count)) : _mm512_setzero_si512();
        const __m256i high = num_rows > 1 ? half(first + stride, count) : _mm256_setzero_si256();
        return vnni::pairs_of_halves(_mm512_inserti64x4(low, high, 1));
    }
    CKERNELS_INLINE Words zip_sums(const Sums *two) { return vnni::pairs_of_halves(vnni::narrowed(two[0], two[1])); }
    CKERNELS_INLINE Words zip_numbers(const float *first, int64_t stride, int64_t count) {
        return vnni::pairs_of_halves(vnni::narrowed(load_floats(first, count), load_floats(first + stride, count)));
    }

    // Two rows of 64 numbers, one after the other, as 64 pairs.
    CKERNELS_INLINE void interleave(Words (&words)[4]) {
        const Words a[2] = {words[0], words[1]}, b[2] = {words[2], words[3]};
        for (int i = 0; i < 2; i++) vnni::pairs_of_rows(a[i], b[i], words[2 * i], words[2 * i + 1]);
    }
    CKERNELS_INLINE void transpose(Words (&words)[16]) { vnni::transpose(words); }

    // MARK: Sums

    CKERNELS_INLINE Sums zero_sums() { return _mm512_setzero_ps(); }
    CKERNELS_INLINE Sums dot(Sums sums, Words a, Words b) { return vnni::dot(sums, a, b); }
    CKERNELS_INLINE Sums load_sums(const float *p) { return _mm512_loadu_ps(p); }
    CKERNELS_INLINE void store_sums(float *p, Sums x) { _mm512_storeu_ps(p, x); }
    CKERNELS_INLINE Sums scaled(Sums x, float factor) { return _mm512_mul_ps(x, _mm512_set1_ps(factor)); }
    CKERNELS_INLINE Sums splat(float x) { return _mm512_set1_ps(x); }
    CKERNELS_INLINE Sums multiply_add(Sums a, Sums b, Sums c) { return _mm512_fmadd_ps(a, b, c); }
    // The second where either is a NaN.
    CKERNELS_INLINE Sums max(Sums a, Sums b) { return _mm512_max_ps(a, b); }
    CKERNELS_INLINE Sums exp2(Sums x) { return vnni::exp2(x); }
    CKERNELS_INLINE void transpose_sums(Sums (&sums)[16]) {
        Words words[16];
        for (int i = 0; i < 16; i++) words[i] = _mm512_castps_si512(sums[i]);
        vnni::transpose(words);
        for (int i = 0; i < 16; i++) sums[i] = _mm512_castsi512_ps(words[i]);
    }
    CKERNELS_INLINE Sums load_elements(const Element *p, int64_t count) {
        return vnni::widened(_mm256_maskz_loadu_epi16(vnni::first_of_16(count), p));
    }
    CKERNELS_INLINE void store(Element *p, Sums x, int64_t count) {
        _mm256_mask_storeu_epi16(p, vnni::first_of_16(count), vnni::narrowed(x));
    }
    // sums + more, where a byte is not zero.
    CKERNELS_INLINE Sums add_where(const uint8_t *bytes, int64_t count, Sums sums, Sums more) {
        const __m128i kept = _mm_maskz_loadu_epi8(vnni::first_of_16(count), bytes);
        return _mm512_mask_add_ps(sums, _mm_test_epi8_mask(kept, kept), sums, more);
    }

private:
    CKERNELS_INLINE __m512 load_floats(const float *p, int64_t count) {
        return _mm512_maskz_loadu_ps(vnni::first_of_16(count), p);
    }
    CKERNELS_INLINE __m256i half(const Element *p, int64_t count) {
        return _mm256_maskz_loadu_epi16(vnni::first_of_16(count), p);
    }
};

}  // namespace arithmetic
