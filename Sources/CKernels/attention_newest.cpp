// Attention of the newest token to all keys before it: pieces of the keys on their own, then joined.
#include <cmath>

#include "ckernels_attention.h"
#include "panels.h"
#include "parallel.h"
#include "workspace.h"

namespace {

// Keys of a piece. Their number does not depend on that of the threads, so no result does.
constexpr int64_t piece_keys = 256;
// Keys, of all key/value heads together, that take long enough to be given to another thread: about 5 us.
constexpr int64_t keys_of_thread = 1024;
// Query heads that share the reading of keys and values.
constexpr int most_heads = 4;

int64_t num_pieces(const CKernelsNewest &newest) { return divided_up(newest.num_keys, piece_keys); }

// What a piece leaves of a head: the sum of values weighted by exp2(score - highest), and the sum of the weights.
struct Partial {
    float *values;   // [head size, rounded up to 32]
    float *highest;  // the highest score, times log2 e
    float *weight;

    Partial(void *workspace, const CKernelsNewest &newest, int64_t head, int64_t piece) {
        const int64_t width = rounded_up(newest.head_size, 32);
        values = reinterpret_cast<float *>(rounded_up(reinterpret_cast<int64_t>(workspace), 64))
            + (head * num_pieces(newest) + piece) * (width + 16);
        highest = values + width;
        weight = highest + 1;
    }
};

}  // namespace

int64_t ckernels_attention_newest_workspace_bytes(const CKernelsNewest *newest) {
    const int64_t floats = rounded_up(newest->head_size, 32) + 16;
    return newest->num_heads * num_pieces(*newest) * floats * int64_t(sizeof(float)) + 64;
}

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

namespace {

using namespace vnni;

// A piece of the keys and some query heads that read one key/value head.
struct Piece {
    const CKernelsNewest &newest;
    const bfloat16 *query;  // [Heads, head size]
    const bfloat16 *keys;
    const bfloat16 *values;
    int64_t count;
};

// scores[h][n] = query h times key n.
template <int Heads>
CKERNELS_INLINE void score(const Piece &piece, float (&scores)[Heads][piece_keys]) {
    const int64_t size = piece.newest.head_size, stride = piece.newest.key.token_stride;
    for (int64_t n = 0; n < piece.count; n += 4) {
        __m512 totals[4][Heads] = {};
        for (int64_t c = 0; c < size; c += 32) {
            __m512i query[Heads];
            for (int h = 0; h < Heads; h++) query[h] = load_up_to(piece.query + h * size + c, size - c);
            for (int k = 0; k < 4; k++) {
                // A key beyond the last is the last again.
                const int64_t row = std::min(n + k, piece.count - 1);
                const __m512i key = load_up_to(piece.keys + row * stride + c, size - c);
                for (int h = 0; h < Heads; h++) totals[k][h] = dot(totals[k][h], key, query[h]);
            }
        }
        for (int h = 0; h < Heads; h++) {
            _mm_storeu_ps(scores[h] + n, panels::sums_of_lanes(totals[0][h], totals[1][h], totals[2][h], totals[3][h]));
        }
    }
}

// Scores to weights, in place; returns the highest score and the sum of the weights.
CKERNELS_INLINE void weigh(float *scores, int64_t count, float scale, const Partial &partial) {
    const __m512 factor = _mm512_set1_ps(scale * log2_e);
    __m512 highest = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int64_t n = 0; n < count; n += lanes) {
        const __mmask16 mask = first_of_16(count - n);
        const __m512 score = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, scores + n), factor);
        _mm512_storeu_ps(scores + n, score);
        highest = _mm512_mask_max_ps(highest, mask, score, highest);
    }
    *partial.highest = _mm512_reduce_max_ps(highest);
    for (int64_t n = 0; n < count; n += lanes) {
        const __m512 score = _mm512_sub_ps(_mm512_loadu_ps(scores + n), _mm512_set1_ps(*partial.highest));
        const __m512 weight = _mm512_maskz_mov_ps(first_of_16(count - n), exp2(score));
        _mm512_storeu_ps(scores + n, weight);
        sum = _mm512_add_ps(sum, weight);
    }
    *partial.weight = _mm512_reduce_add_ps(sum);
}

// The values' sums, weighted by each head's weights.
template <int Heads>
CKERNELS_INLINE void add_values(const Piece &piece, const float (&weights)[Heads][piece_keys], float *const (&output)[Heads]) {
    const int64_t size = piece.newest.head_size, stride = piece.newest.value.token_stride;
    for (int64_t c = 0; c < size; c += 32) {
        __m512 low[Heads] = {}, high[Heads] = {};
        for (int64_t n = 0; n < piece.count; n++) {
            const __m512i both = load_up_to(piece.values + n * stride + c, size - c);
            const __m512 first = widened(_mm512_castsi512_si256(both)), second = widened(_mm512_extracti64x4_epi64(both, 1));
            for (int h = 0; h < Heads; h++) {
                const __m512 weight = _mm512_set1_ps(weights[h][n]);
                low[h] = _mm512_fmadd_ps(first, weight, low[h]);
                high[h] = _mm512_fmadd_ps(second, weight, high[h]);
            }
        }
        for (int h = 0; h < Heads; h++) {
            _mm512_storeu_ps(output[h] + c, low[h]);
            _mm512_storeu_ps(output[h] + c + lanes, high[h]);
        }
    }
}

template <int Heads>
void attend(const CKernelsNewest &newest, int64_t head, int64_t index, void *workspace) {
    const int64_t shared = head / (newest.num_heads / newest.num_key_value_heads), first = index * piece_keys;
    const Piece piece{
        .newest = newest, .query = newest.query + head * newest.head_size,
        .keys = newest.key.data + first * newest.key.token_stride + shared * newest.key.head_stride,
        .values = newest.value.data + first * newest.value.token_stride + shared * newest.value.head_stride,
        .count = std::min(piece_keys, newest.num_keys - first)};
    alignas(64) float scores[Heads][piece_keys];
    float *output[Heads];
    score(piece, scores);
    for (int h = 0; h < Heads; h++) {
        const Partial partial(workspace, newest, head + h, index);
        weigh(scores[h], piece.count, newest.scale, partial);
        output[h] = partial.values;
    }
    add_values(piece, scores, output);
}

// All query heads that read a key/value head, a piece of its keys.
void attend_all(const CKernelsNewest &newest, int64_t shared, int64_t index, void *workspace) {
    using Function = void (*)(const CKernelsNewest &, int64_t, int64_t, void *);
    static constexpr Function functions[most_heads] = {attend<1>, attend<2>, attend<3>, attend<4>};
    const int64_t group = newest.num_heads / newest.num_key_value_heads;
    for (int64_t h = 0; h < group; h += most_heads) {
        functions[std::min<int64_t>(most_heads, group - h) - 1](newest, shared * group + h, index, workspace);
    }
}

// The output of a head from those of its pieces.
void join(const CKernelsNewest &newest, int64_t head, void *workspace) {
    const int64_t count = num_pieces(newest), size = newest.head_size;
    float highest = -INFINITY, weight = 0;
    for (int64_t p = 0; p < count; p++) highest = std::max(highest, *Partial(workspace, newest, head, p).highest);
    for (int64_t p = 0; p < count; p++) {
        const Partial partial(workspace, newest, head, p);
        weight += *partial.weight * std::exp2(*partial.highest - highest);
    }
    for (int64_t c = 0; c < size; c += lanes) {
        __m512 sum = _mm512_setzero_ps();
        for (int64_t p = 0; p < count; p++) {
            const Partial partial(workspace, newest, head, p);
            const __m512 factor = _mm512_set1_ps(std::exp2(*partial.highest - highest) / weight);
            sum = _mm512_fmadd_ps(_mm512_loadu_ps(partial.values + c), factor, sum);
        }
        _mm256_mask_storeu_epi16(newest.output + head * size + c, first_of_16(size - c), narrowed(sum));
    }
}

}  // namespace

CKERNELS_VNNI_END

int32_t ckernels_attention_newest(CKernelsThreads threads, const CKernelsNewest *newest, void *workspace) {
    if (!ckernels_attention_is_supported(newest->head_size)) return -1;
    const int64_t pieces = num_pieces(*newest), items = pieces * newest->num_key_value_heads;
    threads.count = int32_t(std::min<int64_t>(threads.count, 1 + newest->num_keys * newest->num_key_value_heads / keys_of_thread));
    for_each_item(threads, items, [&](int64_t item, int32_t) {
        attend_all(*newest, item / pieces, item % pieces, workspace);
    });
    for (int64_t head = 0; head < newest->num_heads; head++) join(*newest, head, workspace);
    return 0;
}

#else

int32_t ckernels_attention_newest(CKernelsThreads, const CKernelsNewest *, void *) { return -1; }

#endif
