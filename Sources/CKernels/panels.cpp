// Decoders of the storages that products read by tiles.
#include "ckernels_panels.h"

#include <algorithm>
#include <cstring>

#include "half.h"
#include "vnni.h"

namespace {

void decode_bfloat16(
    const CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
    uint16_t *output, int64_t stride) {
    const auto *elements = static_cast<const uint16_t *>(weight->elements);
    for (int64_t row = row_begin; row < row_end; row++, output += stride) {
        std::memcpy(
            output, elements + row * weight->columns + column_begin, size_t(column_end - column_begin) * sizeof(uint16_t));
    }
}

// Elements one at a time, for ranges that begin or end within 32 elements of a row.
void decode_fourbit_scalar(const CKernelsPanels *weight, int64_t begin, int64_t end, uint16_t *output) {
    const auto *packed = static_cast<const uint8_t *>(weight->elements);
    for (int64_t e = begin; e < end; e++) {
        const int code = e % 2 == 0 ? packed[e / 2] >> 4 : packed[e / 2] & 15;
        *output++ = bfloat16_from_float(weight->levels[code] * weight->scales[e / weight->block_size]);
    }
}

#if CKERNELS_X86
CKERNELS_VNNI_BEGIN

// The 16 levels of a block, twice: the permutation below looks at five bits of each index.
CKERNELS_INLINE __m512i levels_of_block(const CKernelsPanels *weight, int64_t element) {
    const __m512 scale = _mm512_set1_ps(weight->scales[element / weight->block_size]);
    return _mm512_broadcast_i64x4(vnni::narrowed(_mm512_mul_ps(_mm512_loadu_ps(weight->levels), scale)));
}

void decode_fourbit(
    const CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
    uint16_t *output, int64_t stride) {
    const auto *packed = static_cast<const uint8_t *>(weight->elements);
    for (int64_t row = row_begin; row < row_end; row++, output += stride) {
        const int64_t end = row * weight->columns + column_end;
        int64_t e = row * weight->columns + column_begin;
        uint16_t *to = output;
        // Blocks hold multiples of 32 elements, so 32 that begin at such a multiple are of one block.
        if (const int64_t first = std::min((e + 31) / 32 * 32, end); e < first) {
            decode_fourbit_scalar(weight, e, first, to);
            to += first - e;
            e = first;
        }
        for (; e + 32 <= end; e += 32, to += 32) {
            const __m512i bytes =
                _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(packed + e / 2)));
            const __m512i codes = _mm512_or_si512(_mm512_srli_epi32(bytes, 4), _mm512_slli_epi32(bytes, 16));
            _mm512_storeu_si512(to, _mm512_permutexvar_epi16(codes, levels_of_block(weight, e)));
        }
        if (e < end) decode_fourbit_scalar(weight, e, end, to);
    }
}

CKERNELS_VNNI_END
#else

void decode_fourbit(
    const CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
    uint16_t *output, int64_t stride) {
    for (int64_t row = row_begin; row < row_end; row++, output += stride) {
        decode_fourbit_scalar(
            weight, row * weight->columns + column_begin, row * weight->columns + column_end, output);
    }
}

#endif

}  // namespace

CKernelsPanels ckernels_panels_bfloat16(const void *elements, int64_t rows, int64_t columns) {
    CKernelsPanels panels{};
    panels.rows = rows;
    panels.columns = columns;
    panels.decode = decode_bfloat16;
    panels.elements = elements;
    return panels;
}

CKernelsPanels ckernels_panels_fourbit(
    const float *codebook, const void *packed, const void *absmax, int64_t block_size, int64_t rows, int64_t columns) {
    CKernelsPanels panels{};
    panels.rows = rows;
    panels.columns = columns;
    panels.decode = decode_fourbit;
    panels.elements = packed;
    panels.scales = static_cast<const float *>(absmax);
    panels.block_size = block_size;
    std::copy_n(codebook, 16, panels.levels);
    return panels;
}
