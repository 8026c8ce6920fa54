// Weights as kernels of products read them: tiles of numbers, or products with few tokens, whatever the storage.
#ifndef CKERNELS_PANELS_H
#define CKERNELS_PANELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The most tokens that CKernelsPanels.multiply takes.
enum { CKERNELS_PANELS_MOST_TOKENS = 8 };

// The scales of blocks: float32 numbers, or 8-bit codes of them, levels[codes[block]] * scales[block / block_size] + offset.
typedef struct {
    const float *scales;
    // Null for plain scales, which need nothing below either.
    const uint8_t *codes;
    // float32 [256].
    const float *levels;
    int64_t block_size;
    float offset;
} CKernelsScales;

// A weight [rows, columns] in some storage, and the functions that read it. Whoever makes one keeps its memory alive.
typedef struct CKernelsPanels {
    int64_t rows;
    int64_t columns;
    // Decodes rows [row_begin, row_end) and columns [column_begin, column_end) to bfloat16, rounded once: the first element to
    // output[0], one row to the next `stride` elements. May be called on several threads at once.
    void (*decode)(
        const struct CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
        uint16_t *output, int64_t stride);
    // The same to float32, on any instruction set that has the kernel of linear layers.
    void (*decode_float32)(
        int32_t isa, const struct CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin,
        int64_t column_end, float *output, int64_t stride);
    // Arranges a token, bfloat16 [columns], as multiply takes it; null: as it lies.
    void (*arrange)(const struct CKernelsPanels *weight, const uint16_t *x, uint16_t *output);
    // sums[t * stride + r - row_begin] = row r of the decoded weight times token t, for rows [row_begin, row_end) and up to
    // CKERNELS_PANELS_MOST_TOKENS tokens; x: bfloat16 [tokens, columns], arranged. Adds in float32, in an order that depends on
    // neither the range nor the other tokens, and reads the storage once. Needs AVX512-BF16. May be called on several threads
    // at once.
    void (*multiply)(
        const struct CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t tokens, const uint16_t *x, float *sums,
        int64_t stride);
    // The storage: elements or codes, row-major without gaps; scales of blocks and levels of codes where it has them.
    const void *elements;
    CKernelsScales scales;
    // A power of two.
    int64_t block_size;
    float levels[16];
    // The row of the storage that is row 0 of the weight: elements and blocks are counted from the storage's beginning.
    int64_t first_row;
} CKernelsPanels;

// bfloat16 elements as they are.
CKernelsPanels ckernels_panels_bfloat16(const void *elements, int64_t rows, int64_t columns);

// 4-bit codes and the largest magnitude of each block; arguments as of ckernels_fourbit_dequantize. Subnormal results may be zero.
//
// The weight is `rows` rows of the storage from first_row on, which may begin and end within a block.
CKernelsPanels ckernels_panels_fourbit(
    const float *codebook, const void *packed, CKernelsScales absmax, int64_t block_size, int64_t first_row, int64_t rows,
    int64_t columns);

#ifdef __cplusplus
}
#endif

#endif
