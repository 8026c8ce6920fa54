// RMSNorm: a row's statistics, then its elements, while the row is in the first cache.
#include "lanes.h"

namespace rmsnorm {
namespace {

using lanes::Floats;

// Rows that are added before their sum is: the error of a sum of many rows stays that of two short ones.
constexpr int64_t rows_of_block = 64;

template <class Element> using Pointer = const typename Element::Storage *;

// The factors of the channels: offset + weight, in float32.
template <class Element> struct Factors {
    Pointer<Element> weight;
    float offset;
};

template <class Element, class Extent>
CKERNELS_INLINE Floats load(const Factors<Element> &factors, int64_t i, Extent extent) {
    return lanes::load<Element>(factors.weight + i, extent) + factors.offset;
}

template <class Element>
CKERNELS_INLINE void forward(
    Pointer<Element> input, Factors<Element> factors, bool rounds_first, float epsilon, int64_t n,
    typename Element::Storage *output, float *inverse) {
    const float squares = lanes::sum(n, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        const Floats x = lanes::load<Element>(input + i, extent);
        return x * x;
    });
    const float root = 1.0f / __builtin_sqrtf(squares / float(n) + epsilon);
    *inverse = root;
    lanes::for_each(0, n, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        const Floats exact = lanes::load<Element>(input + i, extent) * root;
        const Floats normalized = rounds_first ? lanes::rounded<Element>(exact) : exact;
        lanes::store<Element>(output + i, load(factors, i, extent) * normalized, extent);
    });
}

template <class Element>
CKERNELS_INLINE void backward(
    Pointer<Element> gradient, Pointer<Element> input, Factors<Element> factors, float inverse, int64_t n,
    typename Element::Storage *input_gradient) {
    const auto scaled = [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        return load(factors, i, extent) * lanes::load<Element>(gradient + i, extent);
    };
    const auto normalized = [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        return lanes::load<Element>(input + i, extent) * inverse;
    };
    const float projection = lanes::sum(n, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        return scaled(i, extent) * normalized(i, extent);
    }) / float(n);
    lanes::for_each(0, n, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
        const Floats centred = scaled(i, extent) - normalized(i, extent) * projection;
        lanes::store<Element>(input_gradient + i, centred * inverse, extent);
    });
}

template <class Element>
CKERNELS_INLINE void weight_gradient(
    Pointer<Element> gradient, Pointer<Element> input, const float *inverse, int64_t num_rows, int64_t n, int64_t begin,
    int64_t end, float *result) {
    for (int64_t channel = begin; channel < end; channel++) result[channel] = 0;
    for (int64_t block = 0; block < num_rows; block += rows_of_block) {
        const int64_t block_end = block + rows_of_block < num_rows ? block + rows_of_block : num_rows;
        lanes::for_each(begin, end, [&](int64_t i, auto extent) CKERNELS_INLINE_LAMBDA {
            Floats sum = {};
            for (int64_t row = block; row < block_end; row++) {
                const Floats normalized = lanes::load<Element>(input + row * n + i, extent) * inverse[row];
                sum += lanes::load<Element>(gradient + row * n + i, extent) * normalized;
            }
            const Floats total = lanes::load<lanes::Float32>(result + i, extent) + sum;
            lanes::store<lanes::Float32>(result + i, total, extent);
        });
    }
}

}  // namespace
}  // namespace rmsnorm

int32_t ckernels_rmsnorm_forward(
    int32_t isa, int32_t element_type, const void *input, const void *weight, float weight_offset,
    int32_t rounds_first, float epsilon, int64_t hidden_size, int64_t row_begin, int64_t row_end, void *output,
    float *inverse) {
    return lanes::run(isa, element_type, [&](auto element) CKERNELS_INLINE_LAMBDA {
        using Element = decltype(element);
        using Storage = typename Element::Storage;
        for (int64_t row = row_begin; row < row_end; row++) {
            const int64_t start = row * hidden_size;
            rmsnorm::forward<Element>(
                static_cast<const Storage *>(input) + start,
                rmsnorm::Factors<Element>{static_cast<const Storage *>(weight), weight_offset}, rounds_first != 0, epsilon,
                hidden_size, static_cast<Storage *>(output) + start, inverse + row);
        }
    });
}

int32_t ckernels_rmsnorm_backward(
    int32_t isa, int32_t element_type, const void *output_gradient, const void *input, const void *weight,
    float weight_offset, const float *inverse, int64_t hidden_size, int64_t row_begin, int64_t row_end,
    void *input_gradient) {
    return lanes::run(isa, element_type, [&](auto element) CKERNELS_INLINE_LAMBDA {
        using Element = decltype(element);
        using Storage = typename Element::Storage;
        for (int64_t row = row_begin; row < row_end; row++) {
            const int64_t start = row * hidden_size;
            rmsnorm::backward<Element>(
                static_cast<const Storage *>(output_gradient) + start, static_cast<const Storage *>(input) + start,
                rmsnorm::Factors<Element>{static_cast<const Storage *>(weight), weight_offset}, inverse[row], hidden_size,
                static_cast<Storage *>(input_gradient) + start);
        }
    });
}

int32_t ckernels_rmsnorm_weight_gradient(
    int32_t isa, int32_t element_type, const void *output_gradient, const void *input, const float *inverse,
    int64_t num_rows, int64_t hidden_size, int64_t channel_begin, int64_t channel_end, float *weight_gradient) {
    return lanes::run(isa, element_type, [&](auto element) CKERNELS_INLINE_LAMBDA {
        using Element = decltype(element);
        using Storage = typename Element::Storage;
        rmsnorm::weight_gradient<Element>(
            static_cast<const Storage *>(output_gradient), static_cast<const Storage *>(input), inverse, num_rows,
            hidden_size, channel_begin, channel_end, weight_gradient);
    });
}
