// Causal attention, forward: the softmax of a tile's scores is taken block by block of keys, with a running maximum and sum.
//
// Source: Dao et al. 2022, "FlashAttention", algorithm 1; Milakov and Gimelshein 2018, "Online normalizer calculation for
// softmax".
#include <cfloat>
#include <cmath>
#include <cstring>

#include "attention_tile.h"
#include "parallel.h"

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

namespace attention {

namespace {

// What a tile is computed in.
struct Scratch {
    uint32_t *queries;  // depth
    float *scores;      // [64 keys][4][16]
    uint32_t *weights;  // [32 pairs of keys][4][16]
    float *sums;        // [width][4][16]: weights times values, not yet divided

    Scratch(Workspace &workspace, const Shape &shape)
        : queries(workspace.take<uint32_t>(shape.row_pairs * columns * lanes)),
          scores(workspace.take<float>(block_keys * columns * lanes)),
          weights(workspace.take<uint32_t>(block_keys / 2 * columns * lanes)),
          sums(workspace.take<float>(shape.width * columns * lanes)) {}
};

// The workspace of a call.
struct Memory {
    Segment *segments;
    uint32_t *keys;    // rows
    uint32_t *values;  // blocks
    PerThread<Scratch> scratch;

    Memory(Workspace &workspace, const CKernelsAttention &attention, int64_t threads)
        : Memory(workspace, attention, Shape(attention), Totals(attention).sums.rows, threads) {}

private:
    Memory(Workspace &workspace, const CKernelsAttention &attention, const Shape &shape, int64_t rows, int64_t threads)
        : segments(workspace.take<Segment>(attention.num_segments + 1)),
          keys(workspace.take<uint32_t>(rows * shape.heads * shape.row_pairs)),
          values(workspace.take<uint32_t>(rows * shape.heads / 2 * shape.width)), scratch(workspace, shape, threads) {}
};

// The softmax so far, for each query: scores are in units of log 2.
//
// A maximum of -FLT_MAX says that no score was above; the sum is of 2^(score - maximum).
struct Softmax {
    __m512 maximum[columns];
    __m512 sum[columns];
};

// scores = S^T of the keys, hidden ones -infinity, and their maxima.
CKERNELS_INLINE void score(
    const Shape &shape, const Tile &tile, const Keys &keys, const uint32_t *rows, const Scratch &scratch,
    __m512 (&maximum)[columns]) {
    const __m512 hidden = _mm512_set1_ps(-INFINITY);
    for (__m512 &m : maximum) m = hidden;
    for (int64_t j = 0; j < keys.count; j += 4) {
        __m512 a[4][columns];
        clear(a);
        vnni::multiply(rows + j * shape.row_pairs, shape.row_pairs, scratch.queries, shape.pairs, a);
        if (keys.is_masked) {
            for (int r = 0; r < 4; r++) {
                for (int c = 0; c < columns; c++) {
                    a[r][c] = _mm512_mask_mov_ps(hidden, seeing(shape, tile.column[c], keys.first + j + r), a[r][c]);
                }
            }
        }
        for (int r = 0; r < 4; r++) {
            for (int c = 0; c < columns; c++) {
                // A NaN may get lost here: the sum of the weights will be one all the same.
                maximum[c] = _mm512_max_ps(maximum[c], a[r][c]);
                _mm512_storeu_ps(scratch.scores + ((j + r) * columns + c) * lanes, a[r][c]);
            }
        }
    }
}

// weights = 2^(scores * scale - maximum) of one column, in pairs of keys; returns their sums.
template <bool IsMasked>
CKERNELS_INLINE __m512 weigh(
    const Shape &shape, const Column &column, int c, const Keys &keys, __m512 scale, __m512 maximum, const Scratch &scratch) {
    __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (int64_t j = 0; j < keys.count; j += 4) {
        __m512 p[4];
        for (int r = 0; r < 4; r++) {
            const __m512 s = _mm512_loadu_ps(scratch.scores + ((j + r) * columns + c) * lanes);
            p[r] = vnni::exp2(_mm512_fmsub_ps(s, scale, maximum));
            // exp2 never gives zero, and a query must not feel how many keys its tile has that it does not see.
            if (IsMasked) p[r] = _mm512_maskz_mov_ps(seeing(shape, column, keys.first + j + r), p[r]);
        }
        for (int half = 0; half < 2; half++) {
            const __m512 first = p[2 * half], second = p[2 * half + 1];
            sum[half] = _mm512_add_ps(sum[half], _mm512_add_ps(first, second));
            _mm512_storeu_si512(
                scratch.weights + ((j / 2 + half) * columns + c) * lanes,
                vnni::pairs_of_halves(vnni::narrowed(first, second)));
        }
    }
    return _mm512_add_ps(sum[0], sum[1]);
}

// Takes one block of keys and values into the softmax and the sums.
CKERNELS_INLINE void attend(
    const Shape &shape, const Tile &tile, const Keys &keys, const uint32_t *rows, const uint32_t *block, int64_t stride,
    const Scratch &scratch, Softmax &softmax) {
    __m512 largest[columns], factor[columns];
    score(shape, tile, keys, rows, scratch, largest);
    const __m512 scale = _mm512_set1_ps(shape.scale * vnni::log2_e);
    for (int c = 0; c < columns; c++) {
        const __m512 before = softmax.maximum[c];
        const __m512 maximum = _mm512_max_ps(before, _mm512_mul_ps(largest[c], scale));
        const __m512 sum = keys.is_masked ? weigh<true>(shape, tile.column[c], c, keys, scale, maximum, scratch)
                                          : weigh<false>(shape, tile.column[c], c, keys, scale, maximum, scratch);
        factor[c] = vnni::exp2(_mm512_sub_ps(before, maximum));
        softmax.maximum[c] = maximum;
        softmax.sum[c] = _mm512_fmadd_ps(softmax.sum[c], factor[c], sum);
    }
    add_columns(shape, block, stride, scratch.weights, keys.count / 2, factor, scratch.sums);
}

// Writes a column's output and log-sum-exp.
CKERNELS_INLINE void finish(
    const Shape &shape, const Column &column, int c, const Softmax &softmax, const float *sums,
    const CKernelsMutableHeads &output, float *log_sum_exp) {
    // Where every score was -infinity the quotient is 0 / 0.
    const __mmask16 is_empty = _mm512_cmp_ps_mask(softmax.maximum[c], _mm512_set1_ps(-FLT_MAX), _CMP_EQ_OQ);
    const __m512 sum = _mm512_mask_mov_ps(softmax.sum[c], is_empty, _mm512_set1_ps(NAN));
    store_column(shape, sums, c, column, _mm512_div_ps(_mm512_set1_ps(1), sum), output);
    float m[lanes], l[lanes];
    _mm512_storeu_ps(m, softmax.maximum[c]);
    _mm512_storeu_ps(l, sum);
    for (int i = 0; i < column.count; i++) log_sum_exp[i] = m[i] * vnni::ln_2 + logf(l[i]);
}

struct Call {
    Plan plan;
    Memory memory;
    CKernelsHeads query, key, value;
    CKernelsMutableHeads output;
    float *log_sum_exp;

    int64_t first_row(const Place &place) const {
        return place.segment->rows * plan.shape.heads + place.head * place.segment->padded();
    }

    void pack(int64_t item) const {
        const Shape &shape = plan.shape;
        const Place place = plan.place(item, &Segment::blocks);
        const int64_t first = first_row(place);
        pack_rows(shape, *place.segment, place.index, place.head, key, memory.keys + first * shape.row_pairs);
        pack_block(shape, *place.segment, place.index, place.head, value, memory.values + first / 2 * shape.width);
    }

    void compute(int64_t item, int32_t thread) const {
        const Shape shape = plan.shape;
        const Place place = plan.place(item, &Segment::tiles);
        const Segment &segment = *place.segment;
        const Scratch scratch = memory.scratch.of(thread);
        // The last tile sees most keys.
        const Tile tile = make_tile(shape, segment, place.head, place.count - 1 - place.index);
        const int64_t first = first_row(place);
        const uint32_t *rows = memory.keys + first * shape.row_pairs;
        const uint32_t *blocks = memory.values + first / 2 * shape.width;
        Softmax softmax;
        for (int c = 0; c < columns; c++) {
            pack_depth(shape, query, tile.column[c], c, scratch.queries);
            softmax.maximum[c] = _mm512_set1_ps(-FLT_MAX);
            softmax.sum[c] = _mm512_setzero_ps();
        }
        memset(scratch.sums, 0, size_t(shape.width * columns * lanes) * sizeof(float));
        for (int64_t k = tile.begin; k < tile.end;) {
            const Keys keys = keys_of(shape, tile, k);
            const int64_t block = k / block_keys;
            attend(
                shape, tile, keys, rows + k * shape.row_pairs,
                blocks + block_offset(shape, block) + k % block_keys / 2, block_pairs(segment, block), scratch, softmax);
            k += keys.count;
        }
        for (int c = 0; c < columns; c++) {
            const Column &column = tile.column[c];
            finish(
                shape, column, c, softmax, scratch.sums, output,
                log_sum_exp + column.head * plan.num_tokens + column.first);
        }
    }
};

}  // namespace

}  // namespace attention

CKERNELS_VNNI_END

#endif

int64_t ckernels_attention_forward_workspace_bytes(const CKernelsAttention *attention, int32_t threads) {
#if CKERNELS_X86
    Workspace workspace(0);
    attention::Memory(workspace, *attention, threads);
    return workspace.used() + Workspace::line;
#else
    return 0;
#endif
}

int32_t ckernels_attention_forward(
    CKernelsThreads threads, const CKernelsAttention *attention, CKernelsHeads query, CKernelsHeads key, CKernelsHeads value,
    CKernelsMutableHeads output, float *log_sum_exp, void *workspace) {
    if (!ckernels_attention_is_supported(attention->head_size)) return -1;
#if CKERNELS_X86
    Workspace pieces(reinterpret_cast<uintptr_t>(workspace));
    const attention::Memory memory(pieces, *attention, threads.count);
    const attention::Plan plan(*attention, memory.segments);
    const attention::Call call{plan, memory, query, key, value, output, log_sum_exp};
    using attention::Segment;
    for_each_item(threads, plan.count(&Segment::blocks), [&](int64_t item, int32_t) { call.pack(item); });
    for_each_item(
        threads, plan.count(&Segment::tiles), [&](int64_t item, int32_t thread) { call.compute(item, thread); });
#endif
    return 0;
}
