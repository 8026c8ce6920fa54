// GGUF's K and IQ4 formats to fp32, bit for bit as the Python package gguf 0.19.0 (gguf/quants.py:dequantize_blocks).
//
// A K block holds 256 elements in groups that have small whole numbers as scales, and fp16 scales of these. Codes of a byte, or of
// several planes of bits, are 32 elements apart or more.
#include <cstring>

#include "gguf_formats.h"
#include "half.h"

#pragma clang fp contract(off)

namespace {

constexpr int block_size = 256;

constexpr float iq4_levels[16] = {
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
};

CKERNELS_INLINE float load_half(const uint8_t *bytes) {
    uint16_t bits;
    std::memcpy(&bits, bytes, sizeof bits);
    return float_from_float16(bits);
}

// The 2-bit code of element `i`: four planes of 32 elements in each half.
CKERNELS_INLINE int two_bits(const uint8_t *bytes, int i) {
    return (bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2)) & 3;
}

// The 4-bit code of element `i`: low nibbles of `run` bytes, then their high nibbles.
template <int run>
CKERNELS_INLINE int four_bits(const uint8_t *bytes, int i) {
    return (bytes[i / (2 * run) * run + i % run] >> (i / run % 2 * 4)) & 15;
}

// The bit of element `i`: eight planes of 32 elements.
CKERNELS_INLINE int one_bit(const uint8_t *bytes, int i) { return (bytes[i % 32] >> (i / 32)) & 1; }

// The 6-bit scale and minimum of group `i` of Q4_K and Q5_K.
CKERNELS_INLINE void scale_and_minimum(const uint8_t *bytes, int i, int &scale, int &minimum) {
    const int low = i % 4;
    if (i < 4) {
        scale = bytes[low] & 63;
        minimum = bytes[4 + low] & 63;
    } else {
        scale = (bytes[8 + low] & 15) | ((bytes[low] >> 2) & 48);
        minimum = (bytes[8 + low] >> 4) | ((bytes[4 + low] >> 2) & 48);
    }
}

// Scales and minima (16 bytes, a nibble each), codes (64), fp16 scale of scales, of minima.
void decode_q2_k(const uint8_t *block, float *output) {
    const float scale = load_half(block + 80), minimum = load_half(block + 82);
    for (int i = 0; i < block_size; i++) {
        const uint8_t group = block[i / 16];
        const float product = (scale * float(group & 15)) * float(two_bits(block + 16, i));
        output[i] = product - minimum * float(group >> 4);
    }
}

// Third bits (32 bytes), codes (64), 6-bit scales (12), fp16 scale of scales.
void decode_q3_k(const uint8_t *block, float *output) {
    const uint8_t *scales = block + 96;
    const float scale = load_half(block + 108);
    for (int i = 0; i < block_size; i++) {
        const int group = i / 16;
        const int low = (scales[group % 8] >> (group / 8 * 4)) & 15;
        const int high = (scales[8 + group % 4] >> (group / 4 * 2)) & 3;
        const int code = two_bits(block + 32, i) - ((one_bit(block, i) ^ 1) << 2);
        output[i] = (scale * float((low | high << 4) - 32)) * float(code);
    }
}

// fp16 scale of scales, of minima, scales and minima (12 bytes), fifth bits (32, of Q5_K), codes (128).
template <bool has_fifth_bit>
void decode_q4_k(const uint8_t *block, float *output) {
    const float scale = load_half(block), minimum = load_half(block + 2);
    const uint8_t *codes = block + 16 + (has_fifth_bit ? 32 : 0);
    for (int group = 0; group < 8; group++) {
        int group_scale, group_minimum;
        scale_and_minimum(block + 4, group, group_scale, group_minimum);
        const float product = scale * float(group_scale), offset = minimum * float(group_minimum);
        for (int i = group * 32; i < group * 32 + 32; i++) {
            const int fifth = has_fifth_bit ? one_bit(block + 16, i) << 4 : 0;
            output[i] = product * float(four_bits<32>(codes, i) | fifth) - offset;
        }
    }
}

// Low nibbles (128 bytes), high pairs of bits (64), scales (16, signed), fp16 scale of scales.
void decode_q6_k(const uint8_t *block, float *output) {
    const float scale = load_half(block + 208);
    for (int i = 0; i < block_size; i++) {
        const int code = (four_bits<64>(block, i) | two_bits(block + 128, i) << 4) - 32;
        output[i] = (scale * float(int8_t(block[192 + i / 16]))) * float(code);
    }
}

// fp16 scale, 32 codes.
void decode_iq4_nl(const uint8_t *block, float *output) {
    const float scale = load_half(block);
    for (int i = 0; i < 32; i++) {
        output[i] = scale * iq4_levels[four_bits<16>(block + 2, i)];
    }
}

// fp16 scale of scales, high bits of the scales (2 bytes), low nibbles (4), codes (128).
void decode_iq4_xs(const uint8_t *block, float *output) {
    const float scale = load_half(block);
    const int high = block[2] | block[3] << 8;
    for (int i = 0; i < block_size; i++) {
        const int group = i / 32;
        const int low = (block[4 + group / 2] >> (group % 2 * 4)) & 15;
        const int whole = (low | ((high >> (2 * group)) & 3) << 4) - 32;
        output[i] = (scale * float(whole)) * iq4_levels[four_bits<16>(block + 8, i)];
    }
}

template <void decode(const uint8_t *, float *), int num_bytes, int num_elements = block_size>
int32_t decode_all(const uint8_t *input, int64_t begin, int64_t end, float *output) {
    for (int64_t block = begin; block < end; block++) {
        decode(input + block * num_bytes, output + block * num_elements);
    }
    return 0;
}

}  // namespace

int32_t ckernels_gguf_decode_groups(int32_t type, const uint8_t *input, int64_t begin, int64_t end, float *output) {
    switch (type) {
    case CKERNELS_GGUF_Q2_K: return decode_all<decode_q2_k, 84>(input, begin, end, output);
    case CKERNELS_GGUF_Q3_K: return decode_all<decode_q3_k, 110>(input, begin, end, output);
    case CKERNELS_GGUF_Q4_K: return decode_all<decode_q4_k<false>, 144>(input, begin, end, output);
    case CKERNELS_GGUF_Q5_K: return decode_all<decode_q4_k<true>, 176>(input, begin, end, output);
    case CKERNELS_GGUF_Q6_K: return decode_all<decode_q6_k, 210>(input, begin, end, output);
    case CKERNELS_GGUF_IQ4_NL: return decode_all<decode_iq4_nl, 18, 32>(input, begin, end, output);
    case CKERNELS_GGUF_IQ4_XS: return decode_all<decode_iq4_xs, 136>(input, begin, end, output);
    default: return CKERNELS_GGUF_UNKNOWN;
    }
}
