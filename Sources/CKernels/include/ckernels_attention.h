// Causal grouped-query attention of a flattened batch, forward and backward, in products of bfloat16 numbers.
//
//   output = softmax(scale * Q K^T) V,  for each head
//
// N tokens of all segments, H query heads, G key/value heads, D head size; query head h reads key/value head h / (H / G). A token
// sees itself and what is before it in its own segment, with a window of w > 0 only the last w of these.
//
// Sums, softmax and log-sum-exp are float32; what is multiplied (weights, gradients of scores) and what is stored is bfloat16. No
// result depends on the number of threads, and a token's output depends on its segment up to it alone. A NaN or infinity among
// the numbers that a result is made of makes it NaN or infinite; within a segment it may spread further, as 0 * infinity does in
// plain operations. Needs AVX512-BF16.
#ifndef CKERNELS_ATTENTION_H
#define CKERNELS_ATTENTION_H

#include <stdint.h>

#include "ckernels_threads.h"

#ifdef __cplusplus
extern "C" {
#endif

// What is computed.
typedef struct {
    int64_t num_segments;
    // Tokens of each segment, at least 1; their sum is N.
    const int64_t *segment_lengths;
    // A multiple of num_key_value_heads.
    int64_t num_heads;
    int64_t num_key_value_heads;
    int64_t head_size;
    // How many keys a token sees at most; 0: no limit.
    int64_t window;
    // Positive.
    float scale;
} CKernelsAttention;

// A tensor [N, heads, D] of bfloat16 numbers: the strides, in elements, from a token and from a head to the next.
typedef struct {
    const uint16_t *data;
    int64_t token_stride;
    int64_t head_stride;
} CKernelsHeads;

// The same, to be written.
typedef struct {
    uint16_t *data;
    int64_t token_stride;
    int64_t head_stride;
} CKernelsMutableHeads;

// Whether this processor and the kernel take a head size: 1...256.
int32_t ckernels_attention_is_supported(int64_t head_size);

// Bytes of the workspace that forward or backward needs; its alignment does not matter.
//
// Forward: keys and values once more. Backward: one and a half times keys and values, and float32 gradients of the keys and
// values of a (segment, key/value head) pair for each thread or, where there are few pairs, about eight times in all. Both: up to
// 0.3 MB a thread.
int64_t ckernels_attention_forward_workspace_bytes(const CKernelsAttention *attention, int32_t threads);
int64_t ckernels_attention_backward_workspace_bytes(const CKernelsAttention *attention, int32_t threads);

// Computes the output [N, H, D] and log_sum_exp [H, N] (float32, natural logarithm of the softmax's denominator).
//
// Returns 0, or -1 without having touched anything where ckernels_attention_is_supported says 0.
int32_t ckernels_attention_forward(
    CKernelsThreads threads, const CKernelsAttention *attention, CKernelsHeads query, CKernelsHeads key, CKernelsHeads value,
    CKernelsMutableHeads output, float *log_sum_exp, void *workspace);

// Computes the gradients of query, key and value from the output's.
//
//   dV = P^T dO,  dS = P (dO V^T - rowsum(dO O)),  dQ = scale dS K,  dK = scale dS^T Q,  P = exp(scale Q K^T - log_sum_exp)
//
// output, log_sum_exp: what forward computed. Returns as forward does.
int32_t ckernels_attention_backward(
    CKernelsThreads threads, const CKernelsAttention *attention, CKernelsHeads query, CKernelsHeads key, CKernelsHeads value,
    CKernelsHeads output, CKernelsHeads output_gradient, const float *log_sum_exp, CKernelsMutableHeads query_gradient,
    CKernelsMutableHeads key_gradient, CKernelsMutableHeads value_gradient, void *workspace);

// The attention of one token, the newest of its sequence, to all keys: output = softmax(scale * query K^T) V for each head.
typedef struct {
    // At least 1.
    int64_t num_keys;
    // A multiple of num_key_value_heads.
    int64_t num_heads;
    int64_t num_key_value_heads;
    int64_t head_size;
    float scale;
    // [num_heads, head_size], without gaps.
    const uint16_t *query;
    CKernelsHeads key;
    CKernelsHeads value;
    // As the query.
    uint16_t *output;
} CKernelsNewest;

// Bytes of the workspace that ckernels_attention_newest needs: about a float for each channel, head and 256 keys.
int64_t ckernels_attention_newest_workspace_bytes(const CKernelsNewest *newest);

// Computes the output. Keys and values are read where they lie, once for each four heads that share them; weights are not rounded.
// No result depends on the number of threads. Returns as ckernels_attention_forward does.
int32_t ckernels_attention_newest(CKernelsThreads threads, const CKernelsNewest *newest, void *workspace);

#ifdef __cplusplus
}
#endif

#endif
