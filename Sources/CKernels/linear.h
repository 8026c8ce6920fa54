// Pieces of the linear layer's two passes, for any arithmetic (arithmetic.h): packing of operands, and the products with them.
//
// A panel is 64 columns of an operand: [depth in words][64]. Rows of the other operand are read where they lie if their elements
// make words as they are, else widened a block at a time.
#pragma once

#include <algorithm>
#include <cstring>

#include "ckernels_linear.h"
#include "isa.h"
#include "parallel.h"
#include "workspace.h"

namespace linear {

// The rank as u is stored is a multiple of this.
inline constexpr int64_t rank_step = 16;
inline constexpr int64_t panel_width = 64;
// Words of the depth that are multiplied at once: 24 KiB of a panel stay in the first-level cache.
inline constexpr int64_t depth_block = 96;
// Tokens that are multiplied at once where they are the depth.
inline constexpr int64_t token_block = 128;

// The passes in one arithmetic, by the signatures of ckernels_linear.h.
struct Passes {
    // What rows and columns must be multiples of.
    int64_t multiple;
    int64_t (*workspace_bytes)(
        int64_t rows, int64_t columns, int64_t rank, int64_t tokens, int64_t num_segments, int32_t threads);
    void (*forward)(
        CKernelsThreads threads, const CKernelsPanels &weight, const CKernelsLowRank &low_rank, int64_t tokens, const void *x,
        const void *low_x, const void *bias, void *u, void *y, void *workspace);
    void (*backward)(
        CKernelsThreads threads, const CKernelsPanels &weight, const CKernelsLowRank &low_rank, CKernelsSegments segments,
        const void *low_x, const void *u, const void *dy, void *dx, double *da, double *db, void *workspace);
};

// bfloat16 activations, products of bfloat16 numbers.
extern const Passes passes_avx512_bf16;
// bfloat16 or float32 activations, products of float32 numbers.
// By the number of the element type.
extern const Passes passes_avx512[2];
extern const Passes passes_avx2[2];

}  // namespace linear
