// Causal attention: a tile of queries, and packing.
//
// Scores are computed transposed, S^T[key][query], so that lanes are queries: maxima, sums, masks and rescaling need no sums
// across lanes, keys are read as rows, and two rows of weights make pairs along the keys by one conversion and one permutation.
//
// Packed forms, in pairs (32 bits):
//   rows      [padded keys][row_pairs], the head size as it lies, filled up with zero
//   blocks    for each 64 keys (the last perhaps fewer) [width][keys / 2]: transposed, pairs along the keys
//   depth     [row_pairs][4 columns][16 queries]: pairs along the head size
//   queries   for each 64 numbers of the head size (the last perhaps fewer) [32 pairs of queries][numbers]
#pragma once

#include "attention.h"
#include "vnni.h"

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

namespace attention {

using vnni::lanes;

// The first number of a head of a token.
CKERNELS_INLINE const bfloat16 *at(const CKernelsHeads &heads, int64_t token, int64_t head) {
    return heads.data + token * heads.token_stride + head * heads.head_stride;
}

CKERNELS_INLINE bfloat16 *at(const CKernelsMutableHeads &heads, int64_t token, int64_t head) {
    return heads.data + token * heads.token_stride + head * heads.head_stride;
}

// A column of a tile.
struct Column {
    int64_t head;     // query head
    int64_t first;    // token of the first lane, in the whole batch
    int64_t position;  // the same, in its segment
    int64_t count;    // lanes that are queries; none in a column that only fills up the last tile
};

// A tile and the keys that it sees: [begin, end), both multiples of 16.
struct Tile {
    Column column[columns];
    int64_t first_position;
    int64_t last_position;
    int64_t begin;
    int64_t end;
};

CKERNELS_INLINE Tile make_tile(const Shape &shape, const Segment &segment, int64_t head, int64_t index) {
    Tile tile;
    tile.first_position = index * columns / shape.group * column_tokens;
    tile.last_position = tile.first_position;
    for (int c = 0; c < columns; c++) {
        const int64_t i = index * columns + c;
        Column &column = tile.column[c];
        column.head = head * shape.group + i % shape.group;
        column.position = i / shape.group * column_tokens;
        column.count = std::clamp<int64_t>(segment.length - column.position, 0, column_tokens);
        // So that it does not widen what the tile sees.
        if (column.count == 0) column.position = tile.first_position;
        column.first = segment.first_token + column.position;
        tile.last_position = std::max(tile.last_position, column.position + column_tokens - 1);
    }
    tile.begin = std::max<int64_t>(0, tile.first_position - shape.window + 1) / column_tokens * column_tokens;
    tile.end = tile.last_position + 1;
    return tile;
}

// Keys of one block that a tile sees.
struct Keys {
    int64_t first;   // in the segment
    int64_t count;   // a multiple of 16
    bool is_masked;  // some query does not see some key
};

// The next keys from `first` on, up to the block's end.
CKERNELS_INLINE Keys keys_of(const Shape &shape, const Tile &tile, int64_t first) {
    const int64_t end = std::min(tile.end, first / block_keys * block_keys + block_keys);
    return Keys{first, end - first, end - 1 > tile.first_position || first + shape.window <= tile.last_position};
}

// The queries of a column that see a key: those from it on, and fewer than a window behind it.
CKERNELS_INLINE __mmask16 seeing(const Shape &shape, const Column &column, int64_t key) {
    const int64_t lane = key - column.position;
    return ~vnni::first_of_16(lane) & vnni::first_of_16(lane + shape.window);
}

// Where a block's transposed form begins, and the pairs of its rows.
CKERNELS_INLINE int64_t block_offset(const Shape &shape, int64_t block) { return block * block_keys / 2 * shape.width; }

CKERNELS_INLINE int64_t block_pairs(const Segment &segment, int64_t block) {
    return std::min(block_keys, segment.padded() - block * block_keys) / 2;
}

// Numbers d...d+31 of a row, zero from the head size on and for no row.
CKERNELS_INLINE __m512i load_row(const Shape &shape, const bfloat16 *row, bool exists, int64_t d) {
    return vnni::load_up_to(row + (exists ? d : 0), exists ? shape.head_size - d : 0);
}

// A block of keys or values as rows.
CKERNELS_INLINE void pack_rows(
    const Shape &shape, const Segment &segment, int64_t block, int64_t head, const CKernelsHeads &input, uint32_t *packed) {
    const int64_t end = std::min(segment.padded(), (block + 1) * block_keys);
    for (int64_t key = block * block_keys; key < end; key++) {
        const bool exists = key < segment.length;
        const bfloat16 *row = at(input, segment.first_token + (exists ? key : 0), head);
        for (int64_t pair = 0; pair < shape.row_pairs; pair += lanes) {
            _mm512_storeu_si512(packed + key * shape.row_pairs + pair, load_row(shape, row, exists, 2 * pair));
        }
    }
}

// A block of keys or values, transposed.
CKERNELS_INLINE void pack_block(
    const Shape &shape, const Segment &segment, int64_t block, int64_t head, const CKernelsHeads &input, uint32_t *packed) {
    const int64_t pairs = block_pairs(segment, block);
    packed += block_offset(shape, block);
    for (int64_t pair = 0; pair < pairs; pair += lanes) {
        for (int64_t d = 0; d < shape.width; d += 2 * lanes) {
            __m512i low[lanes], high[lanes];
            for (int i = 0; i < lanes; i++) {
                const int64_t key = block * block_keys + 2 * (pair + i);
                const bool has_first = key < segment.length, has_second = key + 1 < segment.length;
                const int64_t token = segment.first_token + (has_first ? key : 0);
                const bfloat16 *row = at(input, token, head);
                const bfloat16 *next = has_second ? at(input, token + 1, head) : row;
                vnni::pairs_of_rows(
                    load_row(shape, row, has_first, d), load_row(shape, next, has_second, d), low[i], high[i]);
            }
            vnni::transpose(low);
            vnni::transpose(high);
            const __mmask16 mask = vnni::first_of_16(pairs - pair);
            for (int i = 0; i < lanes; i++) {
                _mm512_mask_storeu_epi32(packed + (d + i) * pairs + pair, mask, low[i]);
                // The width is a multiple of 16, not of 32.
                if (d + lanes < shape.width) _mm512_mask_storeu_epi32(packed + (d + lanes + i) * pairs + pair, mask, high[i]);
            }
        }
    }
}

// A column of queries (or of gradients) with pairs along the head size.
CKERNELS_INLINE void pack_depth(const Shape &shape, const CKernelsHeads &input, const Column &column, int c, uint32_t *packed) {
    for (int64_t pair = 0; pair < shape.row_pairs; pair += lanes) {
        __m512i rows[lanes];
        for (int i = 0; i < lanes; i++) {
            const bool exists = i < column.count;
            rows[i] = load_row(shape, at(input, column.first + (exists ? i : 0), column.head), exists, 2 * pair);
        }
        vnni::transpose(rows);
        for (int i = 0; i < lanes; i++) _mm512_storeu_si512(packed + ((pair + i) * columns + c) * lanes, rows[i]);
    }
}

// A column transposed back, times a factor for each lane: [width][4 columns][16] float32 to the rows of its tokens.
CKERNELS_INLINE void store_column(
    const Shape &shape, const float *sums, int c, const Column &column, __m512 factor, const CKernelsMutableHeads &output) {
    for (int64_t d = 0; d < shape.width; d += 2 * lanes) {
        const bool has_high = d + lanes < shape.width;
        __m512i low[lanes], high[lanes];
        for (int i = 0; i < lanes; i++) {
            const float *row = sums + ((d + i) * columns + c) * lanes;
            low[i] = _mm512_castps_si512(_mm512_mul_ps(factor, _mm512_loadu_ps(row)));
            high[i] = has_high ? _mm512_castps_si512(_mm512_mul_ps(factor, _mm512_loadu_ps(row + lanes * columns * lanes)))
                               : _mm512_setzero_si512();
        }
        vnni::transpose(low);
        vnni::transpose(high);
        const __mmask32 mask = vnni::first_of_32(shape.head_size - d);
        for (int i = 0; i < column.count; i++) {
            _mm512_mask_storeu_epi16(
                at(output, column.first + i, column.head) + d, mask,
                vnni::narrowed(_mm512_castsi512_ps(low[i]), _mm512_castsi512_ps(high[i])));
        }
    }
}

CKERNELS_INLINE void clear(__m512 (&sums)[4][columns]) {
    for (auto &row : sums) {
        for (__m512 &sum : row) sum = _mm512_setzero_ps();
    }
}

// sums = sums * factors + block weights, for each row of the transposed keys or values: [width][pairs] times [pairs][4][16] into
// [width][4][16].
//
// factors: one for each query; null: none.
CKERNELS_INLINE void add_columns(
    const Shape &shape, const uint32_t *block, int64_t stride, const uint32_t *weights, int64_t pairs, const __m512 *factors,
    float *sums) {
    for (int64_t d = 0; d < shape.width; d += 4) {
        __m512 a[4][columns];
        float *row = sums + d * columns * lanes;
        for (int r = 0; r < 4; r++) {
            for (int c = 0; c < columns; c++) {
                a[r][c] = _mm512_loadu_ps(row + (r * columns + c) * lanes);
                if (factors) a[r][c] = _mm512_mul_ps(factors[c], a[r][c]);
            }
        }
        vnni::multiply(block + d * stride, stride, weights, pairs, a);
        for (int r = 0; r < 4; r++) {
            for (int c = 0; c < columns; c++) _mm512_storeu_ps(row + (r * columns + c) * lanes, a[r][c]);
        }
    }
}

}  // namespace attention

CKERNELS_VNNI_END

#endif
