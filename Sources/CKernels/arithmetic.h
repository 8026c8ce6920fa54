// Arithmetics of products: what operands are made of, and how they are multiplied.
//
// Kernels of products are templates over an arithmetic (arithmetic_bfloat16.h, arithmetic_float32.h):
//
//   Element         an activation as it is stored: uint16_t for bfloat16, or float
//   Decoded         an element of a weight as its storage decodes it
//   Word            32 bits of an operand: `depth_per_word` numbers of the depth; Words are sixteen of them
//   Sums            sixteen float32 sums
//
// One operand is read by rows, a word broadcast at a time; the other is packed: for each word of the depth, columns of 16 lanes.
//
// Such kernels are compiled once for each instruction set: their headers are included between CKERNELS_..._BEGIN and
// CKERNELS_TARGET_END of the files products_<set>.cpp. So all that these headers define is a template over the arithmetic or always
// inlined: of a plain inline function, the linker would take one instruction set's for all.
#pragma once

#include <cstddef>
#include <cstdint>

#include "isa.h"

namespace arithmetic {

// Lanes of Words and Sums.
inline constexpr int64_t register_lanes = 16;

inline constexpr float log2_e = 1.4426950408889634f;
inline constexpr float ln_2 = 0.6931471805599453f;

// sums[r][c] += rows[r] packed[c], over `depth` words; each sum in ascending order of the depth.
//
// A tile keeps its sums in registers and reads few operands for many products: so many that reading is not the limit.
// packed_stride: words of `packed` from one of the depth to the next.
template <class A, int Rows, int Columns>
CKERNELS_INLINE void multiply(
    const typename A::Word *rows, ptrdiff_t stride, const typename A::Word *packed, ptrdiff_t packed_stride, int64_t depth,
    typename A::Sums (&sums)[Rows][Columns]) {
#pragma clang loop unroll(disable)
    for (int64_t k = 0; k < depth; k++) {
        typename A::Words b[Columns];
        for (int c = 0; c < Columns; c++) b[c] = A::load_words(packed + k * packed_stride + c * register_lanes);
        for (int r = 0; r < Rows; r++) {
            const typename A::Words a = A::broadcast(rows + r * stride + k);
            for (int c = 0; c < Columns; c++) sums[r][c] = A::dot(sums[r][c], a, b[c]);
        }
    }
}

}  // namespace arithmetic
