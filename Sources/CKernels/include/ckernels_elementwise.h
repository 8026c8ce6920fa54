// Element-wise layers: RMSNorm, SwiGLU and rotary embedding, forward and backward; masks of dropout; AdamW's update.
//
// Numbers are computed in float32 and rounded once to the element type (to nearest, ties to even), except where it says
// otherwise, with the same bits on every instruction set. What a row, an element or a channel results in does not depend on
// the range that a call covers. NaN and infinity spread as in the equations. Pointers need no more alignment than their
// elements' own; nothing beyond the tensors is read or written. Results may not overlap inputs, but where they are both.
//
// Each returns 0, or -1 for an unknown element type or an instruction set that this machine lacks.
#ifndef CKERNELS_ELEMENTWISE_H
#define CKERNELS_ELEMENTWISE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// MARK: RMSNorm

// output = (weight_offset + weight) * input * inverse with inverse = 1 / sqrt(mean(input^2) + epsilon), for rows
// [row_begin, row_end).
//
// With rounds_first input * inverse is rounded to the element type before the product with the weight. input, output:
// [rows, hidden_size]; weight: [hidden_size]; inverse: one float a row, kept for backward.
int32_t ckernels_rmsnorm_forward(
    int32_t isa, int32_t element_type, const void *input, const void *weight, float weight_offset,
    int32_t rounds_first, float epsilon, int64_t hidden_size, int64_t row_begin, int64_t row_end, void *output,
    float *inverse);

// input_gradient = inverse * (g - n mean(g n)) with n = input * inverse and g = (weight_offset + weight) * output_gradient,
// for rows [row_begin, row_end). All but weight and inverse are [rows, hidden_size].
int32_t ckernels_rmsnorm_backward(
    int32_t isa, int32_t element_type, const void *output_gradient, const void *input, const void *weight,
    float weight_offset, const float *inverse, int64_t hidden_size, int64_t row_begin, int64_t row_end,
    void *input_gradient);

// weight_gradient = the sum over all rows of output_gradient * input * inverse, in float32, for channels
// [channel_begin, channel_end). Rows are added in blocks of 64, then the blocks' sums.
int32_t ckernels_rmsnorm_weight_gradient(
    int32_t isa, int32_t element_type, const void *output_gradient, const void *input, const float *inverse,
    int64_t num_rows, int64_t hidden_size, int64_t channel_begin, int64_t channel_end, float *weight_gradient);

// MARK: SwiGLU

// output = gate / (1 + exp(-gate)) * up, for elements [begin, end). Relative error of the quotient before rounding: 4e-7.
int32_t ckernels_swiglu_forward(
    int32_t isa, int32_t element_type, const void *gate, const void *up, int64_t begin, int64_t end, void *output);

// gate_gradient = output_gradient * up * s * (1 + gate * (1 - s)) and up_gradient = output_gradient * gate * s with
// s = 1 / (1 + exp(-gate)), for elements [begin, end).
int32_t ckernels_swiglu_backward(
    int32_t isa, int32_t element_type, const void *output_gradient, const void *gate, const void *up, int64_t begin,
    int64_t end, void *gate_gradient, void *up_gradient);

// MARK: Rotary embedding

// Queries or keys, [tokens, num_heads, head_size]. Strides are in elements; the channels of a head lie side by side.
typedef struct {
    const void *data;
    int64_t token_stride, head_stride;
    int64_t num_heads, head_size;
} CKernelsStates;

// (a, b) -> (a cosine - b sine, b cosine + a sine) for each pair of channels (i, i + head_size / 2) of tokens
// [token_begin, token_end); by the opposite angle if is_inverse is not 0.
//
// cosine, sine: [tokens, head_size / 2]; output: [tokens, num_heads, head_size] without gaps. head_size is even.
int32_t ckernels_rotary_rotate(
    int32_t isa, int32_t element_type, CKernelsStates input, const void *cosine, const void *sine, int32_t is_inverse,
    int64_t token_begin, int64_t token_end, void *output);

// MARK: Dropout

// kept[i] = 1 if the random number of element i, 16 bits, is at least num_dropped, else 0, for i in
// [4 * block_begin, min(4 * block_end, count)).
//
// The numbers of a block of four are SplitMix64's output after seed + (block + 1) times its increment, lowest bits first.
int32_t ckernels_dropout_mask(
    int32_t isa, uint64_t seed, uint16_t num_dropped, int64_t count, int64_t block_begin, int64_t block_end, uint8_t *kept);

// output = input * kept, for elements [begin, end); kept: a byte 0 or 1 an element. A NaN or infinity that is dropped is NaN.
int32_t ckernels_dropout_apply(
    int32_t isa, int32_t element_type, const void *input, const uint8_t *kept, int64_t begin, int64_t end, void *output);

// MARK: AdamW

// The constants of an update: m = m + first_weight (g - m), v = second_decay v + second_weight g^2,
// p = decay p - rate m / (root_scale sqrt(v) + epsilon).
typedef struct {
    float first_weight, second_decay, second_weight, root_scale, epsilon, decay, rate;
} CKernelsAdamW;

// Updates parameter, first and second in place, for elements [begin, end).
int32_t ckernels_adamw_update(
    int32_t isa, const CKernelsAdamW *constants, const float *gradient, int64_t begin, int64_t end, float *parameter,
    float *first, float *second);

// The same on moments of 8-bit codes in blocks of 256, for blocks [block_begin, block_end) of count elements: decodes, updates,
// encodes. Codebooks are sorted, 256 entries; absmax is one float a block.
void ckernels_adamw_update_eightbit(
    const CKernelsAdamW *constants, const float *signed_codebook, const float *unsigned_codebook, const float *gradient,
    int64_t count, int64_t block_begin, int64_t block_end, float *parameter, uint8_t *first, uint8_t *second,
    float *first_absmax, float *second_absmax);

#ifdef __cplusplus
}
#endif

#endif
