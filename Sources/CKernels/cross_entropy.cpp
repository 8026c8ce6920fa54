// Cross entropy of a linear head: targets divided over threads, rows of W made ready for the tiles of a group.
#include <string.h>

#include <type_traits>

#include "cross_entropy_tile.h"
#include "parallel.h"

using namespace cross_entropy;

namespace {

// Tiles of a group, over which the packing of W spreads.
constexpr int64_t max_tiles = 8;

// How targets are divided over threads, and where each thread's memory is. Results do not depend on it.
struct Plan {
    int64_t num_tiles, group_tiles, num_groups;
    // Bytes of a thread: scores and probabilities of a block, copied rows, transposed rows; then for each tile of a group
    // the hidden states and the gradient.
    int64_t scores, probabilities, rows, transposed, hidden, gradient;

    Plan(int64_t num_targets, int64_t hidden_size, bool with_gradient, int64_t num_threads) {
        num_tiles = (num_targets + tile_size - 1) / tile_size;
        const int64_t threads = std::max<int64_t>(num_threads, 1);
        // As few rounds as the largest group allows, and then all of them equally full.
        const int64_t rounds = std::max<int64_t>((num_tiles + threads * max_tiles - 1) / (threads * max_tiles), 1);
        group_tiles = std::max<int64_t>((num_tiles + threads * rounds - 1) / (threads * rounds), 1);
        num_groups = (num_tiles + group_tiles - 1) / group_tiles;
        const int64_t padded = rounded_up(hidden_size, 32);
        scores = block_size * tile_size * 4;
        probabilities = with_gradient ? block_size * tile_size * 2 : 0;
        rows = rounded_up(block_size * hidden_size * 2, 64);
        transposed = with_gradient ? padded * block_size * 2 : 0;
        hidden = padded * tile_size * 2;
        gradient = with_gradient ? padded * tile_size * 4 : 0;
    }

    int64_t bytes_per_thread() const {
        return scores + probabilities + rows + transposed + group_tiles * (hidden + gradient);
    }
};

}  // namespace

int64_t ckernels_cross_entropy_workspace_bytes(
    int64_t num_targets, int64_t hidden_size, int32_t with_gradient, int32_t num_threads) {
    const Plan plan(num_targets, hidden_size, with_gradient != 0, num_threads);
    return plan.bytes_per_thread() * std::min<int64_t>(std::max(num_threads, 1), plan.num_groups);
}

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

namespace {

// Chooses whether the rows of a block are read as they lie: not if there are too few or their pairs are not aligned.
void set_rows(const Problem &problem, Block &block, bfloat16 *copy) {
    const bfloat16 *source = problem.weight + block.first * problem.weight_stride;
    if (block.count % row_step == 0 && problem.weight_stride % 2 == 0 && reinterpret_cast<uintptr_t>(source) % 4 == 0) {
        block.rows = reinterpret_cast<const uint32_t *>(source);
        block.stride = problem.weight_stride / 2;
        return;
    }
    const int64_t size = problem.hidden_size;
    for (int64_t v = 0; v < block.count; v++) memcpy(copy + v * size, source + v * problem.weight_stride, size * 2);
    memset(copy + block.count * size, 0, (block.padded_count() - block.count) * size * 2);
    block.rows = reinterpret_cast<const uint32_t *>(copy);
    block.stride = size / 2;
}

void transpose_rows(int64_t hidden_size, Block &block) {
    const bfloat16 *rows = reinterpret_cast<const bfloat16 *>(block.rows);
    for (int64_t v = 0; v < block.padded_count(); v += 32) {
        for (int64_t d = 0; d < hidden_size; d += 32) {
            __m512i low[lanes], high[lanes];
            for (int64_t i = 0; i < lanes; i++) {
                __m512i pair[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
                for (int64_t j = 0; j < 2 && v + 2 * i < block.padded_count(); j++) {
                    pair[j] = vnni::load_up_to(rows + (v + 2 * i + j) * block.stride * 2 + d, hidden_size - d);
                }
                vnni::pairs_of_rows(pair[0], pair[1], low[i], high[i]);
            }
            vnni::transpose(low);
            vnni::transpose(high);
            for (int64_t i = 0; i < lanes; i++) {
                _mm512_storeu_si512(block.transposed + (d + i) * (block_size / 2) + v / 2, low[i]);
                _mm512_storeu_si512(block.transposed + (d + lanes + i) * (block_size / 2) + v / 2, high[i]);
            }
        }
    }
}

// Calls body with the number of columns that hold `count` targets, as a constant. Three columns would cost what four do.
template <class Body> void with_columns(int64_t count, const Body &body) {
    if (count <= lanes) return body(std::integral_constant<int, 1>());
    if (count <= 2 * lanes) return body(std::integral_constant<int, 2>());
    body(std::integral_constant<int, 4>());
}

// Computes a group of tiles in a thread's memory.
void compute_group(
    const Problem &problem, const Plan &plan, int64_t group, char *memory, float *losses, bfloat16 *gradient) {
    auto take = [&memory](int64_t bytes) {
        char *taken = memory;
        memory += bytes;
        return bytes == 0 ? nullptr : taken;
    };
    Block block;
    block.scores = reinterpret_cast<float *>(take(plan.scores));
    block.probabilities = reinterpret_cast<uint32_t *>(take(plan.probabilities));
    bfloat16 *copy = reinterpret_cast<bfloat16 *>(take(plan.rows));
    block.transposed = reinterpret_cast<uint32_t *>(take(plan.transposed));

    Tile tiles[max_tiles];
    const int64_t first_tile = group * plan.group_tiles;
    const int64_t count = std::min(plan.num_tiles - first_tile, plan.group_tiles);
    for (int64_t t = 0; t < count; t++) {
        Tile &tile = tiles[t];
        tile.first = (first_tile + t) * tile_size;
        tile.count = std::min(problem.num_targets - tile.first, tile_size);
        tile.hidden = reinterpret_cast<uint32_t *>(take(plan.hidden));
        tile.gradient = reinterpret_cast<float *>(take(plan.gradient));
        std::fill_n(tile.largest, tile_size, -INFINITY);
        std::fill_n(tile.sum, tile_size, 0.0f);
        with_columns(tile.count, [&](auto columns) { pack_hidden<columns>(problem, tile); });
    }
    for (block.first = 0; block.first < problem.vocabulary_size; block.first += block_size) {
        block.count = std::min(problem.vocabulary_size - block.first, block_size);
        set_rows(problem, block, copy);
        if (gradient) transpose_rows(problem.hidden_size, block);
        for (int64_t t = 0; t < count; t++) {
            with_columns(tiles[t].count, [&](auto columns) { add_block<columns>(problem, block, tiles[t]); });
        }
    }
    for (int64_t t = 0; t < count; t++) {
        float scale[tile_size], label_scale[tile_size];
        finish_losses(tiles[t], losses, scale, label_scale);
        if (!gradient) continue;
        with_columns(tiles[t].count, [&](auto columns) {
            finish_gradient<columns>(problem, tiles[t], scale, label_scale, gradient);
        });
    }
}

}  // namespace

CKERNELS_VNNI_END

namespace {

bool is_valid(const Problem &problem) {
    if (problem.hidden_size % 2 != 0 || !ckernels_isa_is_supported(CKERNELS_ISA_AVX512_BF16)) return false;
    return std::all_of(problem.labels, problem.labels + problem.num_targets, [&](int64_t label) {
        return label >= 0 && label < problem.vocabulary_size;
    });
}

}  // namespace

int32_t ckernels_cross_entropy(
    CKernelsLinearHead head, int64_t num_targets, const int64_t *positions, const int64_t *labels, CKernelsThreads threads,
    void *workspace, float *losses, uint16_t *gradient) {
    const Problem problem{head, num_targets, positions, labels};
    if (!is_valid(problem)) return -1;
    const Plan plan(num_targets, head.hidden_size, gradient != nullptr, threads.count);
    for_each_item(threads, plan.num_groups, [&](int64_t group, int32_t thread) {
        char *memory = static_cast<char *>(workspace) + thread * plan.bytes_per_thread();
        compute_group(problem, plan, group, memory, losses, gradient);
    });
    return 0;
}

#else

int32_t ckernels_cross_entropy(
    CKernelsLinearHead, int64_t, const int64_t *, const int64_t *, CKernelsThreads, void *, float *, uint16_t *) {
    return -1;
}

#endif
