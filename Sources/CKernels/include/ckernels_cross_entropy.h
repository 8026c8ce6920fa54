// Cross entropy of a linear output head with bfloat16 weights, and its gradient, without logits in memory.
#ifndef CKERNELS_CROSS_ENTROPY_H
#define CKERNELS_CROSS_ENTROPY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A head and what it is applied to: logits are hidden weight^T. Both are bfloat16; strides are in elements from one row to the
// next, and at least hidden_size.
typedef struct {
    int64_t hidden_size;
    int64_t vocabulary_size;
    // Any number of rows of hidden_size.
    const uint16_t *hidden;
    int64_t hidden_stride;
    // vocabulary_size rows of hidden_size.
    const uint16_t *weight;
    int64_t weight_stride;
} CKernelsLinearHead;

// Whether ckernels_cross_entropy takes a head: of any size with products of float32 numbers, else of an even one.
int32_t ckernels_cross_entropy_is_supported(int32_t isa, int64_t hidden_size);

// Bytes that ckernels_cross_entropy needs with up to num_threads threads: for each thread in use a copy in transit of the
// hidden states of up to 512 targets, with gradient their float32 gradient too, and a block of the weight. They grow with
// the number of targets up to there only.
int64_t ckernels_cross_entropy_workspace_bytes(
    int32_t isa, int64_t num_targets, int64_t hidden_size, int32_t with_gradient, int32_t num_threads);

// losses[i] = log sum over v of exp(z[v]) - z[labels[i]], z = the logits of row positions[i]; gradient: of the losses' sum with
// respect to that row, softmax(z) weight - weight[labels[i]], unless it is null.
//
// Logits, losses and sums are float32. With CKERNELS_ISA_AVX512_BF16 products are of bfloat16 numbers, among them the
// probabilities, relative to the largest so far; else of float32 numbers. A target's results do not depend on the other targets nor on the number of
// threads. The term of the label is added last, so loss and gradient keep their relative precision where the label's
// probability is almost 1, down to losses of 1e-30. A NaN, or an infinity that leaves no loss, gives NaN.
// positions, labels: num_targets each; labels in [0, vocabulary_size). workspace: ..._workspace_bytes of the same numbers,
// aligned to 4 bytes (64 are faster). losses: one float a target. gradient: bfloat16, num_targets rows of hidden_size one after
// another.
// Returns 0, or -1 without writing anything for a label out of range or what is not supported.
int32_t ckernels_cross_entropy(
    int32_t isa, CKernelsLinearHead head, int64_t num_targets, const int64_t *positions, const int64_t *labels,
    CKernelsThreads threads, void *workspace, float *losses, uint16_t *gradient);

#ifdef __cplusplus
}
#endif

#endif
