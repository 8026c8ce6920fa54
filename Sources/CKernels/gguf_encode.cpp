// fp32 to GGUF block formats, bit for bit as the Python package gguf 0.19.0 (gguf/quants.py:quantize_blocks).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "half.h"

#pragma clang fp contract(off)

namespace {

void store16(uint8_t *bytes, uint16_t bits) { std::memcpy(bytes, &bits, sizeof bits); }

bool is_finite_float16(uint16_t bits) { return (bits & 0x7c00) != 0x7c00; }

bool is_finite_bfloat16(uint16_t bits) { return (bits & 0x7f80) != 0x7f80; }

// Scale (fp16), then 32 codes: the largest magnitude becomes 127, halves are rounded away from zero.
bool encode_q8_0(const float *input, uint8_t *block) {
    float largest = 0.0f;
    bool is_finite = true;
    for (int i = 0; i < 32; i++) {
        largest = std::max(largest, std::fabs(input[i]));
        is_finite = is_finite && std::isfinite(input[i]);
    }
    const float scale = largest / 127.0f;
    const float reciprocal = scale == 0.0f ? 0.0f : 1.0f / scale;
    const uint16_t stored = float16_from_float(scale);
    store16(block, stored);
    if (!is_finite || !is_finite_float16(stored)) {
        return false;
    }
    for (int i = 0; i < 32; i++) {
        // A subnormal scale has an infinite reciprocal; its codes do not matter, since the stored scale is 0.
        const float code = std::isfinite(reciprocal) ? std::round(input[i] * reciprocal) : 0.0f;
        block[2 + i] = uint8_t(int8_t(code));
    }
    return true;
}

}  // namespace

int32_t ckernels_gguf_encode(
    int32_t type, const float *input, int64_t block_begin, int64_t block_end, uint8_t *output) {
    bool is_finite = true;
    switch (type) {
    case CKERNELS_GGUF_F32:
        for (int64_t i = block_begin; i < block_end; i++) {
            is_finite = is_finite && std::isfinite(input[i]);
        }
        std::memcpy(output + block_begin * 4, input + block_begin, size_t(block_end - block_begin) * 4);
        break;
    case CKERNELS_GGUF_F16:
        for (int64_t i = block_begin; i < block_end; i++) {
            const uint16_t bits = float16_from_float(input[i]);
            store16(output + 2 * i, bits);
            is_finite = is_finite && is_finite_float16(bits);
        }
        break;
    case CKERNELS_GGUF_BF16:
        for (int64_t i = block_begin; i < block_end; i++) {
            const uint16_t bits = bfloat16_from_float(input[i]);
            store16(output + 2 * i, bits);
            is_finite = is_finite && is_finite_bfloat16(bits);
        }
        break;
    case CKERNELS_GGUF_Q8_0:
        for (int64_t i = block_begin; i < block_end; i++) {
            is_finite = encode_q8_0(input + 32 * i, output + 34 * i) && is_finite;
        }
        break;
    default:
        return CKERNELS_GGUF_UNKNOWN;
    }
    return is_finite ? 0 : CKERNELS_GGUF_NOT_FINITE;
}
