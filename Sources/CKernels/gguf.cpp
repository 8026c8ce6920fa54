// GGUF block formats to fp32, bit for bit as the Python package gguf 0.19.0 (gguf/quants.py:dequantize_blocks).
#include <cstring>

#include "gguf_formats.h"
#include "half.h"

#pragma clang fp contract(off)

namespace {

constexpr int64_t block_size = 32;

// Reads 16 bits that need not be aligned.
CKERNELS_INLINE uint16_t load16(const uint8_t *bytes) {
    uint16_t bits;
    std::memcpy(&bits, bytes, sizeof bits);
    return bits;
}

// The 32 codes of a 4-bit block: low nibbles are its first half, high nibbles its second; `high_bits` adds a fifth bit.
CKERNELS_INLINE void unpack(const uint8_t *nibbles, uint32_t high_bits, int32_t *codes) {
    for (int i = 0; i < 16; i++) {
        codes[i] = (nibbles[i] & 15) | int32_t((high_bits >> i) & 1) << 4;
        codes[i + 16] = (nibbles[i] >> 4) | int32_t((high_bits >> (i + 16)) & 1) << 4;
    }
}

// Layout of a block: scale (fp16), minimum (fp16, if `has_minimum`), 32 fifth bits (if `has_high_bits`), 16 bytes of
// nibbles. With a minimum: scale * code + minimum; without: scale * (code - zero_point).
template <bool has_minimum, bool has_high_bits>
void decode_nibbles(const uint8_t *input, int64_t begin, int64_t end, float *output) {
    constexpr int64_t num_bytes = 2 + 2 * has_minimum + 4 * has_high_bits + 16;
    constexpr int32_t zero_point = has_minimum ? 0 : has_high_bits ? 16 : 8;
    for (int64_t block = begin; block < end; block++) {
        const uint8_t *bytes = input + block * num_bytes;
        const float scale = float_from_float16(load16(bytes));
        const float minimum = has_minimum ? float_from_float16(load16(bytes + 2)) : 0.0f;
        const uint8_t *rest = bytes + 2 + 2 * has_minimum;
        const uint32_t high_bits = has_high_bits ? load16(rest) | uint32_t(load16(rest + 2)) << 16 : 0;
        int32_t codes[block_size];
        unpack(rest + 4 * has_high_bits, high_bits, codes);
        float *target = output + block * block_size;
        for (int64_t i = 0; i < block_size; i++) {
            const float product = scale * float(codes[i] - zero_point);
            target[i] = has_minimum ? product + minimum : product;
        }
    }
}

void decode_q8_0(const uint8_t *input, int64_t begin, int64_t end, float *output) {
    for (int64_t block = begin; block < end; block++) {
        const uint8_t *bytes = input + block * (2 + block_size);
        const float scale = float_from_float16(load16(bytes));
        for (int64_t i = 0; i < block_size; i++) {
            output[block * block_size + i] = float(int8_t(bytes[2 + i])) * scale;
        }
    }
}

}  // namespace

int32_t ckernels_gguf_decode(int32_t type, const uint8_t *input, int64_t block_begin, int64_t block_end, float *output) {
    switch (type) {
    case CKERNELS_GGUF_F32:
        std::memcpy(output + block_begin, input + block_begin * 4, size_t(block_end - block_begin) * 4);
        return 0;
    case CKERNELS_GGUF_F16:
        for (int64_t i = block_begin; i < block_end; i++) {
            output[i] = float_from_float16(load16(input + 2 * i));
        }
        return 0;
    case CKERNELS_GGUF_BF16:
        for (int64_t i = block_begin; i < block_end; i++) {
            output[i] = float_from_bfloat16(load16(input + 2 * i));
        }
        return 0;
    case CKERNELS_GGUF_Q4_0:
        decode_nibbles<false, false>(input, block_begin, block_end, output);
        return 0;
    case CKERNELS_GGUF_Q4_1:
        decode_nibbles<true, false>(input, block_begin, block_end, output);
        return 0;
    case CKERNELS_GGUF_Q5_0:
        decode_nibbles<false, true>(input, block_begin, block_end, output);
        return 0;
    case CKERNELS_GGUF_Q5_1:
        decode_nibbles<true, true>(input, block_begin, block_end, output);
        return 0;
    case CKERNELS_GGUF_Q8_0:
        decode_q8_0(input, block_begin, block_end, output);
        return 0;
    default:
        return ckernels_gguf_decode_groups(type, input, block_begin, block_end, output);
    }
}
