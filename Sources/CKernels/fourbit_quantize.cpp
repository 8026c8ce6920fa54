// 4-bit quantization, bit for bit as bitsandbytes 0.50.2 on a CPU (backends/default/ops.py:quantize_4bit).
#include <array>

#include "fourbit.h"
#include "half.h"

#pragma clang fp contract(off)

namespace fourbit {
namespace {

constexpr int64_t max_block_size = 4096;
// The rank of zero among the sorted values of either codebook: the code that fills up an odd count.
constexpr uint8_t rank_of_zero = 7;
// bitsandbytes' lower limit of a divisor.
constexpr float min_absmax = 1e-38f;

// Sorted codebook: what lies between two neighbours' midpoint and the next has that rank; a midpoint itself belongs below.
struct Quantizer {
    std::array<float, 15> midpoints;
    // From two ranks in a byte to two codes; empty if the ranks are the codes.
    std::array<uint8_t, 256> codes;
    bool ranks_are_codes;
};

constexpr Quantizer make_quantizer(const float (&codebook)[16], const uint8_t *order) {
    Quantizer result{};
    result.ranks_are_codes = order == nullptr;
    for (int i = 0; i < 15; i++) {
        const float low = codebook[order ? order[i] : i];
        const float high = codebook[order ? order[i + 1] : i + 1];
        result.midpoints[size_t(i)] = (low + high) / 2;
    }
    for (int i = 0; order && i < 256; i++) {
        result.codes[size_t(i)] = uint8_t(order[i >> 4] << 4 | order[i & 15]);
    }
    return result;
}

constexpr Quantizer nf4_quantizer = make_quantizer(nf4, nullptr);
constexpr Quantizer fp4_quantizer = make_quantizer(fp4, fp4_order);

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
        for (size_t k = 0; k < 15; k++) {
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
            if (count % 2 != 0) ranks[count] = rank_of_zero;
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

CKERNELS_INLINE int64_t quantize_any(const Job &job, int32_t codebook, int32_t element_type) {
    const Quantizer &quantizer = codebook == CKERNELS_NF4 ? nf4_quantizer : fp4_quantizer;
    switch (element_type) {
    case CKERNELS_FLOAT32:
        return quantize<Float32>(job, quantizer);
    case CKERNELS_BFLOAT16:
        return quantize<BFloat16>(job, quantizer);
    default:
        return quantize<Float16>(job, quantizer);
    }
}

int64_t quantize_portable(const Job &job, int32_t codebook, int32_t element_type) {
    return quantize_any(job, codebook, element_type);
}

#if CKERNELS_X86
CKERNELS_TARGET_AVX2 int64_t quantize_avx2(const Job &job, int32_t codebook, int32_t element_type) {
    return quantize_any(job, codebook, element_type);
}

CKERNELS_TARGET_AVX512 int64_t quantize_avx512(const Job &job, int32_t codebook, int32_t element_type) {
    return quantize_any(job, codebook, element_type);
}
#endif

}  // namespace
}  // namespace fourbit

const float *ckernels_fourbit_codebook(int32_t codebook) {
    return codebook == CKERNELS_NF4 ? fourbit::nf4 : fourbit::fp4;
}

int64_t ckernels_fourbit_quantize(
    int32_t isa, int32_t codebook, int32_t element_type, const void *input, int64_t count, int64_t block_size,
    int64_t block_begin, int64_t block_end, uint8_t *packed, float *absmax) {
    if (!fourbit::arguments_are_valid(isa, codebook, element_type, block_size)) return CKERNELS_INVALID_ARGUMENT;
    const fourbit::Job job{input, count, block_size, block_begin, block_end, packed, absmax};
    switch (isa) {
#if CKERNELS_X86
    case CKERNELS_ISA_AVX2:
        return fourbit::quantize_avx2(job, codebook, element_type);
    case CKERNELS_ISA_AVX512:
        return fourbit::quantize_avx512(job, codebook, element_type);
#endif
    default:
        return fourbit::quantize_portable(job, codebook, element_type);
    }
}
