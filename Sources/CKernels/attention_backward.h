// Causal attention, backward: one tile of queries.
#pragma once

#include <cstring>

#include "attention_tile.h"

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

namespace attention {

// What backward reads.
struct Inputs {
    CKernelsHeads query, key, value, output, output_gradient;
    const float *log_sum_exp;
};

// Keys and values of a problem, and where the sums of their gradients are: [padded keys][width] each.
struct Packed {
    const uint32_t *keys;             // rows
    const uint32_t *transposed_keys;  // blocks
    const uint32_t *values;           // rows
    float *key_sums;
    float *value_sums;
};

// Pairs of a tile's queries.
inline constexpr int64_t query_pairs = columns * column_tokens / 2;

// What a tile is computed in.
struct Scratch {
    uint32_t *query_depth;     // queries in the form depth
    uint32_t *gradient_depth;  // the output's gradient in the form depth
    uint32_t *query_rows;      // queries in the form queries
    uint32_t *gradient_rows;   // the output's gradient in the form queries
    uint32_t *weights;         // P^T: [64 keys][32 pairs of queries]
    uint32_t *scores;          // dS^T, the same
    uint32_t *score_pairs;     // dS^T: [32 pairs of keys][4][16]
    float *sums;               // [width][4][16]: of the queries' gradient

    Scratch(Workspace &workspace, const Shape &shape)
        : query_depth(workspace.take<uint32_t>(shape.row_pairs * columns * lanes)),
          gradient_depth(workspace.take<uint32_t>(shape.row_pairs * columns * lanes)),
          query_rows(workspace.take<uint32_t>(query_pairs * shape.width)),
          gradient_rows(workspace.take<uint32_t>(query_pairs * shape.width)),
          weights(workspace.take<uint32_t>(block_keys * query_pairs)),
          scores(workspace.take<uint32_t>(block_keys * query_pairs)),
          score_pairs(workspace.take<uint32_t>(block_keys / 2 * columns * lanes)),
          sums(workspace.take<float>(shape.width * columns * lanes)) {}
};

// What a query's softmax and its gradient need: log-sum-exp in units of log 2, and the sum of output times its gradient.
struct Softmax {
    __m512 log_sum[columns];
    __m512 projection[columns];
};

CKERNELS_INLINE void load_softmax(
    const Plan &plan, const Inputs &inputs, const Column &column, int c, Softmax &softmax) {
    float log_sum[lanes], projection[lanes];
    for (int i = 0; i < lanes; i++) {
        // A lane that is no query: no weight.
        log_sum[i] = 1e30f;
        projection[i] = 0;
        if (i >= column.count) continue;
        const int64_t token = column.first + i;
        log_sum[i] = inputs.log_sum_exp[column.head * plan.num_tokens + token] * vnni::log2_e;
        const bfloat16 *output = at(inputs.output, token, column.head);
        const bfloat16 *gradient = at(inputs.output_gradient, token, column.head);
        __m512 sum = _mm512_setzero_ps();
        for (int64_t d = 0; d < plan.shape.head_size; d += 2 * lanes) {
            sum = vnni::dot(sum, load_row(plan.shape, output, true, d), load_row(plan.shape, gradient, true, d));
        }
        projection[i] = _mm512_reduce_add_ps(sum);
    }
    softmax.log_sum[c] = _mm512_loadu_ps(log_sum);
    softmax.projection[c] = _mm512_loadu_ps(projection);
}

// A column of queries (or of gradients) with pairs along the queries.
CKERNELS_INLINE void pack_queries(
    const Shape &shape, const CKernelsHeads &input, const Column &column, int c, uint32_t *packed) {
    for (int64_t pair = 0; pair < column_tokens / 2; pair++) {
        const bool has_first = 2 * pair < column.count, has_second = 2 * pair + 1 < column.count;
        const bfloat16 *row = at(input, column.first + (has_first ? 2 * pair : 0), column.head);
        const bfloat16 *next = at(input, column.first + (has_second ? 2 * pair + 1 : 0), column.head);
        for (int64_t d = 0; d < shape.width; d += 2 * lanes) {
            __m512i low, high;
            vnni::pairs_of_rows(load_row(shape, row, has_first, d), load_row(shape, next, has_second, d), low, high);
            const int64_t chunk = d / 64 * 64;
            uint32_t *target = packed + chunk * query_pairs
                + (c * column_tokens / 2 + pair) * std::min<int64_t>(64, shape.width - chunk) + (d - chunk);
            _mm512_storeu_si512(target, low);
            if (d + lanes < shape.width) _mm512_storeu_si512(target + lanes, high);
        }
    }
}

// Rows of four keys as pairs of queries, [4][32 pairs].
CKERNELS_INLINE void store_query_pairs(const __m512 (&rows)[4][columns], uint32_t *target) {
    for (int r = 0; r < 4; r++) {
        for (int c = 0; c < columns; c += 2) {
            _mm512_storeu_si512(target + r * query_pairs + c * lanes / 2, vnni::narrowed(rows[r][c], rows[r][c + 1]));
        }
    }
}

// P^T of four keys from `key` on: float32, and in pairs of queries.
CKERNELS_INLINE void weigh(
    const Shape &shape, const Tile &tile, int64_t key, bool is_masked, const uint32_t *key_rows, const Softmax &softmax,
    const Scratch &scratch, float (&weights)[4][columns][lanes], uint32_t *pairs) {
    const __m512 scale = _mm512_set1_ps(shape.scale * vnni::log2_e);
    __m512 a[4][columns];
    clear(a);
    vnni::multiply(key_rows, shape.row_pairs, scratch.query_depth, shape.pairs, a);
    for (int r = 0; r < 4; r++) {
        for (int c = 0; c < columns; c++) a[r][c] = vnni::exp2(_mm512_fmsub_ps(a[r][c], scale, softmax.log_sum[c]));
    }
    if (is_masked) {
        for (int r = 0; r < 4; r++) {
            for (int c = 0; c < columns; c++) a[r][c] = _mm512_maskz_mov_ps(seeing(shape, tile.column[c], key + r), a[r][c]);
        }
    }
    for (int r = 0; r < 4; r++) {
        for (int c = 0; c < columns; c++) _mm512_storeu_ps(weights[r][c], a[r][c]);
    }
    store_query_pairs(a, pairs);
}

// dS^T = P^T (V dO^T - projection) of four keys, in pairs of queries and of keys.
CKERNELS_INLINE void differentiate_scores(
    const Shape &shape, const uint32_t *value_rows, const Softmax &softmax, const Scratch &scratch,
    const float (&weights)[4][columns][lanes], uint32_t *pairs, uint32_t *key_pairs) {
    __m512 a[4][columns];
    clear(a);
    vnni::multiply(value_rows, shape.row_pairs, scratch.gradient_depth, shape.pairs, a);
    for (int r = 0; r < 4; r++) {
        for (int c = 0; c < columns; c++) {
            a[r][c] = _mm512_mul_ps(_mm512_loadu_ps(weights[r][c]), _mm512_sub_ps(a[r][c], softmax.projection[c]));
        }
    }
    store_query_pairs(a, pairs);
    for (int r = 0; r < 4; r += 2) {
        for (int c = 0; c < columns; c++) {
            _mm512_storeu_si512(
                key_pairs + (r / 2 * columns + c) * lanes, vnni::pairs_of_halves(vnni::narrowed(a[r][c], a[r + 1][c])));
        }
    }
}

// sums += rows packed, for Columns registers of the head size: [keys][32 pairs] times [32 pairs][Columns][16].
template <int Rows, int Columns>
CKERNELS_INLINE void add_chunk(
    const uint32_t *rows, int64_t count, const uint32_t *packed, float *sums, int64_t width) {
    for (int64_t j = 0; j < count; j += Rows) {
        __m512 a[Rows][Columns];
        for (int r = 0; r < Rows; r++) {
            for (int c = 0; c < Columns; c++) a[r][c] = _mm512_loadu_ps(sums + (j + r) * width + c * lanes);
        }
        vnni::multiply(rows + j * query_pairs, query_pairs, packed, query_pairs, a);
        for (int r = 0; r < Rows; r++) {
            for (int c = 0; c < Columns; c++) _mm512_storeu_ps(sums + (j + r) * width + c * lanes, a[r][c]);
        }
    }
}

// sums [keys][width] += rows times queries; as many rows at once as keep about 16 sums in registers.
CKERNELS_INLINE void add_rows(
    const Shape &shape, const uint32_t *rows, int64_t count, const uint32_t *packed, float *sums) {
    for (int64_t d = 0; d < shape.width; d += 64) {
        const uint32_t *chunk = packed + d * query_pairs;
        switch (std::min<int64_t>(4, (shape.width - d) / lanes)) {
        case 1: add_chunk<16, 1>(rows, count, chunk, sums + d, shape.width); break;
        case 2: add_chunk<8, 2>(rows, count, chunk, sums + d, shape.width); break;
        case 3: add_chunk<4, 3>(rows, count, chunk, sums + d, shape.width); break;
        default: add_chunk<4, 4>(rows, count, chunk, sums + d, shape.width); break;
        }
    }
}

// Adds what a tile gives to the gradients of keys and values, and writes its queries' gradient.
inline void differentiate(
    const Plan &plan, const Inputs &inputs, const Segment &segment, int64_t head, int64_t index, const Packed &packed,
    const Scratch &scratch, const CKernelsMutableHeads &query_gradient) {
    const Shape shape = plan.shape;
    const Tile tile = make_tile(shape, segment, head, index);
    Softmax softmax;
    for (int c = 0; c < columns; c++) {
        pack_depth(shape, inputs.query, tile.column[c], c, scratch.query_depth);
        pack_depth(shape, inputs.output_gradient, tile.column[c], c, scratch.gradient_depth);
        pack_queries(shape, inputs.query, tile.column[c], c, scratch.query_rows);
        pack_queries(shape, inputs.output_gradient, tile.column[c], c, scratch.gradient_rows);
        load_softmax(plan, inputs, tile.column[c], c, softmax);
    }
    memset(scratch.sums, 0, size_t(shape.width * columns * lanes) * sizeof(float));
    for (int64_t k = tile.begin; k < tile.end;) {
        const Keys keys = keys_of(shape, tile, k);
        const int64_t block = k / block_keys, row = k * shape.row_pairs;
        for (int64_t j = 0; j < keys.count; j += 4) {
            // Not kept in registers: the products need them all.
            float weights[4][columns][lanes];
            weigh(
                shape, tile, k + j, keys.is_masked, packed.keys + row + j * shape.row_pairs, softmax, scratch, weights,
                scratch.weights + j * query_pairs);
            differentiate_scores(
                shape, packed.values + row + j * shape.row_pairs, softmax, scratch, weights, scratch.scores + j * query_pairs,
                scratch.score_pairs + j / 2 * columns * lanes);
        }
        add_rows(shape, scratch.weights, keys.count, scratch.gradient_rows, packed.value_sums + k * shape.width);
        add_rows(shape, scratch.scores, keys.count, scratch.query_rows, packed.key_sums + k * shape.width);
        add_columns(
            shape, packed.transposed_keys + block_offset(shape, block) + k % block_keys / 2, block_pairs(segment, block),
            scratch.score_pairs, keys.count / 2, nullptr, scratch.sums);
        k += keys.count;
    }
    for (int c = 0; c < columns; c++) {
        store_column(shape, scratch.sums, c, tile.column[c], _mm512_set1_ps(shape.scale), query_gradient);
    }
}

// Writes the gradient of a block's keys or values: the parts' sums, in order, times a factor.
//
// sums: of the first part; those of the next lie 2 * padded * width further.
CKERNELS_INLINE void store_sums(
    const Shape &shape, const Segment &segment, int64_t head, int64_t block, const float *sums, int64_t parts, float factor,
    const CKernelsMutableHeads &output) {
    const int64_t next_part = 2 * segment.padded() * shape.width;
    const int64_t end = std::min(segment.length, (block + 1) * block_keys);
    for (int64_t key = block * block_keys; key < end; key++) {
        bfloat16 *row = at(output, segment.first_token + key, head);
        for (int64_t d = 0; d < shape.width; d += lanes) {
            __m512 sum = _mm512_setzero_ps();
            for (int64_t part = 0; part < parts; part++) {
                sum = _mm512_add_ps(sum, _mm512_loadu_ps(sums + part * next_part + key * shape.width + d));
            }
            const __m256i narrow = vnni::narrowed(_mm512_mul_ps(sum, _mm512_set1_ps(factor)));
            _mm256_mask_storeu_epi16(row + d, vnni::first_of_16(shape.head_size - d), narrow);
        }
    }
}

}  // namespace attention

CKERNELS_VNNI_END

#endif
