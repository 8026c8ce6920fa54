// SwiGLU: silu(gate) * up.
#include "lanes.h"

namespace swiglu {
namespace {

using lanes::Floats;

// Infinite where exp(-gate) overflows, from -88.7 on: then silu is -0 and its derivative 0, as in libtorch.
CKERNELS_INLINE Floats inverse_sigmoid(Floats gate) { return 1.0f + lanes::exp(-gate); }

template <class Element>
CKERNELS_INLINE void forward(
    const typename Element::Storage *gate, const typename Element::Storage *up, int64_t begin, int64_t end,
    typename Element::Storage *output) {
    lanes::for_each(begin, end, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        const Floats x = lanes::load<Element>(gate + i, extent);
        lanes::store<Element>(output + i, x / inverse_sigmoid(x) * lanes::load<Element>(up + i, extent), extent);
    });
}

template <class Element>
CKERNELS_INLINE void backward(
    const typename Element::Storage *gradient, const typename Element::Storage *gate,
    const typename Element::Storage *up, int64_t begin, int64_t end, typename Element::Storage *gate_gradient,
    typename Element::Storage *up_gradient) {
    lanes::for_each(begin, end, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        const Floats x = lanes::load<Element>(gate + i, extent);
        const Floats g = lanes::load<Element>(gradient + i, extent);
        const Floats sigmoid = 1.0f / inverse_sigmoid(x);
        const Floats derivative = sigmoid * (1.0f + x * (1.0f - sigmoid));
        lanes::store<Element>(gate_gradient + i, g * lanes::load<Element>(up + i, extent) * derivative, extent);
        lanes::store<Element>(up_gradient + i, g * (x * sigmoid), extent);
    });
}

}  // namespace
}  // namespace swiglu

int32_t ckernels_swiglu_forward(
    int32_t isa, int32_t element_type, const void *gate, const void *up, int64_t begin, int64_t end, void *output) {
    return lanes::run(isa, element_type, [&](auto element) CKERNELS_INLINE_LAMBDA {
        using Element = decltype(element);
        using Storage = typename Element::Storage;
        swiglu::forward<Element>(
            static_cast<const Storage *>(gate), static_cast<const Storage *>(up), begin, end,
            static_cast<Storage *>(output));
    });
}

int32_t ckernels_swiglu_backward(
    int32_t isa, int32_t element_type, const void *output_gradient, const void *gate, const void *up, int64_t begin,
    int64_t end, void *gate_gradient, void *up_gradient) {
    return lanes::run(isa, element_type, [&](auto element) CKERNELS_INLINE_LAMBDA {
        using Element = decltype(element);
        using Storage = typename Element::Storage;
        swiglu::backward<Element>(
            static_cast<const Storage *>(output_gradient), static_cast<const Storage *>(gate),
            static_cast<const Storage *>(up), begin, end, static_cast<Storage *>(gate_gradient),
            static_cast<Storage *>(up_gradient));
    });
}
