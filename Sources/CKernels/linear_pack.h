// Packing of the linear layer's operands into panels.
#pragma once

#include "linear_space.h"

namespace linear {

// A row of 64 words from `depth_per_word` rows of 64 numbers; load(row, column) gives words of one of them.
template <class A, class Load> CKERNELS_INLINE void pack_row(const Load &load, typename A::Word *row) {
    constexpr int d = A::depth_per_word, registers = panel_width / register_lanes;
    typename A::Words words[registers];
    for (int r = 0; r < d; r++) {
        for (int i = 0; i < registers / d; i++) words[r * (registers / d) + i] = load(r, i * register_lanes * d);
    }
    A::interleave(words);
    for (int i = 0; i < registers; i++) A::store_words(row + i * register_lanes, words[i]);
}

// Sixteen columns of a panel from sixteen rows of numbers, words [0, count) of them; load(lane) gives a row's words.
template <class A, class Load>
CKERNELS_INLINE void pack_columns(const Load &load, int64_t count, typename A::Word *columns, int64_t stride) {
    typename A::Words block[register_lanes];
    for (int lane = 0; lane < register_lanes; lane++) block[lane] = load(lane);
    A::transpose(block);
    for (int64_t k = 0; k < std::min<int64_t>(register_lanes, count); k++) A::store_words(columns + k * stride, block[k]);
}

// The tile of a weight that begins at (row, column), zero beyond the weight's ends.
template <class A>
CKERNELS_INLINE void decode_tile(const CKernelsPanels &weight, int64_t row, int64_t column, typename A::Decoded *tile) {
    const int64_t row_end = std::min(row + panel_width, weight.rows);
    const int64_t column_end = std::min(column + panel_width, weight.columns);
    if (row_end - row < panel_width || column_end - column < panel_width) {
        std::memset(tile, 0, panel_width * panel_width * sizeof *tile);
    }
    A::decode(weight, row, row_end, column, column_end, tile, panel_width);
}

// Columns [first, first + 64) of W^T: outputs of the layer; the depth is the weight's columns. Outputs beyond the last are zero.
template <class A> void pack_outputs(const CKernelsPanels &weight, int64_t first, const ThreadSpace<A> &space) {
    constexpr int64_t d = A::depth_per_word;
    for (int64_t column = 0; column < weight.columns; column += panel_width) {
        decode_tile<A>(weight, first, column, space.tile);
        const int64_t end = std::min(column + panel_width, weight.columns);
        for (int64_t k = column; k < end; k += register_lanes * d) {
            for (int64_t c = 0; c < panel_width; c += register_lanes) {
                const auto load = [&](int64_t lane) {
                    return A::load_decoded(space.tile + (c + lane) * panel_width + k - column);
                };
                pack_columns<A>(load, (end - k) / d, space.panel + k / d * panel_width + c, panel_width);
            }
        }
    }
}

// Columns [first, first + 64) of W: inputs of the layer; the depth is the weight's rows. Inputs beyond the last are zero.
template <class A> void pack_inputs(const CKernelsPanels &weight, int64_t first, const ThreadSpace<A> &space) {
    constexpr int64_t d = A::depth_per_word;
    for (int64_t row = 0; row < weight.rows; row += panel_width) {
        decode_tile<A>(weight, row, first, space.tile);
        const int64_t count = std::min<int64_t>(panel_width, weight.rows - row);
        for (int64_t k = 0; k < count; k += d) {
            const auto load = [&](int64_t r, int64_t column) {
                return A::load_decoded(space.tile + (k + r) * panel_width + column);
            };
            pack_row<A>(load, space.panel + (row + k) / d * panel_width);
        }
    }
}

// Rows [first, first + 64) of the low-rank B, transposed: the depth is the padded rank.
template <class A>
void pack_low_outputs(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, int64_t first, typename A::Word *panel) {
    constexpr int64_t d = A::depth_per_word;
    const int64_t rank = low_rank.rank;
    for (int64_t c = 0; c < panel_width; c += register_lanes) {
        for (int64_t k = 0; k < rank; k += register_lanes * d) {
            const auto load = [&](int64_t lane) {
                const int64_t row = first + c + lane;
                return row < weight.rows ? A::load_numbers(low_rank.b + row * rank + k, rank - k) : A::zero_words();
            };
            pack_columns<A>(load, (rounded_up(rank, rank_step) - k) / d, panel + k / d * panel_width + c, panel_width);
        }
    }
}

// Columns [first, first + 64) of the low-rank A: the depth is the padded rank.
template <class A>
void pack_low_inputs(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, int64_t first, typename A::Word *panel) {
    constexpr int64_t d = A::depth_per_word;
    for (int64_t k = 0; k < rounded_up(low_rank.rank, rank_step); k += d) {
        const auto load = [&](int64_t r, int64_t c) {
            const int64_t column = first + c;
            return k + r < low_rank.rank && column < weight.columns
                ? A::load_numbers(low_rank.a + (k + r) * weight.columns + column, weight.columns - column)
                : A::zero_words();
        };
        pack_row<A>(load, panel + k / d * panel_width);
    }
}

// A for products with rows of x: the depth is the weight's columns.
template <class A>
void pack_a(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, const SmallPanels<A> &small) {
    constexpr int64_t d = A::depth_per_word;
    for (int64_t first = 0; first < low_rank.rank; first += register_lanes) {
        for (int64_t column = 0; column < weight.columns; column += register_lanes * d) {
            const auto load = [&](int64_t lane) {
                const int64_t row = first + lane;
                return row < low_rank.rank
                    ? A::load_numbers(low_rank.a + row * weight.columns + column, weight.columns - column)
                    : A::zero_words();
            };
            const int64_t width = small.width(first);
            pack_columns<A>(load, small.depth - column / d, small.column(first) + column / d * width, width);
        }
    }
}

// B for products with rows of dy: the depth is the weight's rows.
template <class A>
void pack_b(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, const SmallPanels<A> &small) {
    constexpr int64_t d = A::depth_per_word;
    const int64_t rank = low_rank.rank;
    for (int64_t first = 0; first < rank; first += register_lanes) {
        for (int64_t row = 0; row < weight.rows; row += d) {
            A::store_words(
                small.column(first) + row / d * small.width(first),
                A::zip_numbers(low_rank.b + row * rank + first, rank, rank - first));
        }
    }
}

// Rows of small, [rows, padded rank], as words along the rows: [padded rank][stride], each segment's from a word of its own on.
//
// Whole registers are written, zeros behind the last row of a segment; the next segment's go over them.
template <class A>
void transpose_small(
    const typename A::Element *small, int64_t padded_rank, int64_t num_rows, int64_t stride, typename A::Word *transposed) {
    constexpr int64_t d = A::depth_per_word;
    for (int64_t first = 0; first < padded_rank; first += register_lanes) {
        for (int64_t row = 0; row < num_rows; row += register_lanes * d) {
            typename A::Words block[register_lanes];
            for (int64_t k = 0; k < register_lanes; k++) {
                const int64_t at = row + k * d;
                block[k] = A::zip(small + at * padded_rank + first, padded_rank, num_rows - at, register_lanes);
            }
            A::transpose(block);
            for (int64_t k = 0; k < register_lanes; k++) A::store_words(transposed + (first + k) * stride + row / d, block[k]);
        }
    }
}

}  // namespace linear
