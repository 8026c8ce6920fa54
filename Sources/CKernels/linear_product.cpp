// Products of the linear layer, all from one micro-kernel.
#include "linear.h"

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

namespace linear {

using namespace vnni;

namespace {

CKERNELS_INLINE const uint32_t *pairs(const bfloat16 *row) { return reinterpret_cast<const uint32_t *>(row); }

template <int Rows>
CKERNELS_INLINE void clear(__m512 (&sums)[Rows][panel_columns]) {
    for (int r = 0; r < Rows; r++) {
        for (int c = 0; c < panel_columns; c++) sums[r][c] = _mm512_setzero_ps();
    }
}

// Adds the low-rank term of rows from `row` on.
template <int Rows>
CKERNELS_INLINE void add_low_rank(const Product &p, int64_t row, __m512 (&sums)[Rows][panel_columns]) {
    const uint32_t *low_rows = pairs(p.low_rows) + row * p.low_depth;
    if (!p.kept) return multiply<Rows, panel_columns>(low_rows, p.low_depth, p.low_panel, p.low_depth, sums);
    __m512 low[Rows][panel_columns];
    clear(low);
    multiply<Rows, panel_columns>(low_rows, p.low_depth, p.low_panel, p.low_depth, low);
    for (int r = 0; r < Rows; r++) {
        for (int c = 0; c < panel_columns; c++) {
            const __m128i bytes = _mm_maskz_loadu_epi8(
                first_of_16(p.width - c * lanes), p.kept + (row + r) * p.kept_stride + c * lanes);
            sums[r][c] = _mm512_mask_add_ps(sums[r][c], _mm_test_epi8_mask(bytes, bytes), sums[r][c], low[r][c]);
        }
    }
}

// Rows from `row` on, pairs [begin, end) of the depth; sums of the pairs before and after are in memory.
template <int Rows>
CKERNELS_INLINE void multiply_block(const Product &p, int64_t row, int64_t begin, int64_t end, float *memory) {
    __m512 sums[Rows][panel_columns];
    for (int c = 0; c < panel_columns; c++) {
        const __m512 bias = begin == 0 && p.bias
            ? widened(_mm256_maskz_loadu_epi16(first_of_16(p.width - c * lanes), p.bias + c * lanes))
            : _mm512_setzero_ps();
        for (int r = 0; r < Rows; r++) {
            sums[r][c] = begin == 0 ? bias : _mm512_loadu_ps(memory + (r * panel_columns + c) * lanes);
        }
    }
    multiply<Rows, panel_columns>(
        pairs(p.rows + row * p.row_stride) + begin, p.row_stride / 2, p.panel + begin * panel_width, end - begin, sums);
    if (end < p.depth) {
        for (int r = 0; r < Rows; r++) {
            for (int c = 0; c < panel_columns; c++) {
                _mm512_storeu_ps(memory + (r * panel_columns + c) * lanes, sums[r][c]);
            }
        }
        return;
    }
    if (p.low_depth > 0) add_low_rank(p, row, sums);
    for (int r = 0; r < Rows; r++) {
        bfloat16 *output = p.output + (row + r) * p.output_stride;
        for (int c = 0; c < panel_columns; c += 2) {
            _mm512_mask_storeu_epi16(
                output + c * lanes, first_of_32(p.width - c * lanes), narrowed(sums[r][c], sums[r][c + 1]));
        }
    }
}

template <int Rows>
CKERNELS_INLINE void multiply_small_block(
    const bfloat16 *rows, int64_t row_stride, const uint32_t *packed, int64_t depth, __m512 scale, bfloat16 *small,
    int64_t padded_rank) {
    __m512 sums[Rows][1];
    for (int r = 0; r < Rows; r++) sums[r][0] = _mm512_setzero_ps();
    multiply<Rows, 1>(pairs(rows), row_stride / 2, packed, depth, sums);
    for (int r = 0; r < Rows; r++) {
        _mm256_storeu_si256(
            reinterpret_cast<__m256i *>(small + r * padded_rank), narrowed(_mm512_mul_ps(scale, sums[r][0])));
    }
}

}  // namespace

void multiply_rows(const Product &p, int64_t begin, int64_t end, float *sums) {
    for (int64_t block = begin; block < end; block += row_block) {
        const int64_t block_end = std::min(block + row_block, end);
        for (int64_t k = 0; k < p.depth; k += depth_block) {
            const int64_t k_end = std::min(k + depth_block, p.depth);
            int64_t row = block;
            for (; row + 4 <= block_end; row += 4) {
                multiply_block<4>(p, row, k, k_end, sums + (row - block) * panel_width);
            }
            for (; row < block_end; row++) multiply_block<1>(p, row, k, k_end, sums + (row - block) * panel_width);
        }
    }
}

void multiply_small(
    const bfloat16 *rows, int64_t row_stride, const uint32_t *packed, int64_t depth, float scale, bfloat16 *small,
    int64_t padded_rank, int64_t begin, int64_t end) {
    const __m512 factor = _mm512_set1_ps(scale);
    for (int64_t first = 0; first < padded_rank; first += lanes, packed += depth * lanes) {
        int64_t row = begin;
        for (; row + 8 <= end; row += 8) {
            multiply_small_block<8>(
                rows + row * row_stride, row_stride, packed, depth, factor, small + row * padded_rank + first, padded_rank);
        }
        for (; row < end; row++) {
            multiply_small_block<1>(
                rows + row * row_stride, row_stride, packed, depth, factor, small + row * padded_rank + first, padded_rank);
        }
    }
}

void transpose_small(
    const bfloat16 *small, int64_t padded_rank, int64_t num_rows, int64_t padded_rows, uint32_t *transposed) {
    const auto half_row = [&](int64_t row, int64_t first) {
        return row < num_rows
            ? _mm256_loadu_si256(reinterpret_cast<const __m256i *>(small + row * padded_rank + first))
            : _mm256_setzero_si256();
    };
    for (int64_t first = 0; first < padded_rank; first += lanes) {
        for (int64_t row = 0; row < padded_rows; row += 32) {
            __m512i block[lanes];
            for (int k = 0; k < lanes; k++) {
                const __m512i low = _mm512_castsi256_si512(half_row(row + 2 * k, first));
                block[k] = pairs_of_halves(_mm512_inserti64x4(low, half_row(row + 2 * k + 1, first), 1));
            }
            transpose(block);
            for (int k = 0; k < lanes; k++) {
                _mm512_storeu_si512(transposed + (first + k) * (padded_rows / 2) + row / 2, block[k]);
            }
        }
    }
}

void multiply_columns(
    const uint32_t *transposed, int64_t padded_rank, int64_t padded_rows, const bfloat16 *rows, int64_t row_stride,
    int64_t num_rows, int64_t first, const ThreadSpace &space) {
    const int64_t width = row_stride - first;
    std::memset(space.sums, 0, size_t(padded_rank) * panel_width * sizeof(float));
    for (int64_t block = 0; block < num_rows; block += row_block) {
        const int64_t count = std::min(row_block, num_rows - block);
        for (int64_t row = 0; row < count; row += 2) {
            const bfloat16 *a = rows + (block + row) * row_stride + first;
            const bool has_second = row + 1 < count;
            for (int half = 0; half < 2; half++) {
                const __m512i one = load_up_to(a + half * 32, width - half * 32);
                const __m512i two =
                    has_second ? load_up_to(a + row_stride + half * 32, width - half * 32) : _mm512_setzero_si512();
                __m512i low, high;
                pairs_of_rows(one, two, low, high);
                _mm512_storeu_si512(space.panel + row / 2 * panel_width + half * 32, low);
                _mm512_storeu_si512(space.panel + row / 2 * panel_width + half * 32 + 16, high);
            }
        }
        for (int64_t k = 0; k < padded_rank; k += 4) {
            __m512 sums[4][panel_columns];
            float *memory = space.sums + k * panel_width;
            for (int r = 0; r < 4; r++) {
                for (int c = 0; c < panel_columns; c++) sums[r][c] = _mm512_loadu_ps(memory + r * panel_width + c * lanes);
            }
            multiply<4, panel_columns>(
                transposed + k * (padded_rows / 2) + block / 2, padded_rows / 2, space.panel, (count + 1) / 2, sums);
            for (int r = 0; r < 4; r++) {
                for (int c = 0; c < panel_columns; c++) _mm512_storeu_ps(memory + r * panel_width + c * lanes, sums[r][c]);
            }
        }
    }
}

}  // namespace linear

CKERNELS_VNNI_END

#endif
