// Dropout: the mask from SplitMix64 in counter mode, eight outputs at a time; its product with a tensor.
#include <algorithm>
#include <bit>

#include "lanes.h"

namespace dropout {
namespace {

constexpr int64_t numbers_of_block = 4, blocks_at_once = 8, numbers_at_once = numbers_of_block * blocks_at_once;
constexpr uint64_t increment = 0x9e3779b97f4a7c15u;

using States = uint64_t __attribute__((vector_size(64)));
using Numbers = uint16_t __attribute__((vector_size(64)));
using Bytes = uint8_t __attribute__((vector_size(32)));

static_assert(std::endian::native == std::endian::little, "an output's lowest bits are its first number");

// Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators", figure 16.
CKERNELS_INLINE States mixed(States x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

CKERNELS_INLINE void fill(uint64_t seed, uint16_t num_dropped, int64_t begin, int64_t end, uint8_t *kept) {
    const States order = {1, 2, 3, 4, 5, 6, 7, 8};
    States states = seed + (order + uint64_t(begin / numbers_of_block)) * increment;
    for (int64_t i = begin; i < end; i += numbers_at_once) {
        const Numbers is_kept = Numbers(std::bit_cast<Numbers>(mixed(states)) >= num_dropped) & uint16_t(1);
        const Bytes bytes = __builtin_convertvector(is_kept, Bytes);
        states += increment * uint64_t(blocks_at_once);
        if (i + numbers_at_once <= end) {
            std::memcpy(kept + i, &bytes, sizeof bytes);
        } else {
            for (int64_t k = 0; k < end - i; k++) kept[i + k] = bytes[k];
        }
    }
}

// Bytes 0 and 1, as an element type that is only read.
struct Mask {
    using Storage = uint8_t;
    using Vector = uint8_t __attribute__((vector_size(16)));
    CKERNELS_INLINE lanes::Floats widened(Vector x) { return __builtin_convertvector(x, lanes::Floats); }
};

template <class Element>
CKERNELS_INLINE void apply(
    const typename Element::Storage *input, const uint8_t *kept, int64_t begin, int64_t end,
    typename Element::Storage *output) {
    lanes::for_each(begin, end, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        const lanes::Floats x = lanes::load<Element>(input + i, extent);
        lanes::store_exact<Element>(output + i, x * lanes::load<Mask>(kept + i, extent), extent);
    });
}

}  // namespace
}  // namespace dropout

int32_t ckernels_dropout_mask(
    int32_t isa, uint64_t seed, uint16_t num_dropped, int64_t count, int64_t block_begin, int64_t block_end, uint8_t *kept) {
    const int64_t begin = dropout::numbers_of_block * block_begin;
    const int64_t end = std::min(dropout::numbers_of_block * block_end, count);
    return lanes::run(isa, [&](auto) CKERNELS_INLINE_LAMBDA { dropout::fill(seed, num_dropped, begin, end, kept); });
}

int32_t ckernels_dropout_apply(
    int32_t isa, int32_t element_type, const void *input, const uint8_t *kept, int64_t begin, int64_t end, void *output) {
    return lanes::run(isa, element_type, [&](auto element) CKERNELS_INLINE_LAMBDA {
        using Element = decltype(element);
        using Storage = typename Element::Storage;
        dropout::apply<Element>(
            static_cast<const Storage *>(input), kept, begin, end, static_cast<Storage *>(output));
    });
}
