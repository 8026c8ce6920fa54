// 8-bit blockwise quantization with a sorted codebook, bit for bit as bitsandbytes 0.50.2's CPU library.
#include <algorithm>
#include <cmath>

#include "isa.h"

#pragma clang fp contract(off)

namespace {

// The library looks a value up in a table over 65,536 equidistant levels, so what counts is the level, not the value.
constexpr float max_level = 65535.0f;

// The number of midpoints below `value`: a binary search without branches.
uint8_t rank(const float *midpoints, float value) {
    int result = 0;
    for (int step = 128; step > 0; step /= 2) {
        result += midpoints[result + step - 1] < value ? step : 0;
    }
    return uint8_t(result);
}

uint8_t nearest(const float *midpoints, float value) {
    const float position = (std::clamp(value, -1.0f, 1.0f) + 1.0f) * 0.5f;
    // The library fuses this product and sum. In double both are exact, or so small that the level is 0 anyway.
    const float level = float(double(position) * double(max_level) + 0.5);
    // A NaN (0 times the reciprocal of a subnormal absmax) falls on level 0, as x86's conversion makes it there.
    const float index = level >= 0.0f ? float(int32_t(level)) : 0.0f;
    return rank(midpoints, index * 2.0f / max_level - 1.0f);
}

}  // namespace

void ckernels_eightbit_quantize(
    const float *codebook, const float *input, int64_t count, int64_t block_size, float offset, uint8_t *codes,
    float *absmax) {
    float midpoints[255];
    for (int i = 0; i < 255; i++) {
        midpoints[i] = (codebook[i] + codebook[i + 1]) * 0.5f;
    }
    for (int64_t start = 0; start < count; start += block_size) {
        const int64_t end = std::min(start + block_size, count);
        float largest = 0.0f;
        for (int64_t i = start; i < end; i++) {
            largest = std::max(largest, std::fabs(input[i] - offset));
        }
        absmax[start / block_size] = largest;
        const float reciprocal = 1.0f / largest;
        for (int64_t i = start; i < end; i++) {
            codes[i] = largest == 0.0f ? uint8_t(0) : nearest(midpoints, (input[i] - offset) * reciprocal);
        }
    }
}

void ckernels_eightbit_dequantize(
    const float *codebook, const uint8_t *codes, const float *absmax, int64_t count, int64_t block_size, float offset,
    float *output) {
    for (int64_t start = 0; start < count; start += block_size) {
        const int64_t end = std::min(start + block_size, count);
        const float scale = absmax[start / block_size];
        for (int64_t i = start; i < end; i++) {
            output[i] = codebook[codes[i]] * scale + offset;
        }
    }
}
