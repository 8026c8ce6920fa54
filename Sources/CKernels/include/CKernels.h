// CKernels: C++ kernels behind a C interface, free of libtorch.
//
// Every function is pure: it reads and writes only the memory that it is given, keeps no state and may run on several
// threads at once on disjoint ranges. Ranges are blocks [block_begin, block_end) of the whole tensor; pointers are always
// those of the whole tensor. All files are compiled without contraction of a*b+c, so results are the same bits on every
// instruction set.
#ifndef CKERNELS_H
#define CKERNELS_H

#include <stdint.h>

#include "ckernels_attention.h"
#include "ckernels_linear.h"
#include "ckernels_panels.h"
#include "ckernels_threads.h"

#ifdef __cplusplus
extern "C" {
#endif

// MARK: Instruction sets

enum {
    CKERNELS_ISA_PORTABLE = 0,
    // With F16C and FMA.
    CKERNELS_ISA_AVX2 = 1,
    // F, BW, DQ and VL; BF16 is not needed.
    CKERNELS_ISA_AVX512 = 2,
    // The same and BF16: products of bfloat16 numbers. What has no products runs as with AVX512.
    CKERNELS_ISA_AVX512_BF16 = 3,
};

// 1 if this processor and operating system run `isa`, else 0.
int32_t ckernels_isa_is_supported(int32_t isa);

// MARK: Element types

enum {
    CKERNELS_FLOAT32 = 0,
    CKERNELS_BFLOAT16 = 1,
    CKERNELS_FLOAT16 = 2,
};

// MARK: 4-bit codecs (bitsandbytes layout)

// Results of the 4-bit functions that are not a block index.
enum {
    CKERNELS_OK = -1,
    // Unknown element type, an instruction set that this machine lacks, or a block size that is not a power of two from 32
    // to 4096.
    CKERNELS_INVALID_ARGUMENT = -2,
};

// Quantizes blocks of a tensor of `count` elements to 4-bit codes, two a byte, the first in the high nibble.
//
// A code is the index of the entry of `codebook` (16 values from -1 to 1, any order) that is nearest to the element divided
// by its block's largest magnitude, absmax; of two equally near the lower value, of two equal values the lower index for
// zero and what is below, the higher index for what is above.
// packed: (count + 1) / 2 bytes; absmax: one float a block. An odd count is filled up with the code of zero.
// Returns CKERNELS_OK, CKERNELS_INVALID_ARGUMENT, or the index (>= 0) of the first block that holds a NaN or an infinity,
// which ends the work.
int64_t ckernels_fourbit_quantize(
    int32_t isa, const float *codebook, int32_t element_type, const void *input, int64_t count, int64_t block_size,
    int64_t block_begin, int64_t block_end, uint8_t *packed, float *absmax);

// Decodes blocks: output[i] = codebook[code[i]] * absmax[i / block_size], computed in fp32 and rounded once to the element
// type (to nearest, ties to even). Returns CKERNELS_OK or CKERNELS_INVALID_ARGUMENT.
int64_t ckernels_fourbit_dequantize(
    int32_t isa, const float *codebook, int32_t element_type, const uint8_t *packed, const float *absmax, int64_t count,
    int64_t block_size, int64_t block_begin, int64_t block_end, void *output);

// MARK: 8-bit codes of a sorted 256-entry codebook (double quantization of absmax)

// Quantizes input[i] - offset in blocks, as bitsandbytes' CPU library does: a value is first rounded to one of 65,536
// levels in [-1, 1], then to the nearest codebook entry. absmax: one float a block.
void ckernels_eightbit_quantize(
    const float *codebook, const float *input, int64_t count, int64_t block_size, float offset, uint8_t *codes,
    float *absmax);

// output[i] = codebook[codes[i]] * absmax[i / block_size] + offset, each operation rounded to fp32.
void ckernels_eightbit_dequantize(
    const float *codebook, const uint8_t *codes, const float *absmax, int64_t count, int64_t block_size, float offset,
    float *output);

// MARK: GGUF blocks

// ggml's type ids.
enum {
    CKERNELS_GGUF_F32 = 0,
    CKERNELS_GGUF_F16 = 1,
    CKERNELS_GGUF_Q4_0 = 2,
    CKERNELS_GGUF_Q4_1 = 3,
    CKERNELS_GGUF_Q5_0 = 6,
    CKERNELS_GGUF_Q5_1 = 7,
    CKERNELS_GGUF_Q8_0 = 8,
    CKERNELS_GGUF_Q2_K = 10,
    CKERNELS_GGUF_Q3_K = 11,
    CKERNELS_GGUF_Q4_K = 12,
    CKERNELS_GGUF_Q5_K = 13,
    CKERNELS_GGUF_Q6_K = 14,
    CKERNELS_GGUF_IQ4_NL = 20,
    CKERNELS_GGUF_IQ4_XS = 23,
    CKERNELS_GGUF_BF16 = 30,
};

// Decodes blocks to fp32. F32, F16 and BF16 have blocks of one element, the K formats and IQ4_XS of 256, the others of 32. `input` need not be aligned.
// Returns 0, or -1 for an unknown type.
int32_t ckernels_gguf_decode(
    int32_t type, const uint8_t *input, int64_t block_begin, int64_t block_end, float *output);

enum {
    CKERNELS_GGUF_UNKNOWN = -1,
    CKERNELS_GGUF_NOT_FINITE = -2,
};

// Encodes blocks of F32, F16, BF16 or Q8_0. Returns 0, CKERNELS_GGUF_UNKNOWN for another type, or CKERNELS_GGUF_NOT_FINITE if a number,
// or what it is stored as, is infinite or NaN.
int32_t ckernels_gguf_encode(
    int32_t type, const float *input, int64_t block_begin, int64_t block_end, uint8_t *output);

#ifdef __cplusplus
}
#endif

#include "ckernels_cross_entropy.h"
#include "ckernels_elementwise.h"

#endif
