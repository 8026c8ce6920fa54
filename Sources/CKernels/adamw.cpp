// AdamW's update of a tensor in one pass.
#include "lanes.h"

namespace adamw {
namespace {

CKERNELS_INLINE void update(
    const CKernelsAdamW &c, const float *gradient, int64_t begin, int64_t end, float *parameter, float *first,
    float *second) {
    using lanes::Float32, lanes::Floats;
    lanes::for_each(begin, end, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        const auto load = [&](const float *from) CKERNELS_INLINE_LAMBDA { return lanes::load<Float32>(from + i, extent); };
        const Floats g = load(gradient), before = load(first);
        const Floats step = g - before;
        // Interpolated from the nearer end, as torch.lerp does.
        const Floats m = c.first_weight < 0.5f ? before + c.first_weight * step : g - step * (1 - c.first_weight);
        const Floats v = load(second) * c.second_decay + c.second_weight * g * g;
        const Floats root = __builtin_elementwise_sqrt(v) * c.root_scale + c.epsilon;
        const Floats p = load(parameter) * c.decay - c.rate * m / root;
        lanes::store<Float32>(first + i, m, extent);
        lanes::store<Float32>(second + i, v, extent);
        lanes::store<Float32>(parameter + i, p, extent);
    });
}

}  // namespace
}  // namespace adamw

int32_t ckernels_adamw_update(
    int32_t isa, const CKernelsAdamW *constants, const float *gradient, int64_t begin, int64_t end, float *parameter,
    float *first, float *second) {
    return lanes::run(isa, [&](auto) CKERNELS_INLINE_LAMBDA {
        adamw::update(*constants, gradient, begin, end, parameter, first, second);
    });
}
