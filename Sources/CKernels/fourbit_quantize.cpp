// 4-bit quantization, bit for bit as bitsandbytes 0.50.2 on a CPU (backends/default/ops.py:quantize_4bit).
#include "fourbit.h"
#include "half.h"

#pragma clang fp contract(off)

namespace fourbit {
namespace {

constexpr int64_t max_block_size = 4096;
// bitsandbytes' lower limit of a divisor.
constexpr float min_absmax = 1e-38f;

// The codebook sorted by value, for a search by rank: what lies between two midpoints has the rank of the entry between
// them; a midpoint itself belongs to the entry below.
struct Quantizer {
    float midpoints[15];
    uint8_t rank_of_zero;
    bool ranks_are_codes;
    // From two ranks in a byte to two codes.
    uint8_t codes[256];

    explicit Quantizer(const float *codebook) {
        uint8_t order[16];
        for (uint8_t i = 0; i < 16; i++) order[i] = i;
        std::sort(order, order + 16, [=](uint8_t a, uint8_t b) {
            return codebook[a] != codebook[b] ? codebook[a] < codebook[b] : a < b;
        });
        for (int i = 0; i < 15; i++) {
            midpoints[i] = (codebook[order[i]] + codebook[order[i + 1]]) / 2;
        }
        rank_of_zero = uint8_t(std::count_if(midpoints, midpoints + 15, [](float midpoint) { return 0 > midpoint; }));
        ranks_are_codes = std::is_sorted(order, order + 16);
        for (int i = 0; i < 256; i++) {
            codes[i] = uint8_t(order[i >> 4] << 4 | order[i & 15]);
        }
    }
};

struct Float32 {
    using Storage = float;
    CKERNELS_INLINE float load(float value) { return value; }
};
struct BFloat16 {
    using Storage = uint16_t;
    CKERNELS_INLINE float load(uint16_t bits) { return float_from_bfloat16(bits); }
};
struct Float16 {
    using Storage = uint16_t;
    CKERNELS_INLINE float load(uint16_t bits) { return float_from_float16(bits); }
};

struct Job {
    const void *input;
    int64_t count, block_size, block_begin, block_end;
    uint8_t *packed;
    float *absmax;
};

// The largest magnitude, as bits: their order is that of the magnitudes, and infinity and NaN come last.
template <class Element>
CKERNELS_INLINE uint32_t max_magnitude(const typename Element::Storage *input, int64_t count) {
    uint32_t result = 0;
    for (int64_t i = 0; i < count; i++) {
        result = std::max(result, std::bit_cast<uint32_t>(Element::load(input[i])) & 0x7fffffffu);
    }
    return result;
}

// ranks[i] = number of midpoints below scale(input[i]).
template <class Element, class Scale>
CKERNELS_INLINE void
find_ranks(const typename Element::Storage *input, int64_t count, const Quantizer &quantizer, Scale scale, uint8_t *ranks) {
    for (int64_t i = 0; i < count; i++) {
        const float value = scale(Element::load(input[i]));
        int32_t rank = 0;
#pragma clang loop unroll(full)
        for (int k = 0; k < 15; k++) {
            rank += value > quantizer.midpoints[k];
        }
        ranks[i] = uint8_t(rank);
    }
}

template <class Element> CKERNELS_INLINE int64_t quantize(const Job &job, const Quantizer &quantizer) {
    uint8_t ranks[max_block_size];
    for (int64_t block = job.block_begin; block < job.block_end; block++) {
        const int64_t start = block * job.block_size;
        const int64_t count = std::min(job.block_size, job.count - start);
        const auto *input = static_cast<const typename Element::Storage *>(job.input) + start;
        const uint32_t magnitude = max_magnitude<Element>(input, count);
        if (magnitude >= 0x7f800000u) return block;
        float absmax = std::bit_cast<float>(magnitude);
        const float divisor = std::max(absmax, min_absmax);
        if (count == job.block_size) {
            const float reciprocal = 1.0f / divisor;
            find_ranks<Element>(input, count, quantizer, [=](float x) { return x * reciprocal; }, ranks);
        } else {
            // bitsandbytes treats the rest otherwise: it divides, and keeps the limited absmax.
            absmax = divisor;
            find_ranks<Element>(input, count, quantizer, [=](float x) { return x / divisor; }, ranks);
            if (count % 2 != 0) ranks[count] = quantizer.rank_of_zero;
        }
        job.absmax[block] = absmax;
        uint8_t *packed = job.packed + start / 2;
        for (int64_t i = 0; i < (count + 1) / 2; i++) {
            packed[i] = uint8_t(ranks[2 * i] << 4 | ranks[2 * i + 1]);
        }
        if (quantizer.ranks_are_codes) continue;
        for (int64_t i = 0; i < (count + 1) / 2; i++) {
            packed[i] = quantizer.codes[packed[i]];
        }
    }
    return CKERNELS_OK;
}

CKERNELS_INLINE int64_t quantize_any(const Job &job, const Quantizer &quantizer, int32_t element_type) {
    switch (element_type) {
    case CKERNELS_FLOAT32:
        return quantize<Float32>(job, quantizer);
    case CKERNELS_BFLOAT16:
        return quantize<BFloat16>(job, quantizer);
    default:
        return quantize<Float16>(job, quantizer);
    }
}

int64_t quantize_portable(const Job &job, const Quantizer &quantizer, int32_t element_type) {
    return quantize_any(job, quantizer, element_type);
}

#if CKERNELS_X86
CKERNELS_TARGET_AVX2 int64_t quantize_avx2(const Job &job, const Quantizer &quantizer, int32_t element_type) {
    return quantize_any(job, quantizer, element_type);
}

CKERNELS_TARGET_AVX512 int64_t quantize_avx512(const Job &job, const Quantizer &quantizer, int32_t element_type) {
    return quantize_any(job, quantizer, element_type);
}
#endif

}  // namespace
}  // namespace fourbit

int64_t ckernels_fourbit_quantize(
    int32_t isa, const float *codebook, int32_t element_type, const void *input, int64_t count, int64_t block_size,
    int64_t block_begin, int64_t block_end, uint8_t *packed, float *absmax) {
    if (!fourbit::arguments_are_valid(isa, element_type, block_size)) return CKERNELS_INVALID_ARGUMENT;
    const fourbit::Job job{input, count, block_size, block_begin, block_end, packed, absmax};
    const fourbit::Quantizer quantizer(codebook);
    switch (isa) {
#if CKERNELS_X86
    case CKERNELS_ISA_AVX2:
        return fourbit::quantize_avx2(job, quantizer, element_type);
    case CKERNELS_ISA_AVX512:
    case CKERNELS_ISA_AVX512_BF16:
        return fourbit::quantize_avx512(job, quantizer, element_type);
#endif
    default:
        return fourbit::quantize_portable(job, quantizer, element_type);
    }
}
