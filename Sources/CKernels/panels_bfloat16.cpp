// bfloat16 elements as products read them.
#include <cstring>

#include "lanes.h"
#include "panels.h"

namespace {

void decode(
    const CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
    uint16_t *output, int64_t stride) {
    const auto *elements = static_cast<const uint16_t *>(weight->elements);
    for (int64_t row = row_begin; row < row_end; row++, output += stride) {
        std::memcpy(
            output, elements + row * weight->columns + column_begin, size_t(column_end - column_begin) * sizeof(uint16_t));
    }
}

void decode_float32(
    int32_t isa, const CKernelsPanels *weight, int64_t row_begin, int64_t row_end, int64_t column_begin, int64_t column_end,
    float *output, int64_t stride) {
    const auto *elements = static_cast<const uint16_t *>(weight->elements) + column_begin;
    lanes::run(isa, [&](auto) CKERNELS_INLINE_LAMBDA {
        for (int64_t row = row_begin; row < row_end; row++) {
            float *to = output + (row - row_begin) * stride;
            lanes::for_each(0, column_end - column_begin, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
                const lanes::Floats x = lanes::load<lanes::BFloat16<false>>(elements + row * weight->columns + i, extent);
                lanes::store<lanes::Float32>(to + i, x, extent);
            });
        }
    });
}

#if CKERNELS_X86
CKERNELS_VNNI_BEGIN

struct Product {
    template <int Tokens>
    CKERNELS_INLINE void multiply(const CKernelsPanels &weight, int64_t row, const uint16_t *x, __m512 (&totals)[Tokens]) {
        const int64_t columns = weight.columns;
        const uint16_t *elements = static_cast<const uint16_t *>(weight.elements) + row * columns;
        for (int64_t c = 0; c < columns; c += 32) {
            const __mmask32 mask = vnni::first_of_32(columns - c);
            const __m512i w = _mm512_maskz_loadu_epi16(mask, elements + c);
            for (int t = 0; t < Tokens; t++) {
                totals[t] = vnni::dot(totals[t], w, _mm512_maskz_loadu_epi16(mask, x + t * columns + c));
            }
        }
    }
};

CKERNELS_VNNI_END
#endif

}  // namespace

CKernelsPanels ckernels_panels_bfloat16(const void *elements, int64_t rows, int64_t columns) {
    CKernelsPanels panels{};
    panels.rows = rows;
    panels.columns = columns;
    panels.decode = decode;
    panels.decode_float32 = decode_float32;
#if CKERNELS_X86
    panels.multiply = panels::multiply<Product>;
#endif
    panels.elements = elements;
    return panels;
}
