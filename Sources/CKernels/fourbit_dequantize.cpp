// 4-bit decoding. A block has only 16 different results: they are computed and rounded once, then looked up.
#include "fourbit.h"
#include "fourbit_decoders.h"
#include "half.h"

#pragma clang fp contract(off)

namespace fourbit {
namespace {

struct Job {
    const uint8_t *packed;
    const float *absmax;
    int64_t count, block_size, block_begin, block_end;
    void *output;
};

template <int32_t element_type> CKERNELS_INLINE auto round_to(float value) {
    if constexpr (element_type == CKERNELS_FLOAT32) {
        return value;
    } else if constexpr (element_type == CKERNELS_BFLOAT16) {
        return bfloat16_from_float(value);
    } else {
        return float16_from_float(value);
    }
}

template <class Decoder, int32_t element_type>
CKERNELS_INLINE void dequantize(const Job &job, const float *codebook) {
    using Storage = decltype(round_to<element_type>(0.0f));
    Table<Storage> table;
    for (int64_t block = job.block_begin; block < job.block_end; block++) {
        const int64_t start = block * job.block_size;
        const int64_t count = std::min(job.block_size, job.count - start);
        const float absmax = job.absmax[block];
        for (int i = 0; i < 16; i++) {
            table.values[i] = round_to<element_type>(codebook[i] * absmax);
        }
        Decoder::decode(table, job.packed + start / 2, count, static_cast<Storage *>(job.output) + start);
    }
}

template <class Decoder> CKERNELS_INLINE void dequantize_any(const Job &job, const float *codebook, int32_t element_type) {
    switch (element_type) {
    case CKERNELS_FLOAT32:
        return dequantize<Decoder, CKERNELS_FLOAT32>(job, codebook);
    case CKERNELS_BFLOAT16:
        return dequantize<Decoder, CKERNELS_BFLOAT16>(job, codebook);
    default:
        return dequantize<Decoder, CKERNELS_FLOAT16>(job, codebook);
    }
}

void dequantize_portable(const Job &job, const float *codebook, int32_t element_type) {
    dequantize_any<Portable>(job, codebook, element_type);
}

#if CKERNELS_X86
CKERNELS_TARGET_AVX2 void dequantize_avx2(const Job &job, const float *codebook, int32_t element_type) {
    dequantize_any<AVX2>(job, codebook, element_type);
}

CKERNELS_TARGET_AVX512 void dequantize_avx512(const Job &job, const float *codebook, int32_t element_type) {
    dequantize_any<AVX512>(job, codebook, element_type);
}
#endif

}  // namespace
}  // namespace fourbit

int64_t ckernels_fourbit_dequantize(
    int32_t isa, const float *codebook, int32_t element_type, const uint8_t *packed, const float *absmax, int64_t count,
    int64_t block_size, int64_t block_begin, int64_t block_end, void *output) {
    if (!fourbit::arguments_are_valid(isa, element_type, block_size)) return CKERNELS_INVALID_ARGUMENT;
    const fourbit::Job job{packed, absmax, count, block_size, block_begin, block_end, output};
    switch (isa) {
#if CKERNELS_X86
    case CKERNELS_ISA_AVX2:
        fourbit::dequantize_avx2(job, codebook, element_type);
        break;
    case CKERNELS_ISA_AVX512:
    case CKERNELS_ISA_AVX512_BF16:
        fourbit::dequantize_avx512(job, codebook, element_type);
        break;
#endif
    default:
        fourbit::dequantize_portable(job, codebook, element_type);
    }
    return CKERNELS_OK;
}
