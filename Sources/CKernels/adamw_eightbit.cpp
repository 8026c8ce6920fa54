// AdamW on 8-bit moments, block by block, as bitsandbytes 0.50.2's CPU backend.
#include <algorithm>
#include <cmath>

#include "include/CKernels.h"

#pragma clang fp contract(off)

namespace {

constexpr int64_t block_size = 256;

// a b + c rounded once: the product is exact in double, and the sum's rounding there far below a float's.
float fused(float a, float b, float c) { return float(double(a) * double(b) + double(c)); }

}  // namespace

void ckernels_adamw_update_eightbit(
    const CKernelsAdamW *constants, const float *signed_codebook, const float *unsigned_codebook, const float *gradient,
    int64_t count, int64_t block_begin, int64_t block_end, float *parameter, uint8_t *first, uint8_t *second,
    float *first_absmax, float *second_absmax) {
    const CKernelsAdamW &c = *constants;
    const float first_decay = 1.0f - c.first_weight;
    float m[block_size], v[block_size];
    for (int64_t block = block_begin; block < block_end; block++) {
        const int64_t start = block * block_size, size = std::min(block_size, count - start);
        ckernels_eightbit_dequantize(
            signed_codebook, first + start, first_absmax + block, size, block_size, 0.0f, m);
        ckernels_eightbit_dequantize(
            unsigned_codebook, second + start, second_absmax + block, size, block_size, 0.0f, v);
        for (int64_t i = 0; i < size; i++) {
            const float g = gradient[start + i];
            m[i] = fused(g, c.first_weight, m[i] * first_decay);
            v[i] = fused(c.second_weight * g, g, v[i] * c.second_decay);
            const float root = std::sqrt(v[i]) * c.root_scale + c.epsilon;
            parameter[start + i] = parameter[start + i] * c.decay - c.rate * m[i] / root;
        }
        ckernels_eightbit_quantize(
            signed_codebook, m, size, block_size, 0.0f, first + start, first_absmax + block);
        ckernels_eightbit_quantize(
            unsigned_codebook, v, size, block_size, 0.0f, second + start, second_absmax + block);
    }
}
