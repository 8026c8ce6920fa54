// A linear layer with a frozen weight in any storage and a low-rank term.
//
//   y = x W^T + b + u B^T,  u = s x' A^T
//
// x' is x, or x with some elements dropped. x, y, u, bias and their gradients are of one element type, CKERNELS_BFLOAT16 or
// CKERNELS_FLOAT32. Sums are float32 from end to end; y, u and dx are rounded once. Factors are bfloat16 numbers with
// CKERNELS_ISA_AVX512_BF16 and that element type, in all other cases float32: then neither weight nor A and B are rounded. A row's results
// depend on that row alone, and no result depends on the number of threads. CKERNELS_ISA_PORTABLE has no such kernel.
#ifndef CKERNELS_LINEAR_H
#define CKERNELS_LINEAR_H

#include "ckernels_panels.h"
#include "ckernels_threads.h"

#ifdef __cplusplus
extern "C" {
#endif

// The low-rank term s B A; a rank of 0 is none.
typedef struct {
    int64_t rank;
    float scale;
    // [rank, columns], float32.
    const float *a;
    // [rows, rank], float32.
    const float *b;
    // Which elements of x the term sees, one byte each, 0 for none: [tokens, columns]; null: all.
    const uint8_t *kept;
} CKernelsLowRank;

// The rank as u is stored: rounded up to a multiple of 16.
int64_t ckernels_linear_padded_rank(int64_t rank);

// Whether the kernel takes a weight: any with products of float32 numbers, else an even number of rows and of columns.
int32_t ckernels_linear_is_supported(int32_t isa, int32_t element_type, int64_t rows, int64_t columns);

// Bytes of the workspace that forward and backward need, and its alignment.
enum { CKERNELS_LINEAR_ALIGNMENT = 64 };
//
// num_segments: of backward; forward has none.
int64_t ckernels_linear_workspace_bytes(
    int32_t isa, int32_t element_type, int64_t rows, int64_t columns, int64_t rank, int64_t tokens, int64_t num_segments,
    int32_t threads);

// Computes y [tokens, rows] and u [tokens, padded rank].
//
// x: [tokens, columns], and where the term drops elements low_x the same with those zero, else null; bias: [rows] or null;
// u may be null for a rank of 0. All row-major without gaps.
void ckernels_linear_forward(
    int32_t isa, int32_t element_type, CKernelsThreads threads, const CKernelsPanels *weight, const CKernelsLowRank *low_rank,
    int64_t tokens, const void *x, const void *low_x, const void *bias, void *u, void *y, void *workspace);

// Computes y alone in products of bfloat16 numbers, for up to CKERNELS_PANELS_MOST_TOKENS tokens and a term that drops nothing.
//
// The weight is read once and multiplied in registers, so a product with one token takes as long as reading the weight. Its sums
// are added in another order than those of ckernels_linear_forward; what is rounded is the same. A token's output depends on
// neither the other tokens nor their number. Takes odd numbers of rows and of columns too. Needs AVX512-BF16.
void ckernels_linear_forward_few(
    CKernelsThreads threads, const CKernelsPanels *weight, const CKernelsLowRank *low_rank, int64_t tokens,
    const uint16_t *x, const uint16_t *bias, uint16_t *y, void *workspace);

// Bytes of the workspace that ckernels_linear_forward_few needs; its alignment does not matter.
int64_t ckernels_linear_few_workspace_bytes(const CKernelsPanels *weight, int64_t rank, int64_t tokens);

// Consecutive tokens whose part of a sum is a number by itself: their lengths, which add up to the number of tokens.
typedef struct {
    int64_t count;
    const int64_t *lengths;
} CKernelsSegments;

// Computes dx = dy W + kept (v A) with v = s dy B, and where the rank is not 0 adds v^T x' to da and dy^T u to db.
//
// low_x: x' [tokens, columns]; dx may be null; da: float64 [rank, columns]; db: float64 [rows, rank]. A segment's part of da and db is
// summed in float32 and depends on that segment alone; the parts are added in float64, so that neither their order nor what is
// added in another call shows in a float32 number.
void ckernels_linear_backward(
    int32_t isa, int32_t element_type, CKernelsThreads threads, const CKernelsPanels *weight, const CKernelsLowRank *low_rank,
    CKernelsSegments segments, const void *low_x, const void *u, const void *dy, void *dx, double *da, double *db,
    void *workspace);

#ifdef __cplusplus
}
#endif

#endif
