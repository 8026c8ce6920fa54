// What the parts of the linear head's cross entropy share, whatever computes.
#pragma once

#include <math.h>

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "CKernels.h"
#include "isa.h"
#include "parallel.h"
#include "workspace.h"

namespace cross_entropy {

// Targets of a tile.
inline constexpr int64_t tile_size = 64;
// Tiles of a group, over which the packing of W spreads.
inline constexpr int64_t max_tiles = 8;
// Rows of W in a block, a multiple of `row_step`.
inline constexpr int64_t block_size = 128;
// Rows of a block are computed in multiples of this, the largest number of rows that are multiplied at once.
inline constexpr int64_t row_step = 16;
// Words of the depth times columns that are multiplied at once: 24 KiB, which stay in the first cache.
inline constexpr int64_t depth_step = 384;

struct Problem : CKernelsLinearHead {
    int64_t num_targets;
    const int64_t *positions, *labels;
};

// How targets are divided over threads. Results do not depend on it.
struct Plan {
    int64_t num_tiles, group_tiles, num_groups;
    // Bytes of a thread, in the arithmetic's `bytes_per_thread`.
    int64_t bytes_per_thread;
};

// The kernel in one arithmetic.
struct Kernel {
    // What the hidden size must be a multiple of.
    int64_t multiple;
    // Bytes of a thread for groups of so many tiles.
    int64_t (*bytes_per_thread)(int64_t hidden_size, bool with_gradient, int64_t group_tiles);
    // Computes a group of tiles in a thread's memory.
    void (*compute_group)(
        const Problem &problem, const Plan &plan, int64_t group, char *memory, float *losses, uint16_t *gradient);
};

// Products of bfloat16 numbers.
extern const Kernel kernel_avx512_bf16;
// Products of float32 numbers.
extern const Kernel kernel_avx512;
extern const Kernel kernel_avx2;

}  // namespace cross_entropy
