// The results of 4-bit codes, looked up in a table of a block's 16 results by each instruction set.
#pragma once

#include "isa.h"

namespace fourbit {

// What one block decodes to, by code.
template <class Storage> struct Table {
    alignas(64) Storage values[16];
};

template <class Storage>
CKERNELS_INLINE void look_up(const Table<Storage> &table, const uint8_t *packed, int64_t begin, int64_t count, Storage *output) {
    for (int64_t i = begin; i < count; i++) {
        const uint8_t pair = packed[i / 2];
        output[i] = table.values[i % 2 == 0 ? pair >> 4 : pair & 15];
    }
}

struct Portable {
    template <class Storage>
    CKERNELS_INLINE void decode(const Table<Storage> &table, const uint8_t *packed, int64_t count, Storage *output) {
        for (int64_t i = 0; i + 1 < count; i += 2) {
            const uint8_t pair = packed[i / 2];
            output[i] = table.values[pair >> 4];
            output[i + 1] = table.values[pair & 15];
        }
        look_up(table, packed, count & ~int64_t(1), count, output);
    }
};

#if CKERNELS_X86

struct AVX2 {
    // 16 bytes -> 32 results: low and high halves are looked up apart, as bytes, and put together again.
    CKERNELS_TARGET_AVX2 static inline void
    decode(const Table<uint16_t> &table, const uint8_t *packed, int64_t count, uint16_t *output) {
        const __m128i low_bytes = _mm_set1_epi16(0x00ff), nibble = _mm_set1_epi8(15);
        const __m128i first = _mm_load_si128(reinterpret_cast<const __m128i *>(table.values));
        const __m128i second = _mm_load_si128(reinterpret_cast<const __m128i *>(table.values) + 1);
        const __m128i lows = _mm_packus_epi16(_mm_and_si128(first, low_bytes), _mm_and_si128(second, low_bytes));
        const __m128i highs = _mm_packus_epi16(_mm_srli_epi16(first, 8), _mm_srli_epi16(second, 8));
        int64_t i = 0;
        for (; i + 32 <= count; i += 32) {
            const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i *>(packed + i / 2));
            const __m128i even = _mm_and_si128(_mm_srli_epi16(pairs, 4), nibble);
            const __m128i odd = _mm_and_si128(pairs, nibble);
            auto *target = reinterpret_cast<__m128i *>(output + i);
            for (const __m128i codes : {_mm_unpacklo_epi8(even, odd), _mm_unpackhi_epi8(even, odd)}) {
                const __m128i low = _mm_shuffle_epi8(lows, codes), high = _mm_shuffle_epi8(highs, codes);
                _mm_storeu_si128(target++, _mm_unpacklo_epi8(low, high));
                _mm_storeu_si128(target++, _mm_unpackhi_epi8(low, high));
            }
        }
        look_up(table, packed, i, count, output);
    }

    // 4 bytes -> 8 results: both halves of the table are looked up, the code's bit 3 (moved to the sign) chooses.
    CKERNELS_TARGET_AVX2 static inline void
    decode(const Table<float> &table, const uint8_t *packed, int64_t count, float *output) {
        const __m256 first = _mm256_load_ps(table.values), second = _mm256_load_ps(table.values + 8);
        int64_t i = 0;
        for (; i + 8 <= count; i += 8) {
            const __m128i pairs = _mm_loadu_si32(packed + i / 2);
            const __m256i wide = _mm256_cvtepu8_epi64(pairs);
            const __m256i codes = _mm256_or_si256(_mm256_srli_epi64(wide, 4), _mm256_slli_epi64(wide, 32));
            const __m256 low = _mm256_permutevar8x32_ps(first, codes), high = _mm256_permutevar8x32_ps(second, codes);
            const __m256 choice = _mm256_castsi256_ps(_mm256_slli_epi32(codes, 28));
            _mm256_storeu_ps(output + i, _mm256_blendv_ps(low, high, choice));
        }
        look_up(table, packed, i, count, output);
    }
};

struct AVX512 {
    // 16 bytes -> 32 results by one vpermw; it reads 5 bits of an index, so the table is held twice.
    CKERNELS_TARGET_AVX512 static inline void
    decode(const Table<uint16_t> &table, const uint8_t *packed, int64_t count, uint16_t *output) {
        const __m512i values = _mm512_broadcast_i64x4(_mm256_load_si256(reinterpret_cast<const __m256i *>(table.values)));
        int64_t i = 0;
        for (; i + 32 <= count; i += 32) {
            const __m512i wide =
                _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(packed + i / 2)));
            const __m512i codes = _mm512_or_si512(_mm512_srli_epi32(wide, 4), _mm512_slli_epi32(wide, 16));
            _mm512_storeu_si512(output + i, _mm512_permutexvar_epi16(codes, values));
        }
        look_up(table, packed, i, count, output);
    }

    // 8 bytes -> 16 results by one vpermps, which reads 4 bits of an index.
    CKERNELS_TARGET_AVX512 static inline void
    decode(const Table<float> &table, const uint8_t *packed, int64_t count, float *output) {
        const __m512 values = _mm512_load_ps(table.values);
        int64_t i = 0;
        for (; i + 16 <= count; i += 16) {
            const __m512i wide =
                _mm512_cvtepu8_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(packed + i / 2)));
            const __m512i codes = _mm512_or_si512(_mm512_srli_epi64(wide, 4), _mm512_slli_epi64(wide, 32));
            _mm512_storeu_ps(output + i, _mm512_permutexvar_ps(codes, values));
        }
        look_up(table, packed, i, count, output);
    }
};

#endif

}  // namespace fourbit
