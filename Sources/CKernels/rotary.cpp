// Rotary embedding in the half-split layout.
#include "lanes.h"

namespace rotary {
namespace {

using lanes::Floats;

// One token; cosine and sine are widened once for all heads.
template <class Element>
CKERNELS_INLINE void rotate(
    const typename Element::Storage *input, const CKernelsStates &heads, const typename Element::Storage *cosine,
    const typename Element::Storage *sine, float direction, typename Element::Storage *output) {
    const int64_t half = heads.head_size / 2;
    lanes::for_each(0, half, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        const Floats c = lanes::load<Element>(cosine + i, extent);
        const Floats s = lanes::load<Element>(sine + i, extent) * direction;
        for (int64_t head = 0; head < heads.num_heads; head++) {
            const auto *first = input + head * heads.head_stride + i;
            auto *target = output + head * heads.head_size + i;
            const Floats a = lanes::load<Element>(first, extent);
            const Floats b = lanes::load<Element>(first + half, extent);
            lanes::store<Element>(target, a * c - b * s, extent);
            lanes::store<Element>(target + half, b * c + a * s, extent);
        }
    });
}

}  // namespace
}  // namespace rotary

int32_t ckernels_rotary_rotate(
    int32_t isa, int32_t element_type, CKernelsStates input, const void *cosine, const void *sine, int32_t is_inverse,
    int64_t token_begin, int64_t token_end, void *output) {
    return lanes::run(isa, element_type, [&](auto element) CKERNELS_INLINE_LAMBDA {
        using Element = decltype(element);
        using Storage = typename Element::Storage;
        for (int64_t token = token_begin; token < token_end; token++) {
            const int64_t angles = token * (input.head_size / 2);
            rotary::rotate<Element>(
                static_cast<const Storage *>(input.data) + token * input.token_stride, input,
                static_cast<const Storage *>(cosine) + angles, static_cast<const Storage *>(sine) + angles,
                is_inverse != 0 ? -1.0f : 1.0f,
                static_cast<Storage *>(output) + token * input.num_heads * input.head_size);
        }
    });
}
