// Conversions between fp32 and the 16-bit formats, free of branches so that loops over them vectorize.
#pragma once

#include <bit>

#include "isa.h"

CKERNELS_INLINE float float_from_bfloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

// Exact for every finite value and infinity; a NaN stays a NaN.
CKERNELS_INLINE float float_from_float16(uint16_t bits) {
    const uint32_t magnitude = uint32_t(bits & 0x7fff) << 13;
    // 2^112 moves the exponent's bias from 15 to 127, and makes subnormals normal on the way.
    const uint32_t scaled = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
    const uint32_t value = magnitude >= (0x7c00u << 13) ? (magnitude | 0x7f800000u) : scaled;
    return std::bit_cast<float>(value | (uint32_t(bits & 0x8000) << 16));
}

// Rounds to nearest, ties to even; a NaN becomes the quiet NaN 0x7fc0, as in PyTorch.
CKERNELS_INLINE uint16_t bfloat16_from_float(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

// Rounds to nearest, ties to even; values from 65520 on become infinity.
CKERNELS_INLINE uint16_t float16_from_float(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    // Normal halves: rebias the exponent by -112 and round away 13 bits of fraction.
    const uint32_t normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Subnormal halves: adding 0.5 leaves the value in units of 2^-24 in the low bits, rounded by the adder.
    const uint32_t subnormal = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - (126u << 23);
    uint32_t result = magnitude < (113u << 23) ? subnormal : normal;
    result = magnitude >= 0x477ff000u ? 0x7c00u : result;
    result = magnitude > 0x7f800000u ? 0x7e00u : result;
    return uint16_t(result | sign);
}
