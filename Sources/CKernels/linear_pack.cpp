// Packing of the linear layer's operands into the layouts of the micro-kernel.
#include "linear.h"

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

namespace linear {

using namespace vnni;

namespace {

// The tile of a weight that begins at (row, column), zero beyond the weight's ends.
CKERNELS_INLINE void decode_tile(const CKernelsPanels &weight, int64_t row, int64_t column, bfloat16 *tile) {
    const int64_t row_end = std::min(row + panel_width, weight.rows);
    const int64_t column_end = std::min(column + panel_width, weight.columns);
    if (row_end - row < panel_width || column_end - column < panel_width) {
        std::memset(tile, 0, panel_width * panel_width * sizeof(bfloat16));
    }
    weight.decode(&weight, row, row_end, column, column_end, tile, panel_width);
}

// 32 numbers of a row of float32, zero from `count` on, rounded.
CKERNELS_INLINE __m512i narrowed_row(const float *row, int64_t count) {
    return narrowed(
        _mm512_maskz_loadu_ps(first_of_16(count), row), _mm512_maskz_loadu_ps(first_of_16(count - 16), row + 16));
}

// A row of 64 pairs.
CKERNELS_INLINE void store_pairs(uint32_t *to, const __m512i (&a)[2], const __m512i (&b)[2]) {
    for (int half = 0; half < 2; half++) {
        __m512i low, high;
        pairs_of_rows(a[half], b[half], low, high);
        _mm512_storeu_si512(to + half * 32, low);
        _mm512_storeu_si512(to + half * 32 + 16, high);
    }
}

}  // namespace

void pack_outputs(const CKernelsPanels &weight, int64_t first, const ThreadSpace &space) {
    const int64_t depth = weight.columns / 2;
    for (int64_t column = 0; column < weight.columns; column += panel_width) {
        decode_tile(weight, first, column, space.tile);
        for (int c = 0; c < panel_columns; c++) {
            for (int64_t part = 0; part < 2; part++) {
                const int64_t pair = column / 2 + part * lanes;
                if (pair >= depth) break;
                __m512i block[lanes];
                for (int lane = 0; lane < lanes; lane++) {
                    block[lane] = _mm512_loadu_si512(space.tile + (c * lanes + lane) * panel_width + part * 32);
                }
                transpose(block);
                const int64_t count = std::min<int64_t>(lanes, depth - pair);
                for (int64_t k = 0; k < count; k++) {
                    _mm512_storeu_si512(space.panel + ((pair + k) * panel_columns + c) * lanes, block[k]);
                }
            }
        }
    }
}

void pack_inputs(const CKernelsPanels &weight, int64_t first, const ThreadSpace &space) {
    for (int64_t row = 0; row < weight.rows; row += panel_width) {
        decode_tile(weight, row, first, space.tile);
        const int64_t count = std::min<int64_t>(panel_width, weight.rows - row);
        for (int64_t k = 0; k < count; k += 2) {
            const bfloat16 *a = space.tile + k * panel_width;
            const bfloat16 *b = a + panel_width;
            store_pairs(
                space.panel + (row + k) / 2 * panel_width, {_mm512_loadu_si512(a), _mm512_loadu_si512(a + 32)},
                {_mm512_loadu_si512(b), _mm512_loadu_si512(b + 32)});
        }
    }
}

void pack_low_outputs(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, int64_t first, uint32_t *panel) {
    const int64_t rank = low_rank.rank;
    for (int c = 0; c < panel_columns; c++) {
        for (int64_t k = 0; k < rank; k += 32) {
            __m512i block[lanes];
            for (int lane = 0; lane < lanes; lane++) {
                const int64_t row = first + c * lanes + lane;
                block[lane] = row < weight.rows ? narrowed_row(low_rank.b + row * rank + k, rank - k) : _mm512_setzero_si512();
            }
            transpose(block);
            const int64_t count = std::min<int64_t>(lanes, (rounded_up(rank, 16) - k) / 2);
            for (int64_t pair = 0; pair < count; pair++) {
                _mm512_storeu_si512(panel + ((k / 2 + pair) * panel_columns + c) * lanes, block[pair]);
            }
        }
    }
}

void pack_low_inputs(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, int64_t first, uint32_t *panel) {
    const int64_t rank = low_rank.rank;
    const auto row = [&](int64_t k, __m512i (&numbers)[2]) {
        for (int half = 0; half < 2; half++) {
            const int64_t column = first + half * 32;
            numbers[half] = k < rank && column < weight.columns
                ? narrowed_row(low_rank.a + k * weight.columns + column, weight.columns - column)
                : _mm512_setzero_si512();
        }
    };
    for (int64_t k = 0; k < rounded_up(rank, 16); k += 2) {
        __m512i a[2], b[2];
        row(k, a);
        row(k + 1, b);
        store_pairs(panel + k / 2 * panel_width, a, b);
    }
}

void pack_a(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, uint32_t *packed) {
    const int64_t depth = weight.columns / 2;
    for (int64_t first = 0; first < low_rank.rank; first += lanes, packed += depth * lanes) {
        for (int64_t column = 0; column < weight.columns; column += 32) {
            __m512i block[lanes];
            for (int lane = 0; lane < lanes; lane++) {
                block[lane] = first + lane < low_rank.rank
                    ? narrowed_row(low_rank.a + (first + lane) * weight.columns + column, weight.columns - column)
                    : _mm512_setzero_si512();
            }
            transpose(block);
            const int64_t count = std::min<int64_t>(lanes, depth - column / 2);
            for (int64_t k = 0; k < count; k++) _mm512_storeu_si512(packed + (column / 2 + k) * lanes, block[k]);
        }
    }
}

void pack_b(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, uint32_t *packed) {
    const int64_t rank = low_rank.rank;
    for (int64_t first = 0; first < rank; first += lanes) {
        const __mmask16 mask = first_of_16(rank - first);
        for (int64_t row = 0; row < weight.rows; row += 2, packed += lanes) {
            const float *b = low_rank.b + row * rank + first;
            _mm512_storeu_si512(
                packed, pairs_of_halves(narrowed(_mm512_maskz_loadu_ps(mask, b), _mm512_maskz_loadu_ps(mask, b + rank))));
        }
    }
}

}  // namespace linear

CKERNELS_VNNI_END

#endif
