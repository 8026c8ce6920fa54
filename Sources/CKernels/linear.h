// Pieces of the linear layer's two passes: packing of operands, and the products with them.
//
// A panel is 64 columns of an operand, four registers, for each pair of the depth: [depth][4][16] pairs. Rows of the other operand
// are read where they lie, two numbers broadcast at a time.
#pragma once

#include <cstring>

#include "ckernels_linear.h"
#include "parallel.h"
#include "vnni.h"
#include "workspace.h"

#if CKERNELS_X86

namespace linear {

using vnni::bfloat16;

inline constexpr int panel_columns = 4;
inline constexpr int panel_width = panel_columns * vnni::lanes;
// Pairs of the depth that are multiplied at once: 24 KiB of a panel stay in the first-level cache.
inline constexpr int64_t depth_block = 96;
// Rows that share such a piece of a panel before the next: their sums are 32 KiB.
inline constexpr int64_t row_block = 128;

// What one thread works in.
struct ThreadSpace {
    bfloat16 *tile;       // [64, 64], a decoded piece of the weight
    uint32_t *panel;      // [depth][4][16]
    uint32_t *low_panel;  // [padded rank / 2][4][16]
    float *sums;          // [row_block][4][16]; or [padded rank][64] of a gradient

    ThreadSpace(Workspace &workspace, int64_t depth, int64_t padded_rank)
        : tile(workspace.take<bfloat16>(panel_width * panel_width)),
          panel(workspace.take<uint32_t>(std::max(rounded_up(depth, 32), row_block / 2) * panel_width)),
          low_panel(workspace.take<uint32_t>(padded_rank / 2 * panel_width)),
          sums(workspace.take<float>(std::max(row_block, padded_rank) * panel_width)) {}
};

// MARK: Packing

// Columns [first, first + 64) of W^T: outputs of the layer; depth is columns / 2. Outputs beyond the last are zero.
void pack_outputs(const CKernelsPanels &weight, int64_t first, const ThreadSpace &space);

// Columns [first, first + 64) of W: inputs of the layer; depth is rows / 2. Inputs beyond the last are zero.
void pack_inputs(const CKernelsPanels &weight, int64_t first, const ThreadSpace &space);

// Rows [first, first + 64) of the low-rank B, transposed: depth is the padded rank / 2.
void pack_low_outputs(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, int64_t first, uint32_t *panel);

// Columns [first, first + 64) of the low-rank A: depth is the padded rank / 2.
void pack_low_inputs(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, int64_t first, uint32_t *panel);

// A as [padded rank / 16][columns / 2][16] pairs along the columns, for products with rows of x.
void pack_a(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, uint32_t *packed);

// B as [padded rank / 16][rows / 2][16] pairs along the rows, for products with rows of dy.
void pack_b(const CKernelsPanels &weight, const CKernelsLowRank &low_rank, uint32_t *packed);

// MARK: Products

// Rows times a panel, and a low-rank term in the same sums.
struct Product {
    const bfloat16 *rows;
    int64_t row_stride;
    const uint32_t *panel;
    int64_t depth;
    // Added to every row: [width] or null.
    const bfloat16 *bias;
    // [rows, padded rank]; its depth 0 for none.
    const bfloat16 *low_rows;
    const uint32_t *low_panel;
    int64_t low_depth;
    // Where the low-rank term counts, from this panel's first column on; null: everywhere.
    const uint8_t *kept;
    int64_t kept_stride;
    bfloat16 *output;
    int64_t output_stride;
    // Columns of the panel that exist.
    int64_t width;
};

// Computes rows [begin, end) of the product; sums is a thread's.
void multiply_rows(const Product &product, int64_t begin, int64_t end, float *sums);

// small[row] = scale * rows[row] packed, rows [begin, end): [rows, padded rank] from what pack_a and pack_b make.
void multiply_small(
    const bfloat16 *rows, int64_t row_stride, const uint32_t *packed, int64_t depth, float scale, bfloat16 *small,
    int64_t padded_rank, int64_t begin, int64_t end);

// small as pairs along the rows: [padded rank][padded rows / 2], rows beyond the last zero, for multiply_columns.
void transpose_small(
    const bfloat16 *small, int64_t padded_rank, int64_t num_rows, int64_t padded_rows, uint32_t *transposed);

// sums[k][c] = sum over rows of small[row][k] rows[row][first + c] for 64 columns.
void multiply_columns(
    const uint32_t *transposed, int64_t padded_rank, int64_t padded_rows, const bfloat16 *rows, int64_t row_stride,
    int64_t num_rows, int64_t first, const ThreadSpace &space);

}  // namespace linear

#endif
