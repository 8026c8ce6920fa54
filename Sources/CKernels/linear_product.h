// Products of the linear layer, all from one micro-kernel.
#pragma once

#include "linear_pack.h"

namespace linear {

// Rows times a panel, and a low-rank term in the same sums.
template <class A> struct Product {
    const typename A::Element *rows;
    int64_t row_stride;
    const typename A::Word *panel;
    // Words of the depth.
    int64_t depth;
    // Columns of the panel: 64, or a multiple of 16 below.
    int64_t columns;
    // Added to every row: [width] or null.
    const typename A::Element *bias;
    // [rows, padded rank]; its depth 0 for none.
    const typename A::Element *low_rows;
    const typename A::Word *low_panel;
    int64_t low_depth;
    // Where the low-rank term counts, from this panel's first column on; null: everywhere.
    const uint8_t *kept;
    int64_t kept_stride;
    // Of the sums.
    float scale;
    typename A::Element *output;
    int64_t output_stride;
    // Columns that exist.
    int64_t width;
};

// Rows as the micro-kernel reads them.
template <class A> struct Operand {
    const typename A::Word *words;
    int64_t stride;
};

// Words [begin, end) of each row's depth: where they lie, or widened to `buffer`.
template <class A>
CKERNELS_INLINE Operand<A> operand(
    const typename A::Element *rows, int64_t row_stride, int64_t num_rows, int64_t begin, int64_t end, typename A::Word *buffer,
    int64_t stride) {
    if constexpr (A::widens) {
        for (int64_t row = 0; row < num_rows; row++) {
            for (int64_t k = begin; k < end; k += register_lanes) {
                A::store_words(buffer + row * stride + k - begin, A::load(rows + row * row_stride + k, end - k));
            }
        }
        return {buffer, stride};
    } else {
        return {reinterpret_cast<const typename A::Word *>(rows) + begin, row_stride / A::depth_per_word};
    }
}

// Adds the low-rank term of a tile.
template <class A, int Rows, int Columns>
CKERNELS_INLINE void add_low_rank(
    const Product<A> &p, const Operand<A> &low_rows, int64_t row, int64_t column, typename A::Sums (&sums)[Rows][Columns]) {
    const typename A::Word *panel = p.low_panel + column;
    if (!p.kept) {
        return multiply<A, Rows, Columns>(low_rows.words, low_rows.stride, panel, p.columns, p.low_depth, sums);
    }
    typename A::Sums low[Rows][Columns] = {};
    multiply<A, Rows, Columns>(low_rows.words, low_rows.stride, panel, p.columns, p.low_depth, low);
#pragma clang loop unroll(full)
    for (int r = 0; r < Rows; r++) {
        for (int c = 0; c < Columns; c++) {
            const int64_t first = column + c * register_lanes;
            sums[r][c] = A::add_where(
                p.kept + (row + r) * p.kept_stride + first, p.width - first, sums[r][c], low[r][c]);
        }
    }
}

// A tile of rows and columns, words [begin, end) of the depth; sums of the words before and after are in memory.
template <class A, int Rows, int Columns>
CKERNELS_INLINE void multiply_tile(
    const Product<A> &p, const Operand<A> &rows, const Operand<A> &low_rows, int64_t row, int64_t column, int64_t begin,
    int64_t end, float *memory) {
    typename A::Sums sums[Rows][Columns];
    for (int c = 0; c < Columns; c++) {
        const int64_t first = column + c * register_lanes;
        const typename A::Sums bias =
            begin == 0 && p.bias ? A::load_elements(p.bias + first, p.width - first) : A::zero_sums();
#pragma clang loop unroll(full)
        for (int r = 0; r < Rows; r++) {
            sums[r][c] = begin == 0 ? bias : A::load_sums(memory + r * panel_width + c * register_lanes);
        }
    }
    multiply<A, Rows, Columns>(rows.words, rows.stride, p.panel + begin * p.columns + column, p.columns, end - begin, sums);
    if (end < p.depth) {
#pragma clang loop unroll(full)
        for (int r = 0; r < Rows; r++) {
            for (int c = 0; c < Columns; c++) A::store_sums(memory + r * panel_width + c * register_lanes, sums[r][c]);
        }
        return;
    }
    if (p.low_depth > 0) add_low_rank<A, Rows, Columns>(p, low_rows, row, column, sums);
#pragma clang loop unroll(full)
    for (int r = 0; r < Rows; r++) {
        typename A::Element *output = p.output + (row + r) * p.output_stride + column;
        for (int c = 0; c < Columns; c++) {
            A::store(output + c * register_lanes, A::scaled(sums[r][c], p.scale), p.width - column - c * register_lanes);
        }
    }
}

// Rows [begin, end) of a block whose first is `block`, in tiles of Rows, then of half as many.
template <class A, int Rows, int Columns>
CKERNELS_INLINE void multiply_tiles(
    const Product<A> &p, const Operand<A> &rows, const Operand<A> &low_rows, int64_t block, int64_t begin, int64_t end,
    int64_t depth_begin, int64_t depth_end, float *sums) {
    int64_t row = begin;
    for (; row + Rows <= end; row += Rows) {
        const int64_t r = row - block;
        for (int64_t column = 0; column < p.columns; column += Columns * register_lanes) {
            multiply_tile<A, Rows, Columns>(
                p, {rows.words + r * rows.stride, rows.stride}, {low_rows.words + r * low_rows.stride, low_rows.stride}, row,
                column, depth_begin, depth_end, sums + r * panel_width + column);
        }
    }
    if constexpr (Rows > 1) {
        multiply_tiles<A, Rows / 2, Columns>(p, rows, low_rows, block, row, end, depth_begin, depth_end, sums);
    }
}

// Computes rows [begin, end) of the product.
template <class A> void multiply_rows(const Product<A> &p, int64_t begin, int64_t end, const ThreadSpace<A> &space) {
    constexpr int64_t row_block = ThreadSpace<A>::row_block;
    for (int64_t block = begin; block < end; block += row_block) {
        const int64_t block_end = std::min(block + row_block, end);
        for (int64_t k = 0; k < p.depth; k += depth_block) {
            const int64_t k_end = std::min(k + depth_block, p.depth);
            const Operand<A> rows = operand<A>(
                p.rows + block * p.row_stride, p.row_stride, block_end - block, k, k_end, space.rows, depth_block);
            const Operand<A> low_rows = operand<A>(
                p.low_rows + block * p.low_depth * A::depth_per_word, p.low_depth * A::depth_per_word, block_end - block, 0,
                k_end < p.depth ? 0 : p.low_depth, space.low_rows, p.low_depth);
            if (p.columns == panel_width) {
                multiply_tiles<A, A::tile_rows, A::tile_columns>(
                    p, rows, low_rows, block, block, block_end, k, k_end, space.sums);
            } else {
                multiply_tiles<A, A::narrow_tile_rows, 1>(p, rows, low_rows, block, block, block_end, k, k_end, space.sums);
            }
        }
    }
}

// sums[k][c] = sum over rows of small[row][k] rows[row][first + c] for 64 columns; transposed is what transpose_small makes.
template <class A>
void multiply_columns(
    const typename A::Word *transposed, int64_t padded_rank, int64_t stride, const typename A::Element *rows, int64_t row_stride,
    int64_t num_rows, int64_t first, const ThreadSpace<A> &space) {
    constexpr int64_t d = A::depth_per_word, tile_rows = 4, tile_width = A::tile_columns * register_lanes;
    const int64_t width = row_stride - first;
    std::memset(space.sums, 0, size_t(padded_rank) * panel_width * sizeof(float));
    for (int64_t block = 0; block < num_rows; block += token_block) {
        const int64_t count = std::min(token_block, num_rows - block);
        for (int64_t row = 0; row < count; row += d) {
            const auto load = [&](int64_t r, int64_t column) {
                return row + r < count ? A::load(rows + (block + row + r) * row_stride + first + column, width - column)
                                       : A::zero_words();
            };
            pack_row<A>(load, space.panel + row / d * panel_width);
        }
        for (int64_t k = 0; k < padded_rank; k += tile_rows) {
            for (int64_t column = 0; column < panel_width; column += tile_width) {
                float *memory = space.sums + k * panel_width + column;
                typename A::Sums sums[tile_rows][A::tile_columns];
#pragma clang loop unroll(full)
                for (int r = 0; r < tile_rows; r++) {
                    for (int c = 0; c < A::tile_columns; c++) sums[r][c] = A::load_sums(memory + r * panel_width + c * register_lanes);
                }
                multiply<A, tile_rows, A::tile_columns>(
                    transposed + k * stride + block / d, stride, space.panel + column, panel_width, divided_up(count, d), sums);
#pragma clang loop unroll(full)
                for (int r = 0; r < tile_rows; r++) {
                    for (int c = 0; c < A::tile_columns; c++) A::store_sums(memory + r * panel_width + c * register_lanes, sums[r][c]);
                }
            }
        }
    }
}

// totals[k][c] = the sum over all segments of what multiply_columns makes of each.
template <class A>
void add_columns_of_segments(
    const CKernelsSegments &segments, const typename A::Word *transposed, int64_t padded_rank, int64_t stride,
    const typename A::Element *rows, int64_t row_stride, int64_t first, const ThreadSpace<A> &space) {
    std::fill_n(space.totals, padded_rank * panel_width, 0.0);
    int64_t row = 0;
    for (int64_t segment = 0; segment < segments.count; segment++) {
        const int64_t length = segments.lengths[segment];
        multiply_columns<A>(transposed, padded_rank, stride, rows + row * row_stride, row_stride, length, first, space);
        for (int64_t i = 0; i < padded_rank * panel_width; i++) space.totals[i] += double(space.sums[i]);
        row += length;
        transposed += divided_up(length, A::depth_per_word);
    }
}

}  // namespace linear
