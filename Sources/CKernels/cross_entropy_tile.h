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

#include <math.h>

#include <algorithm>

#include "CKernels.h"
#include "vnni.h"

#pragma clang fp contract(off)

namespace cross_entropy {

// Targets of a tile.
inline constexpr int64_t tile_size = 64;
// Rows of W in a block, a multiple of `row_step`.
inline constexpr int64_t block_size = 128;
// Rows of a block are computed in multiples of this, the largest number of rows that `multiply` takes at once.
inline constexpr int64_t row_step = 16;
// Pairs of the depth times columns that are multiplied at once: 24 KiB, which stay in the first cache.
inline constexpr int64_t depth_step = 384;

inline int64_t rounded_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

using vnni::bfloat16;
using vnni::lanes;

struct Problem : CKernelsLinearHead {
    int64_t num_targets;
    const int64_t *positions, *labels;
};

// The running state of a tile.
struct Tile {
    // The first target, and how many there are.
    int64_t first, count;
    // m and l of the equations above, and S[label].
    float largest[tile_size], sum[tile_size], label_score[tile_size];
    // Pairs, for each of the depth the tile's columns.
    uint32_t *hidden;
    // g, for each element of the depth the tile's columns.
    float *gradient;
};

// Rows of W in work. `rows` are pairs as `multiply` wants them: as they lie if they can be read so, else a copy.
struct Block {
    int64_t first, count;
    const uint32_t *rows;
    ptrdiff_t stride;
    // W_block^T, pairs along the rows: for each element of the depth block_size / 2 of them.
    uint32_t *transposed;
    float *scores;
    uint32_t *probabilities;

    int64_t padded_count() const { return rounded_up(count, row_step); }
};

// 16 sums in registers, whatever the number of columns.
template <int Columns> inline constexpr int rows_at_once = Columns == 1 ? 16 : Columns == 2 ? 8 : 4;

template <int Columns> void pack_hidden(const Problem &problem, Tile &tile) {
    for (int64_t column = 0; column < Columns; column++) {
        for (int64_t d = 0; d < problem.hidden_size; d += 32) {
            __m512i r[lanes];
            for (int64_t i = 0; i < lanes; i++) {
                const int64_t target = column * lanes + i;
                r[i] = _mm512_setzero_si512();
                if (target >= tile.count) continue;
                const int64_t position = problem.positions[tile.first + target];
                r[i] = vnni::load_up_to(problem.hidden + position * problem.hidden_stride + d, problem.hidden_size - d);
            }
            vnni::transpose(r);
            for (int64_t i = 0; i < lanes; i++) {
                _mm512_storeu_si512(tile.hidden + ((d / 2 + i) * Columns + column) * lanes, r[i]);
            }
        }
    }
}

// S of a block and its largest element for each target; -infinity in the rows that fill the block up.
template <int Columns>
void compute_scores(const Block &block, const Tile &tile, int64_t hidden_size, __m512 (&largest)[Columns]) {
    constexpr int Rows = rows_at_once<Columns>;
    constexpr int64_t step = depth_step / Columns;
    const __m512 nothing = _mm512_set1_ps(-INFINITY);
    for (int c = 0; c < Columns; c++) largest[c] = nothing;
    const int64_t depth = hidden_size / 2;
    for (int64_t k = 0; k < depth; k += step) {
        const bool is_last = k + step >= depth;
        for (int64_t v = 0; v < block.padded_count(); v += Rows) {
            float *scores = block.scores + v * Columns * lanes;
            __m512 s[Rows][Columns];
            for (int r = 0; r < Rows; r++)
                for (int c = 0; c < Columns; c++)
                    s[r][c] = k == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(scores + (r * Columns + c) * lanes);
            vnni::multiply<Rows, Columns>(
                block.rows + v * block.stride + k, block.stride, tile.hidden + k * Columns * lanes,
                std::min(depth - k, step), s);
            for (int r = 0; r < Rows; r++)
                for (int c = 0; c < Columns; c++) {
                    if (is_last) {
                        if (v + r >= block.count) s[r][c] = nothing;
                        largest[c] = _mm512_max_ps(largest[c], s[r][c]);
                    }
                    _mm512_storeu_ps(scores + (r * Columns + c) * lanes, s[r][c]);
                }
        }
    }
}

// Keeps the scores of the labels that are in the block and takes them out of it.
template <int Columns> void take_labels(const Problem &problem, const Block &block, Tile &tile) {
    for (int64_t i = 0; i < tile.count; i++) {
        const int64_t row = problem.labels[tile.first + i] - block.first;
        if (row < 0 || row >= block.count) continue;
        float &score = block.scores[row * Columns * lanes + i];
        tile.label_score[i] = score;
        score = -INFINITY;
    }
}

// P of a column, if it is wanted, and its sum; updates m and l. Returns a.
//
// A NaN among the scores may be lost to m, as _mm512_max_ps goes, but not to the sum.
template <int Columns> __m512 exponentiate(const Block &block, Tile &tile, int column, __m512 block_largest) {
    const __m512 scale = _mm512_set1_ps(vnni::log2_e);
    const __m512 old = _mm512_loadu_ps(tile.largest + column * lanes);
    const __m512 largest = _mm512_max_ps(old, _mm512_mul_ps(block_largest, scale));
    const __m512 decay = vnni::exp2(_mm512_sub_ps(old, largest));
    __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t v = 0; v < block.padded_count(); v += 4) {
        for (int64_t i = 0; i < 2; i++) {
            const float *scores = block.scores + ((v + 2 * i) * Columns + column) * lanes;
            const __m512 even = vnni::exp2(_mm512_fmsub_ps(_mm512_loadu_ps(scores), scale, largest));
            const __m512 odd = vnni::exp2(_mm512_fmsub_ps(_mm512_loadu_ps(scores + Columns * lanes), scale, largest));
            sums[i] = _mm512_add_ps(sums[i], _mm512_add_ps(even, odd));
            if (!block.probabilities) continue;
            _mm512_storeu_si512(
                block.probabilities + ((v / 2 + i) * Columns + column) * lanes,
                vnni::pairs_of_halves(vnni::narrowed(even, odd)));
        }
    }
    const __m512 sum = _mm512_loadu_ps(tile.sum + column * lanes);
    _mm512_storeu_ps(tile.largest + column * lanes, largest);
    _mm512_storeu_ps(tile.sum + column * lanes, _mm512_fmadd_ps(sum, decay, _mm512_add_ps(sums[0], sums[1])));
    return decay;
}

// g = g a + W_block^T P.
template <int Columns>
void add_gradient(const Block &block, const Tile &tile, int64_t hidden_size, const __m512 (&decay)[Columns]) {
    constexpr int Rows = rows_at_once<Columns>;
    for (int64_t d = 0; d < rounded_up(hidden_size, 32); d += Rows) {
        float *gradient = tile.gradient + d * Columns * lanes;
        __m512 g[Rows][Columns];
        for (int r = 0; r < Rows; r++)
            for (int c = 0; c < Columns; c++)
                g[r][c] = block.first == 0
                    ? _mm512_setzero_ps()
                    : _mm512_mul_ps(decay[c], _mm512_loadu_ps(gradient + (r * Columns + c) * lanes));
        vnni::multiply<Rows, Columns>(
            block.transposed + d * (block_size / 2), block_size / 2, block.probabilities, block.padded_count() / 2, g);
        for (int r = 0; r < Rows; r++)
            for (int c = 0; c < Columns; c++) _mm512_storeu_ps(gradient + (r * Columns + c) * lanes, g[r][c]);
    }
}

template <int Columns> void add_block(const Problem &problem, const Block &block, Tile &tile) {
    __m512 largest[Columns], decay[Columns];
    compute_scores(block, tile, problem.hidden_size, largest);
    take_labels<Columns>(problem, block, tile);
    for (int c = 0; c < Columns; c++) decay[c] = exponentiate<Columns>(block, tile, c, largest[c]);
    if (tile.gradient) add_gradient(block, tile, problem.hidden_size, decay);
}

// Writes the losses; leaves in `scale` and `label_scale` what g and W[label] are multiplied by.
inline void finish_losses(const Tile &tile, float *losses, float *scale, float *label_scale) {
    for (int64_t i = 0; i < tile.count; i++) {
        const float others = tile.sum[i];
        const float label = exp2f(fmaf(tile.label_score[i], vnni::log2_e, -tile.largest[i]));
        // The first form keeps small losses precise, the second does not divide by a label's term that is nothing.
        losses[tile.first + i] = label > 1e-30f
            ? log1pf(others / label)
            : fmaf(tile.largest[i], vnni::ln_2, logf(others + label)) - tile.label_score[i];
        scale[i] = 1 / (others + label);
        label_scale[i] = -others / (others + label);
    }
}

// Writes the rows g / (l + e) + (p - 1) W[label].
template <int Columns>
void finish_gradient(
    const Problem &problem, const Tile &tile, const float *scale, const float *label_scale,
    bfloat16 *output) {
    const int64_t size = problem.hidden_size;
    for (int64_t column = 0; column < Columns; column++) {
        for (int64_t d = 0; d < size; d += 32) {
            __m512i low[lanes], high[lanes];
            for (int64_t i = 0; i < lanes; i++) {
                low[i] = _mm512_loadu_si512(tile.gradient + ((d + i) * Columns + column) * lanes);
                high[i] = _mm512_loadu_si512(tile.gradient + ((d + lanes + i) * Columns + column) * lanes);
            }
            vnni::transpose(low);
            vnni::transpose(high);
            for (int64_t i = 0; i < lanes && column * lanes + i < tile.count; i++) {
                const int64_t t = column * lanes + i;
                const bfloat16 *row = problem.weight + problem.labels[tile.first + t] * problem.weight_stride + d;
                const __m512i weight = vnni::load_up_to(row, size - d);
                const __m512 s = _mm512_set1_ps(scale[t]), p = _mm512_set1_ps(label_scale[t]);
                const __m512 first = _mm512_fmadd_ps(
                    p, vnni::widened(_mm512_castsi512_si256(weight)), _mm512_mul_ps(s, _mm512_castsi512_ps(low[i])));
                const __m512 second = _mm512_fmadd_ps(
                    p, vnni::widened(_mm512_extracti64x4_epi64(weight, 1)), _mm512_mul_ps(s, _mm512_castsi512_ps(high[i])));
                _mm512_mask_storeu_epi16(
                    output + (tile.first + t) * size + d, vnni::first_of_32(size - d), vnni::narrowed(first, second));
            }
        }
    }
}

CKERNELS_VNNI_END

#endif

}  // namespace cross_entropy
