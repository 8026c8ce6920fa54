// Weights as kernels of products read them: tiles of bfloat16 numbers, whatever the storage.
#ifndef CKERNELS_PANELS_H
#define CKERNELS_PANELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A weight [rows, columns] in some storage, and the function that decodes it. Whoever makes one keeps its memory alive.
typedef struct CKernelsPanels {
    int64_t rows;
    int64_t columns;
    // Decodes rows [row_begin, row_end) and columns [column_begin, column_end) to bfloat16, rounded once: the first element to
    // output[0], one row to the next `stride` elements. May be called on several threads at once.
    void (*decode)(
        const struct CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
        uint16_t *output, int64_t stride);
    // The storage: elements or codes, row-major without gaps; scales of blocks and levels of codes where it has them.
    const void *elements;
    const float *scales;
    int64_t block_size;
    float levels[16];
} CKernelsPanels;

// bfloat16 elements as they are.
CKernelsPanels ckernels_panels_bfloat16(const void *elements, int64_t rows, int64_t columns);

// 4-bit codes and the largest magnitude of each block; arguments as of ckernels_fourbit_dequantize. Subnormal results may be zero.
CKernelsPanels ckernels_panels_fourbit(
    const float *codebook, const void *packed, const void *absmax, int64_t block_size, int64_t rows, int64_t columns);

#ifdef __cplusplus
}
#endif

#endif
