// Sixteen float32 lanes, whatever the registers of the instruction set: what element-wise kernels are written with.
//
// The compiler splits a vector into one register of AVX512, two of AVX2 or four of the baseline. Each operation on it is
// rounded as IEEE 754 says, none is contracted, and sums have one order: so the bits are the same on every instruction set.
//
// A kernel is a lambda that takes an element type; `run` compiles it for each of them and each instruction set:
//
//     return lanes::run(isa, element_type, [&](auto element) CKERNELS_INLINE_LAMBDA { scale<decltype(element)>(job); });
#pragma once

#include <cstdint>
#include <cstring>

#include "isa.h"

#pragma clang fp contract(off)
// Calls that pass vectors differ between instruction sets; here all are inlined, so there are none.
#pragma clang diagnostic ignored "-Wpsabi"

#define CKERNELS_INLINE_LAMBDA __attribute__((always_inline))

namespace lanes {

inline constexpr int64_t count = 16;

using Floats = float __attribute__((vector_size(64)));
using Words = uint32_t __attribute__((vector_size(64)));
using Halves = uint16_t __attribute__((vector_size(32)));

CKERNELS_INLINE Words bits(Floats x) { return __builtin_bit_cast(Words, x); }
CKERNELS_INLINE Floats floats(Words bits) { return __builtin_bit_cast(Floats, bits); }

// MARK: Element types, with the formulas of half.h
//
// `narrowed` rounds to nearest, ties to even; `narrowed_exact` takes numbers that the type has, and quiet NaNs.

struct Float32 {
    using Storage = float;
    using Vector = Floats;
    CKERNELS_INLINE Floats widened(Vector x) { return x; }
    CKERNELS_INLINE Vector narrowed(Floats x) { return x; }
    CKERNELS_INLINE Vector narrowed_exact(Floats x) { return x; }
};

// has_instruction: whether the instruction set narrows to bfloat16.
template <bool has_instruction> struct BFloat16 {
    using Storage = uint16_t;
    using Vector = Halves;

    CKERNELS_INLINE Floats widened(Vector x) { return floats(__builtin_convertvector(x, Words) << 16); }

    CKERNELS_INLINE Vector narrowed(Floats x) {
        if constexpr (has_instruction) {
            // The instruction flushes subnormal numbers and keeps some bits of a NaN. Zeros go the long way with them: one
            // comparison less, and few are computed.
            const Words is_ordinary = Words(floats(bits(x) & 0x7fffffffu) >= 0x1p-126f);
            if (__builtin_expect(__builtin_reduce_and(is_ordinary) != 0, 1)) {
                return __builtin_bit_cast(Vector, __builtin_convertvector(x, Native));
            }
        }
        const Words rounded = (bits(x) + 0x7fffu + ((bits(x) >> 16) & 1u)) >> 16;
        return __builtin_convertvector(x != x ? Words{} + 0x7fc0u : rounded, Halves);
    }

    CKERNELS_INLINE Vector narrowed_exact(Floats x) { return __builtin_convertvector(bits(x) >> 16, Halves); }

private:
    using Native = __bf16 __attribute__((vector_size(32)));
};

// has_instruction: whether the instruction set widens and narrows float16.
template <bool has_instruction> struct Float16 {
    using Storage = uint16_t;
    using Vector = Halves;

    CKERNELS_INLINE Floats widened(Vector x) {
        if constexpr (has_instruction) return __builtin_convertvector(__builtin_bit_cast(Native, x), Floats);
        const Words wide = __builtin_convertvector(x, Words);
        const Words magnitude = (wide & 0x7fffu) << 13;
        const Words scaled = bits(floats(magnitude) * 0x1p112f);
        const Words value = magnitude >= (0x7c00u << 13) ? (magnitude | 0x7f800000u) : scaled;
        return floats(value | ((wide & 0x8000u) << 16));
    }

    // A NaN becomes 0x7e00: the instruction would keep some of its bits.
    CKERNELS_INLINE Vector narrowed(Floats x) {
        if constexpr (has_instruction) {
            const Vector narrow = __builtin_bit_cast(Vector, __builtin_convertvector(x, Native));
            return __builtin_convertvector(x != x, Halves) != 0 ? Vector{} + uint16_t(0x7e00u) : narrow;
        }
        const Words magnitude = bits(x) & 0x7fffffffu;
        const Words normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
        const Words subnormal = bits(floats(magnitude) + 0.5f) - (126u << 23);
        Words result = magnitude < (113u << 23) ? subnormal : normal;
        result = magnitude >= 0x477ff000u ? Words{} + 0x7c00u : result;
        result |= (bits(x) >> 16) & 0x8000u;
        return __builtin_convertvector(x != x ? Words{} + 0x7e00u : result, Halves);
    }

    CKERNELS_INLINE Vector narrowed_exact(Floats x) { return narrowed(x); }

private:
    using Native = _Float16 __attribute__((vector_size(32)));
};

// The nearest number of the element type.
template <class Element> CKERNELS_INLINE Floats rounded(Floats x) { return Element::widened(Element::narrowed(x)); }

// MARK: Memory

// How many of the sixteen elements exist.
struct Whole {};
struct Part {
    int64_t count;
};

template <class Element> CKERNELS_INLINE Floats load(const typename Element::Storage *p, Whole) {
    typename Element::Vector x;
    std::memcpy(&x, p, sizeof x);
    return Element::widened(x);
}

// Lanes from `part.count` on are zero; nothing is read for them.
template <class Element> CKERNELS_INLINE Floats load(const typename Element::Storage *p, Part part) {
    typename Element::Storage padded[count] = {};
    for (int64_t i = 0; i < part.count; i++) padded[i] = p[i];
    return load<Element>(padded, Whole{});
}

template <class Element>
CKERNELS_INLINE void store_vector(typename Element::Storage *p, typename Element::Vector x, Whole) {
    std::memcpy(p, &x, sizeof x);
}

template <class Element>
CKERNELS_INLINE void store_vector(typename Element::Storage *p, typename Element::Vector x, Part part) {
    for (int64_t i = 0; i < part.count; i++) p[i] = x[i];
}

// Writes the nearest numbers of the element type.
template <class Element, class Extent> CKERNELS_INLINE void store(typename Element::Storage *p, Floats x, Extent extent) {
    store_vector<Element>(p, Element::narrowed(x), extent);
}

// Writes what the element type has without rounding.
template <class Element, class Extent>
CKERNELS_INLINE void store_exact(typename Element::Storage *p, Floats x, Extent extent) {
    store_vector<Element>(p, Element::narrowed_exact(x), extent);
}

// MARK: Loops

// Calls body(i, Whole or Part) for each sixteen elements of [begin, end).
template <class Body> CKERNELS_INLINE void for_each(int64_t begin, int64_t end, const Body &body) {
    int64_t i = begin;
    for (; i + count <= end; i += count) body(i, Whole{});
    if (i < end) body(i, Part{end - i});
}

// The sum of term(i, Whole or Part) over all lanes and each sixteen elements of [0, n).
//
// Four vectors of partial sums, because an addition takes four cycles; what is left after the last 64 elements goes into the
// first.
template <class Term> CKERNELS_INLINE float sum(int64_t n, const Term &term) {
    Floats sums[4] = {};
    int64_t i = 0;
    for (; i + 4 * count <= n; i += 4 * count) {
        for (int64_t k = 0; k < 4; k++) sums[k] += term(i + k * count, Whole{});
    }
    for (; i + count <= n; i += count) sums[0] += term(i, Whole{});
    if (i < n) sums[0] += term(i, Part{n - i});
    const Floats x = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    const auto eight = __builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7)
        + __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15);
    const auto four =
        __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
    return (four[0] + four[2]) + (four[1] + four[3]);
}

// MARK: Order

// Transposes 16 x 16 numbers: single ones and pairs within each four lanes, then fours of lanes.
CKERNELS_INLINE void transpose(Floats (&rows)[16]) {
    Floats t[16];
    for (int i = 0; i < 8; i++) {
        const Floats a = rows[2 * i], b = rows[2 * i + 1];
        t[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
        t[2 * i + 1] = __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
    }
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 2; k++) {
            const Floats a = t[4 * i + k], b = t[4 * i + 2 + k];
            rows[4 * i + 2 * k] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
            rows[4 * i + 2 * k + 1] = __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
        }
    }
    for (int half = 0; half < 16; half += 8) {
        for (int i = half; i < half + 4; i++) {
            t[i] = __builtin_shufflevector(rows[i], rows[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
            t[i + 4] = __builtin_shufflevector(rows[i], rows[i + 4], 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31);
        }
    }
    for (int i = 0; i < 8; i++) {
        rows[i] = __builtin_shufflevector(t[i], t[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
        rows[i + 8] = __builtin_shufflevector(t[i], t[i + 8], 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31);
    }
}

// MARK: Functions

// e^x: relative error 3e-7 down to e^-86, which all below is taken for; infinity above e^128 ln 2; a NaN stays one.
//
// With x = n ln 2 + r, 2^n e^r; e^r is 1 + r + r^2 q(r), q of degree 3 with the least largest relative error, 1.05e-7.
CKERNELS_INLINE Floats exp(Floats x) {
    x = x > 89.0f ? Floats{} + 89.0f : x;
    x = x < -86.0f ? Floats{} - 86.0f : x;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits. One less, so that 2^(n - 1) is built, which is finite
    // where 2^n is not.
    constexpr float magic = 12582911.0f;
    const Floats shifted = x * 1.4426950408889634f + magic;
    const Floats n = shifted - magic;
    // ln 2 in two parts, of which the first has few enough bits for an exact product.
    const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    const Floats q = 0.499992311f + r * (0.166671157f + r * (0.0418903306f + r * 0.008312501f));
    const Floats p = 1.0f + (r + (r * r) * q);
    const Floats half = floats(bits(p) + (bits(shifted) << 23));
    return half + half;
}

// 2^t, relative error 2e-7, for t up to 127; below -126 it is 2^-126, about 1e-38. A NaN stays one. Needs fused products.
//
// Polynomial of degree 5 on [-1/2, 1/2]; adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
CKERNELS_INLINE Floats exp2(Floats t) {
    t = t < -126.0f ? Floats{} - 126.0f : t;
    const Floats shifted = t + 12582912.0f;
    const Floats r = t - (shifted - 12582912.0f);
    constexpr float coefficients[] = {0.0013264729f, 0.0096715132f, 0.0555073374f, 0.2402224208f, 0.693146978f, 1.0f};
    Floats p = Floats{} + coefficients[0];
    for (int i = 1; i < 6; i++) p = __builtin_elementwise_fma(p, r, Floats{} + coefficients[i]);
    return floats(bits(p) + (bits(shifted) << 23));
}

// MARK: Dispatch

// What an instruction set converts by itself.
template <bool bfloat16, bool float16> struct Instructions {
    static constexpr bool has_bfloat16 = bfloat16, has_float16 = float16;
};

template <class Kernel> void run_portable(const Kernel &kernel) { kernel(Instructions<false, false>{}); }

#if CKERNELS_X86
template <class Kernel> CKERNELS_TARGET_AVX2 void run_avx2(const Kernel &kernel) { kernel(Instructions<false, true>{}); }

template <class Kernel> CKERNELS_TARGET_AVX512 void run_avx512(const Kernel &kernel) {
    kernel(Instructions<false, true>{});
}

template <class Kernel> CKERNELS_TARGET_AVX512_BF16 void run_avx512_bf16(const Kernel &kernel) {
    kernel(Instructions<true, true>{});
}
#endif

// Calls kernel(Instructions<...>{}), compiled for `isa`. Returns 0, or -1 for an instruction set that this machine lacks.
template <class Kernel> int32_t run(int32_t isa, const Kernel &kernel) {
    if (!ckernels_isa_is_supported(isa)) return -1;
    switch (isa) {
#if CKERNELS_X86
    case CKERNELS_ISA_AVX2:
        run_avx2(kernel);
        break;
    case CKERNELS_ISA_AVX512:
        run_avx512(kernel);
        break;
    case CKERNELS_ISA_AVX512_BF16:
        run_avx512_bf16(kernel);
        break;
#endif
    default:
        run_portable(kernel);
    }
    return 0;
}

// Calls kernel(Float32{}), kernel(BFloat16<...>{}) or kernel(Float16<...>{}), compiled for `isa`. Returns 0, or -1 for an
// unknown element type or an instruction set that this machine lacks.
template <class Kernel> int32_t run(int32_t isa, int32_t element_type, const Kernel &kernel) {
    if (element_type < CKERNELS_FLOAT32 || element_type > CKERNELS_FLOAT16) return -1;
    return run(isa, [&](auto instructions) CKERNELS_INLINE_LAMBDA {
        using Set = decltype(instructions);
        switch (element_type) {
        case CKERNELS_FLOAT32:
            return kernel(Float32{});
        case CKERNELS_BFLOAT16:
            return kernel(BFloat16<Set::has_bfloat16>{});
        default:
            return kernel(Float16<Set::has_float16>{});
        }
    });
}

}  // namespace lanes
