// 4-bit codes and scales of blocks as products read them.
#include <algorithm>
#include <bit>

#include "fourbit_decoders.h"
#include "half.h"
#include "panels.h"

#pragma clang fp contract(off)

namespace {

CKERNELS_INLINE float scale_of(const CKernelsScales &scales, int64_t block) {
    if (!scales.codes) return scales.scales[block];
    return scales.levels[scales.codes[block]] * scales.scales[block >> std::countr_zero(uint64_t(scales.block_size))]
        + scales.offset;
}

CKERNELS_INLINE float scale_of_element(const CKernelsPanels &weight, int64_t element) {
    return scale_of(weight.scales, element >> std::countr_zero(uint64_t(weight.block_size)));
}

// The element that a row begins with, counted over the whole storage.
CKERNELS_INLINE int64_t first_of(const CKernelsPanels &weight, int64_t row) {
    return (weight.first_row + row) * weight.columns;
}

// Elements one at a time, for ranges that begin or end within 32 elements of a row.
void decode_scalar(const CKernelsPanels &weight, int64_t begin, int64_t end, uint16_t *output) {
    const auto *packed = static_cast<const uint8_t *>(weight.elements);
    for (int64_t e = begin; e < end; e++) {
        const int code = e % 2 == 0 ? packed[e / 2] >> 4 : packed[e / 2] & 15;
        *output++ = bfloat16_from_float(weight.levels[code] * scale_of_element(weight, e));
    }
}

// Tiles of float32 numbers.
struct Tile {
    int64_t row_begin, row_end, column_begin, column_end;
    float *output;
    int64_t stride;
};

template <class Decoder> CKERNELS_INLINE void decode_tile(const CKernelsPanels &weight, const Tile &tile) {
    const auto *packed = static_cast<const uint8_t *>(weight.elements);
    for (int64_t row = tile.row_begin; row < tile.row_end; row++) {
        const int64_t end = first_of(weight, row) + tile.column_end;
        int64_t e = first_of(weight, row) + tile.column_begin;
        float *to = tile.output + (row - tile.row_begin) * tile.stride;
        while (e < end) {
            const int64_t block_end = std::min((e | (weight.block_size - 1)) + 1, end);
            const float scale = scale_of_element(weight, e);
            fourbit::Table<float> table;
            for (int i = 0; i < 16; i++) table.values[i] = weight.levels[i] * scale;
            if (e % 2 == 1) *to++ = table.values[packed[e++ / 2] & 15];
            Decoder::decode(table, packed + e / 2, block_end - e, to);
            to += block_end - e;
            e = block_end;
        }
    }
}

#if CKERNELS_X86
CKERNELS_TARGET_AVX2 void decode_avx2(const CKernelsPanels &weight, const Tile &tile) {
    decode_tile<fourbit::AVX2>(weight, tile);
}

CKERNELS_TARGET_AVX512 void decode_avx512(const CKernelsPanels &weight, const Tile &tile) {
    decode_tile<fourbit::AVX512>(weight, tile);
}
#endif

void decode_float32(
    int32_t isa, const CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
    float *output, int64_t stride) {
    const Tile tile{row_begin, row_end, column_begin, column_end, output, stride};
    switch (isa) {
#if CKERNELS_X86
    case CKERNELS_ISA_AVX2:
        return decode_avx2(*weight, tile);
    case CKERNELS_ISA_AVX512:
    case CKERNELS_ISA_AVX512_BF16:
        return decode_avx512(*weight, tile);
#endif
    default:
        return decode_tile<fourbit::Portable>(*weight, tile);
    }
}

#if CKERNELS_X86
CKERNELS_VNNI_BEGIN

// The 16 numbers of a block, twice: the permutation below looks at five bits of each index.
CKERNELS_INLINE __m512i numbers_of_block(__m512 levels, float scale) {
    const __m512 numbers = _mm512_mul_ps(levels, _mm512_set1_ps(scale));
    return vnni::narrowed(numbers, numbers);
}

// The 32 elements of 16 bytes. Each byte is put into two words, the first shifted to its high code; other bits do not count.
CKERNELS_INLINE __m512i looked_up(const uint8_t *packed, __m512i numbers) {
    const __m512i order = _mm512_set_epi8(
        15, 15, 15, 15, 14, 14, 14, 14, 13, 13, 13, 13, 12, 12, 12, 12, 11, 11, 11, 11, 10, 10, 10, 10, 9, 9, 9, 9, 8, 8, 8, 8,
        7, 7, 7, 7, 6, 6, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    const __m512i bytes = _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i *>(packed)));
    const __m512i codes = _mm512_srlv_epi16(_mm512_shuffle_epi8(bytes, order), _mm512_set1_epi32(4));
    return _mm512_permutexvar_epi16(codes, numbers);
}

void decode(
    const CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
    uint16_t *output, int64_t stride) {
    const auto *packed = static_cast<const uint8_t *>(weight->elements);
    const __m512 levels = _mm512_loadu_ps(weight->levels);
    for (int64_t row = row_begin; row < row_end; row++, output += stride) {
        const int64_t end = first_of(*weight, row) + column_end;
        int64_t e = first_of(*weight, row) + column_begin;
        uint16_t *to = output;
        // Blocks hold multiples of 32 elements, so 32 that begin at such a multiple are of one block.
        if (const int64_t first = std::min((e + 31) / 32 * 32, end); e < first) {
            decode_scalar(*weight, e, first, to);
            to += first - e;
            e = first;
        }
        for (; e + 32 <= end; e += 32, to += 32) {
            _mm512_storeu_si512(to, looked_up(packed + e / 2, numbers_of_block(levels, scale_of_element(*weight, e))));
        }
        if (e < end) decode_scalar(*weight, e, end, to);
    }
}

// Rows whose length is a multiple of 64, in blocks of at least 64: no 64 elements of theirs are of two blocks.
//
// Even and odd elements are multiplied apart, because 32 bytes give their codes with one shift; tokens are arranged likewise.
struct WholeProduct {
    template <int Tokens>
    CKERNELS_INLINE void multiply(const CKernelsPanels &weight, int64_t row, const uint16_t *x, __m512 (&totals)[Tokens]) {
        const int64_t columns = weight.columns, first = first_of(weight, row);
        const auto *packed = static_cast<const uint8_t *>(weight.elements) + first / 2;
        const __m512 levels = _mm512_loadu_ps(weight.levels);
        // A power of two that divides rows and blocks.
        const int64_t step = std::min(columns & -columns, weight.block_size);
        __m512 evens[Tokens] = {}, odds[Tokens] = {};
        for (int64_t c = 0; c < columns; c += step) {
            const __m512i numbers = numbers_of_block(levels, scale_of_element(weight, first + c));
            for (int64_t k = c; k < c + step; k += 64) {
                const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(packed + k / 2));
                const __m512i codes = _mm512_cvtepu8_epi16(bytes);
                const __m512i even = _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 4), numbers);
                const __m512i odd = _mm512_permutexvar_epi16(codes, numbers);
                for (int t = 0; t < Tokens; t++) {
                    const uint16_t *token = x + t * columns + k;
                    evens[t] = vnni::dot(evens[t], even, _mm512_loadu_si512(token));
                    odds[t] = vnni::dot(odds[t], odd, _mm512_loadu_si512(token + 32));
                }
            }
        }
        for (int t = 0; t < Tokens; t++) totals[t] = _mm512_add_ps(evens[t], odds[t]);
    }
};

// Of each 64 numbers, those with even places before those with odd ones.
void arrange(const CKernelsPanels *weight, const uint16_t *x, uint16_t *output) {
    const __m512i order = _mm512_set_epi16(
        62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i next = _mm512_add_epi16(order, _mm512_set1_epi16(1));
    for (int64_t c = 0; c < weight->columns; c += 64) {
        const __m512i first = _mm512_loadu_si512(x + c), second = _mm512_loadu_si512(x + c + 32);
        _mm512_storeu_si512(output + c, _mm512_permutex2var_epi16(first, order, second));
        _mm512_storeu_si512(output + c + 32, _mm512_permutex2var_epi16(first, next, second));
    }
}

// Rows of any length, decoded a piece at a time.
struct PieceProduct {
    template <int Tokens>
    CKERNELS_INLINE void multiply(const CKernelsPanels &weight, int64_t row, const uint16_t *x, __m512 (&totals)[Tokens]) {
        constexpr int64_t piece = 512;
        alignas(64) uint16_t elements[piece];
        for (int64_t c = 0; c < weight.columns; c += piece) {
            const int64_t width = std::min(piece, weight.columns - c);
            decode(&weight, row, row + 1, c, c + width, elements, piece);
            for (int64_t k = 0; k < width; k += 32) {
                const __m512i w = vnni::load_up_to(elements + k, width - k);
                for (int t = 0; t < Tokens; t++) {
                    const __m512i token = vnni::load_up_to(x + t * weight.columns + c + k, width - k);
                    totals[t] = vnni::dot(totals[t], w, token);
                }
            }
        }
    }
};

CKERNELS_VNNI_END
#else

void decode(
    const CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
    uint16_t *output, int64_t stride) {
    for (int64_t row = row_begin; row < row_end; row++, output += stride) {
        const int64_t first = first_of(*weight, row);
        decode_scalar(*weight, first + column_begin, first + column_end, output);
    }
}

#endif

}  // namespace

CKernelsPanels ckernels_panels_fourbit(
    const float *codebook, const void *packed, CKernelsScales absmax, int64_t block_size, int64_t first_row, int64_t rows,
    int64_t columns) {
    CKernelsPanels panels{};
    panels.first_row = first_row;
    panels.rows = rows;
    panels.columns = columns;
    panels.decode = decode;
    panels.decode_float32 = decode_float32;
#if CKERNELS_X86
    const bool is_whole = columns % 64 == 0 && block_size >= 64;
    panels.arrange = is_whole ? arrange : nullptr;
    panels.multiply = is_whole ? panels::multiply<WholeProduct> : panels::multiply<PieceProduct>;
#endif
    panels.elements = packed;
    panels.scales = absmax;
    panels.block_size = block_size;
    std::copy_n(codebook, 16, panels.levels);
    return panels;
}
