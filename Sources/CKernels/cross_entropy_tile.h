// Cross entropy of a linear head, with its gradient, in one pass over the vocabulary.
//
// The gradient of a target's loss, softmax(h W^T) W - W[label], is attention with W for both keys and values. So the
// recurrence of online softmax serves for it, and of the logits only those of one block of W's rows exist at a time:
//
//     S = W_block h^T;  m' = max(m, S);  P = 2^(S log2(e) - m');  a = 2^(m - m');  l = l a + sum P;  g = g a + W_block^T P
//
// P and l leave the label's own term out; it comes in at the end in float32, as (p - 1) W[label] with 1 - p = l / (l + e),
// e = 2^(S[label] log2(e) - m). To subtract numbers that are almost equal would leave nothing of a small loss.
//
// A tile is up to 64 targets, 16 a column; lanes of registers are targets, so nothing is ever summed across lanes, and what
// a target gets does not depend on which others share its tile.
#pragma once

#include "arithmetic.h"
#include "cross_entropy.h"

namespace cross_entropy {

using arithmetic::multiply;
using arithmetic::register_lanes;

// The running state of a tile.
template <class A> struct Tile {
    // The first target, and how many there are.
    int64_t first, count;
    // m and l of the equations above, and S[label].
    float largest[tile_size], sum[tile_size], label_score[tile_size];
    // Words, for each of the depth the tile's columns.
    typename A::Word *hidden;
    // g, for each element of the depth the tile's columns.
    float *gradient;
};

// Rows of W in work. `rows` are words as `multiply` wants them: as they lie if they can be read so, else a copy.
template <class A> struct Block {
    int64_t first, count;
    const typename A::Word *rows;
    ptrdiff_t stride;
    // W_block^T, words along the rows: for each element of the depth block_size / depth_per_word of them.
    typename A::Word *transposed;
    float *scores;
    typename A::Word *probabilities;

    // Rows that are computed.
    static constexpr int64_t padded(int64_t count) { return rounded_up(count, row_step); }
};

// Columns that are multiplied at once, and rows: as many sums as there are registers for.
template <class A, int Columns> inline constexpr int columns_at_once = Columns < A::tile_columns ? Columns : A::tile_columns;
template <class A, int Columns> inline constexpr int rows_at_once = 4 * A::tile_columns / columns_at_once<A, Columns>;

template <class A, int Columns> void pack_hidden(const Problem &problem, Tile<A> &tile) {
    constexpr int64_t d = A::depth_per_word;
    for (int64_t column = 0; column < Columns; column++) {
        for (int64_t k = 0; k < problem.hidden_size; k += register_lanes * d) {
            typename A::Words block[register_lanes];
            for (int64_t i = 0; i < register_lanes; i++) {
                const int64_t target = column * register_lanes + i;
                block[i] = A::zero_words();
                if (target >= tile.count) continue;
                const int64_t position = problem.positions[tile.first + target];
                block[i] = A::load(problem.hidden + position * problem.hidden_stride + k, problem.hidden_size - k);
            }
            A::transpose(block);
            for (int64_t i = 0; i < register_lanes; i++) {
                A::store_words(tile.hidden + ((k / d + i) * Columns + column) * register_lanes, block[i]);
            }
        }
    }
}

// S of a block and its largest element for each target; -infinity in the rows that fill the block up.
template <class A, int Columns>
void compute_scores(const Block<A> &block, const Tile<A> &tile, int64_t hidden_size, typename A::Sums (&largest)[Columns]) {
    constexpr int Wide = columns_at_once<A, Columns>, Rows = rows_at_once<A, Columns>;
    constexpr int64_t step = depth_step / Columns;
    const typename A::Sums nothing = A::splat(-INFINITY);
    for (int c = 0; c < Columns; c++) largest[c] = nothing;
    const int64_t depth = hidden_size / A::depth_per_word, num_rows = block.padded(block.count);
    for (int64_t k = 0; k < depth; k += step) {
        const bool is_last = k + step >= depth;
        for (int64_t v = 0; v < num_rows; v += Rows) {
#pragma clang loop unroll(full)
            for (int first = 0; first < Columns; first += Wide) {
                float *scores = block.scores + (v * Columns + first) * register_lanes;
                typename A::Sums s[Rows][Wide];
#pragma clang loop unroll(full)
                for (int r = 0; r < Rows; r++)
                    for (int c = 0; c < Wide; c++)
                        s[r][c] = k == 0 ? A::zero_sums() : A::load_sums(scores + (r * Columns + c) * register_lanes);
                multiply<A, Rows, Wide>(
                    block.rows + v * block.stride + k, block.stride, tile.hidden + (k * Columns + first) * register_lanes,
                    Columns * register_lanes, std::min(depth - k, step), s);
#pragma clang loop unroll(full)
                for (int r = 0; r < Rows; r++)
                    for (int c = 0; c < Wide; c++) {
                        if (is_last) {
                            if (v + r >= block.count) s[r][c] = nothing;
                            largest[first + c] = A::max(largest[first + c], s[r][c]);
                        }
                        A::store_sums(scores + (r * Columns + c) * register_lanes, s[r][c]);
                    }
            }
        }
    }
}

// Keeps the scores of the labels that are in the block and takes them out of it.
template <class A, int Columns> void take_labels(const Problem &problem, const Block<A> &block, Tile<A> &tile) {
    for (int64_t i = 0; i < tile.count; i++) {
        const int64_t row = problem.labels[tile.first + i] - block.first;
        if (row < 0 || row >= block.count) continue;
        float &score = block.scores[row * Columns * register_lanes + i];
        tile.label_score[i] = score;
        score = -INFINITY;
    }
}

// P of a column, if it is wanted, and its sum; updates m and l. Returns a.
//
// A NaN among the scores may be lost to m, as A::max goes, but not to the sum.
template <class A, int Columns>
typename A::Sums exponentiate(const Block<A> &block, Tile<A> &tile, int column, const typename A::Sums &block_largest) {
    using Sums = typename A::Sums;
    constexpr int64_t d = A::depth_per_word;
    const Sums scale = A::splat(arithmetic::log2_e);
    const Sums old = A::load_sums(tile.largest + column * register_lanes);
    const Sums largest = A::max(old, block_largest * scale);
    const Sums decay = A::exp2(old - largest);
    Sums sums[2] = {A::zero_sums(), A::zero_sums()};
    for (int64_t v = 0; v < block.padded(block.count); v += 4) {
        for (int64_t i = 0; i < 2; i++) {
            const float *scores = block.scores + ((v + 2 * i) * Columns + column) * register_lanes;
            const Sums p[2] = {
                A::exp2(A::multiply_add(A::load_sums(scores), scale, -largest)),
                A::exp2(A::multiply_add(A::load_sums(scores + Columns * register_lanes), scale, -largest))};
            sums[i] = sums[i] + (p[0] + p[1]);
            if (!block.probabilities) continue;
            for (int64_t row = 0; row < 2; row += d) {
                A::store_words(
                    block.probabilities + ((v + 2 * i + row) / d * Columns + column) * register_lanes, A::zip_sums(p + row));
            }
        }
    }
    const Sums sum = A::load_sums(tile.sum + column * register_lanes);
    A::store_sums(tile.largest + column * register_lanes, largest);
    A::store_sums(tile.sum + column * register_lanes, A::multiply_add(sum, decay, sums[0] + sums[1]));
    return decay;
}

// g = g a + W_block^T P.
template <class A, int Columns>
void add_gradient(const Block<A> &block, const Tile<A> &tile, int64_t hidden_size, const typename A::Sums (&decay)[Columns]) {
    constexpr int Wide = columns_at_once<A, Columns>, Rows = rows_at_once<A, Columns>;
    constexpr int64_t stride = block_size / A::depth_per_word;
    for (int64_t k = 0; k < rounded_up(hidden_size, row_step); k += Rows) {
#pragma clang loop unroll(full)
        for (int first = 0; first < Columns; first += Wide) {
            float *gradient = tile.gradient + (k * Columns + first) * register_lanes;
            typename A::Sums g[Rows][Wide];
#pragma clang loop unroll(full)
            for (int r = 0; r < Rows; r++)
                for (int c = 0; c < Wide; c++)
                    g[r][c] = block.first == 0
                        ? A::zero_sums()
                        : decay[first + c] * A::load_sums(gradient + (r * Columns + c) * register_lanes);
            multiply<A, Rows, Wide>(
                block.transposed + k * stride, stride, block.probabilities + first * register_lanes,
                Columns * register_lanes, block.padded(block.count) / A::depth_per_word, g);
#pragma clang loop unroll(full)
            for (int r = 0; r < Rows; r++)
                for (int c = 0; c < Wide; c++) A::store_sums(gradient + (r * Columns + c) * register_lanes, g[r][c]);
        }
    }
}

template <class A, int Columns> void add_block(const Problem &problem, const Block<A> &block, Tile<A> &tile) {
    typename A::Sums largest[Columns], decay[Columns];
    compute_scores<A, Columns>(block, tile, problem.hidden_size, largest);
    take_labels<A, Columns>(problem, block, tile);
    for (int c = 0; c < Columns; c++) decay[c] = exponentiate<A, Columns>(block, tile, c, largest[c]);
    if (tile.gradient) add_gradient<A, Columns>(block, tile, problem.hidden_size, decay);
}

// Writes the losses; leaves in `scale` and `label_scale` what g and W[label] are multiplied by.
template <class A> void finish_losses(const Tile<A> &tile, float *losses, float *scale, float *label_scale) {
    for (int64_t i = 0; i < tile.count; i++) {
        const float others = tile.sum[i];
        const float label = exp2f(fmaf(tile.label_score[i], arithmetic::log2_e, -tile.largest[i]));
        // The first form keeps small losses precise, the second does not divide by a label's term that is nothing.
        losses[tile.first + i] = label > 1e-30f
            ? log1pf(others / label)
            : fmaf(tile.largest[i], arithmetic::ln_2, logf(others + label)) - tile.label_score[i];
        scale[i] = 1 / (others + label);
        label_scale[i] = -others / (others + label);
    }
}

// Writes the rows g / (l + e) + (p - 1) W[label].
template <class A, int Columns>
void finish_gradient(
    const Problem &problem, const Tile<A> &tile, const float *scale, const float *label_scale, typename A::Element *output) {
    const int64_t size = problem.hidden_size;
    for (int64_t column = 0; column < Columns; column++) {
        for (int64_t k = 0; k < size; k += register_lanes) {
            typename A::Sums block[register_lanes];
            for (int64_t i = 0; i < register_lanes; i++) {
                block[i] = A::load_sums(tile.gradient + ((k + i) * Columns + column) * register_lanes);
            }
            A::transpose_sums(block);
            for (int64_t i = 0; i < register_lanes && column * register_lanes + i < tile.count; i++) {
                const int64_t t = column * register_lanes + i;
                const auto *row = problem.weight + problem.labels[tile.first + t] * problem.weight_stride + k;
                const typename A::Sums result = A::multiply_add(
                    A::splat(label_scale[t]), A::load_elements(row, size - k), A::splat(scale[t]) * block[i]);
                A::store(output + (tile.first + t) * size + k, result, size - k);
            }
        }
    }
}

}  // namespace cross_entropy
