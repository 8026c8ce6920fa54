// What the 4-bit quantizer and dequantizer share: codebooks and the check of arguments.
#pragma once

#include <algorithm>
#include <bit>

#include "isa.h"

namespace fourbit {

// - Source: bitsandbytes 0.50.2, functional.py:get_4bit_type("nf4"); QLoRA (arXiv 2305.14314), appendix E.
inline constexpr float nf4[16] = {
    -1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
    -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
    0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
    0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f};

// A sign bit, two exponent bits and one fraction bit, divided by the largest value, 12. Code 8 is a second zero.
// - Source: bitsandbytes 0.50.2, functional.py:get_4bit_type("fp4").
inline constexpr float fp4[16] = {
    0.0f, 0.0625f / 12, 8.0f / 12, 1.0f, 4.0f / 12, 0.5f, 2.0f / 12, 0.25f,
    0.0f, -0.0625f / 12, -8.0f / 12, -1.0f, -4.0f / 12, -0.5f, -2.0f / 12, -0.25f};

// FP4's codes in ascending order of value; of the two zeros, code 0 comes first.
inline constexpr uint8_t fp4_order[16] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};

inline bool arguments_are_valid(int32_t isa, int32_t codebook, int32_t element_type, int64_t block_size) {
    return ckernels_isa_is_supported(isa) && (codebook == CKERNELS_NF4 || codebook == CKERNELS_FP4)
        && element_type >= CKERNELS_FLOAT32 && element_type <= CKERNELS_FLOAT16 && block_size >= 32
        && block_size <= 4096 && std::has_single_bit(uint64_t(block_size));
}

}  // namespace fourbit
