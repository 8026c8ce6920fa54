// Products of float32 numbers, of bfloat16 or float32 activations, in the registers of any instruction set with fused products.
#pragma once

#include "lanes.h"
#include "arithmetic.h"

namespace arithmetic {

// Activation: lanes::Float32 or lanes::BFloat16, how they are stored.
template <int32_t isa, class Activation> struct Float32 {
    using Element = typename Activation::Storage;
    using Decoded = float;
    using Word = float;
    using Words = lanes::Floats;
    using Sums = lanes::Floats;

    static constexpr int depth_per_word = 1;
    // float32 rows too are copied a block at a time: where they lie, those of a tile may be in the same lines of the cache.
    static constexpr bool widens = true;
    // Six rows by 64 columns are 24 of AVX512's 32 registers, by 16 columns 12 of the 16 of AVX2.
    static constexpr int tile_rows = 6, tile_columns = isa == CKERNELS_ISA_AVX2 ? 1 : 4;
    static constexpr int narrow_tile_rows = isa == CKERNELS_ISA_AVX2 ? 6 : 12;

    CKERNELS_INLINE void decode(
        const CKernelsPanels &weight, int64_t row, int64_t row_end, int64_t column, int64_t column_end, float *tile,
        int64_t stride) {
        weight.decode_float32(isa, &weight, row, row_end, column, column_end, tile, stride);
    }

    // MARK: Words

    CKERNELS_INLINE Words zero_words() { return Words{}; }
    CKERNELS_INLINE Words load_words(const float *p) { return lanes::load<lanes::Float32>(p, lanes::Whole{}); }
    CKERNELS_INLINE void store_words(float *p, Words x) { lanes::store<lanes::Float32>(p, x, lanes::Whole{}); }
    CKERNELS_INLINE Words broadcast(const float *p) { return splat(*p); }

    // A row's numbers, zero from `count` on.
    CKERNELS_INLINE Words load(const Element *row, int64_t count) { return load_up_to<Activation>(row, count); }
    CKERNELS_INLINE Words load_decoded(const float *row) { return load_words(row); }
    CKERNELS_INLINE Words load_numbers(const float *row, int64_t count) { return load_up_to<lanes::Float32>(row, count); }

    CKERNELS_INLINE void store_words_up_to(float *p, Words x, int64_t count) {
        if (count >= lanes::count) return store_words(p, x);
        lanes::store<lanes::Float32>(p, x, lanes::Part{count});
    }

    // Sixteen columns of a row, zero from `count` on, or if there is no row.
    CKERNELS_INLINE Words zip(const Element *row, int64_t, int64_t num_rows, int64_t count) {
        return num_rows > 0 ? load(row, count) : zero_words();
    }
    CKERNELS_INLINE Words zip_sums(const Sums *one) { return *one; }
    CKERNELS_INLINE Words zip_numbers(const float *row, int64_t, int64_t count) { return load_numbers(row, count); }

    CKERNELS_INLINE void interleave(Words (&)[4]) {}
    CKERNELS_INLINE void transpose(Words (&words)[16]) { lanes::transpose(words); }

    // MARK: Sums

    CKERNELS_INLINE Sums zero_sums() { return Sums{}; }
    CKERNELS_INLINE Sums dot(Sums sums, Words a, Words b) { return __builtin_elementwise_fma(a, b, sums); }
    CKERNELS_INLINE Sums load_sums(const float *p) { return load_words(p); }
    CKERNELS_INLINE void store_sums(float *p, Sums x) { store_words(p, x); }
    CKERNELS_INLINE Sums scaled(Sums x, float factor) { return x * factor; }
    CKERNELS_INLINE Sums splat(float x) { return Sums{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
    CKERNELS_INLINE Sums multiply_add(Sums a, Sums b, Sums c) { return __builtin_elementwise_fma(a, b, c); }
    // The second where either is a NaN.
    CKERNELS_INLINE Sums max(Sums a, Sums b) { return a > b ? a : b; }
    CKERNELS_INLINE Sums exp2(Sums x) { return lanes::exp2(x); }
    CKERNELS_INLINE void transpose_sums(Sums (&sums)[16]) { lanes::transpose(sums); }
    CKERNELS_INLINE Sums load_elements(const Element *p, int64_t count) { return load(p, count); }
    CKERNELS_INLINE void store(Element *p, Sums x, int64_t count) {
        if (count >= lanes::count) return lanes::store<Activation>(p, x, lanes::Whole{});
        lanes::store<Activation>(p, x, lanes::Part{count});
    }
    // sums + more, where a byte is not zero.
    CKERNELS_INLINE Sums add_where(const uint8_t *bytes, int64_t count, Sums sums, Sums more) {
        Bytes kept = {};
        if (count >= lanes::count) {
            std::memcpy(&kept, bytes, sizeof kept);
        } else {
            for (int64_t i = 0; i < count; i++) kept[i] = bytes[i];
        }
        return __builtin_convertvector(kept, lanes::Words) != 0 ? sums + more : sums;
    }

private:
    using Bytes = uint8_t __attribute__((vector_size(16)));

    template <class Type> CKERNELS_INLINE Words load_up_to(const typename Type::Storage *p, int64_t count) {
        if (count >= lanes::count) return lanes::load<Type>(p, lanes::Whole{});
        return lanes::load<Type>(p, lanes::Part{count});
    }
};

}  // namespace arithmetic
