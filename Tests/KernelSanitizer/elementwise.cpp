// RMSNorm, SwiGLU, rotary embedding and dropout.
#include "check.h"

using namespace check;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Calls body(isa, type, threads) for each combination.
template <class Body> void for_each_path(const Body &body) {
    for (int32_t isa : instruction_sets()) {
        for (int32_t type : element_types) {
            for (int32_t threads : thread_counts) body(isa, type, threads);
        }
    }
}

void check_rmsnorm_case(
    int32_t isa, int32_t type, int32_t num_threads, int64_t rows, int64_t size, float offset, int32_t rounds_first) {
    const std::string what =
        described("rmsnorm isa, type, threads, rows, size, rounds first", isa, type, num_threads, rows, size, rounds_first);
    const Numbers input = normal(type, rows * size), weight = normal(type, size), gradient = normal(type, rows * size);
    Numbers output(type, rows * size), input_gradient(type, rows * size);
    Exact<float> inverse(rows), weight_gradient(size);
    const float epsilon = 1e-3f;
    in_ranges(num_threads, rows, [&](int64_t begin, int64_t end) {
        ckernels_rmsnorm_forward(
            isa, type, input.data(), weight.data(), offset, rounds_first, epsilon, size, begin, end, output.data(),
            inverse.data());
        ckernels_rmsnorm_backward(
            isa, type, gradient.data(), input.data(), weight.data(), offset, inverse.data(), size, begin, end,
            input_gradient.data());
    });
    in_ranges(num_threads, size, [&](int64_t begin, int64_t end) {
        ckernels_rmsnorm_weight_gradient(
            isa, type, gradient.data(), input.data(), inverse.data(), rows, size, begin, end, weight_gradient.data());
    });
    std::vector<double> expected(rows * size), expected_gradient(rows * size), expected_weight(size);
    for (int64_t row = 0; row < rows; row++) {
        const int64_t first = row * size;
        double squares = 0, projection = 0;
        for (int64_t i = 0; i < size; i++) squares += input[first + i] * input[first + i];
        const double root = 1 / std::sqrt(squares / size + epsilon);
        for (int64_t i = 0; i < size; i++) {
            projection += (offset + weight[i]) * gradient[first + i] * input[first + i] * root / size;
        }
        for (int64_t i = 0; i < size; i++) {
            const double normalized = input[first + i] * root;
            expected[first + i] = (offset + weight[i]) * normalized;
            expected_gradient[first + i] = root * ((offset + weight[i]) * gradient[first + i] - normalized * projection);
            expected_weight[i] += gradient[first + i] * normalized;
        }
    }
    const double tolerance = 4 * output.epsilon() + 1e-6;
    require_near(rows * size, [&](int64_t i) { return output[i]; }, [&](int64_t i) { return expected[i]; }, tolerance, what);
    // Of one channel the gradient is a difference of almost equal terms.
    const double gradient_tolerance = size == 1 ? 1 : tolerance;
    require_near(
        rows * size, [&](int64_t i) { return input_gradient[i]; }, [&](int64_t i) { return expected_gradient[i]; },
        gradient_tolerance, what + ": gradient of the input");
    require_near(
        size, [&](int64_t i) { return weight_gradient[i]; }, [&](int64_t i) { return expected_weight[i]; }, 1e-5,
        what + ": gradient of the weight");
}

void check_swiglu_case(int32_t isa, int32_t type, int32_t num_threads, int64_t count) {
    const std::string what = described("swiglu isa, type, threads, count", isa, type, num_threads, count);
    const Numbers gate = normal(type, count, 3), up = normal(type, count), gradient = normal(type, count);
    Numbers output(type, count), gate_gradient(type, count), up_gradient(type, count);
    in_ranges(num_threads, count, [&](int64_t begin, int64_t end) {
        ckernels_swiglu_forward(isa, type, gate.data(), up.data(), begin, end, output.data());
        ckernels_swiglu_backward(
            isa, type, gradient.data(), gate.data(), up.data(), begin, end, gate_gradient.data(), up_gradient.data());
    });
    const double tolerance = output.epsilon() + 1e-6;
    require_near(
        count, [&](int64_t i) { return output[i]; }, [&](int64_t i) { return gate[i] * sigmoid(gate[i]) * up[i]; }, tolerance,
        what);
    require_near(
        count, [&](int64_t i) { return gate_gradient[i]; },
        [&](int64_t i) {
            const double s = sigmoid(gate[i]);
            return gradient[i] * up[i] * s * (1 + gate[i] * (1 - s));
        },
        tolerance, what + ": gradient of the gate");
    require_near(
        count, [&](int64_t i) { return up_gradient[i]; },
        [&](int64_t i) { return gradient[i] * gate[i] * sigmoid(gate[i]); }, tolerance, what + ": gradient of up");
}

struct Heads {
    int64_t tokens, heads, size, gap;  // gap: elements between one token and the next
};

void check_rotary_case(int32_t isa, int32_t type, int32_t num_threads, const Heads &shape, bool is_inverse) {
    const std::string what = described(
        "rotary isa, type, threads, tokens, heads, size, inverse", isa, type, num_threads, shape.tokens, shape.heads, shape.size,
        int(is_inverse));
    const int64_t half = shape.size / 2, stride = shape.heads * shape.size + shape.gap;
    const Numbers states = normal(type, shape.tokens * stride - shape.gap);
    Numbers cosine(type, shape.tokens * half), sine(type, shape.tokens * half);
    Numbers output(type, shape.tokens * shape.heads * shape.size);
    for (int64_t i = 0; i < cosine.size(); i++) {
        cosine.set(i, std::cos(0.3 * double(i)));
        sine.set(i, std::sin(0.3 * double(i)));
    }
    const CKernelsStates input{states.data(), stride, shape.size, shape.heads, shape.size};
    in_ranges(num_threads, shape.tokens, [&](int64_t begin, int64_t end) {
        ckernels_rotary_rotate(
            isa, type, input, cosine.data(), sine.data(), is_inverse, begin, end, output.data());
    });
    require_near(
        output.size(), [&](int64_t i) { return output[i]; },
        [&](int64_t i) {
            const int64_t channel = i % shape.size, token = i / shape.size / shape.heads;
            const int64_t first = token * stride + i / shape.size % shape.heads * shape.size + channel % half;
            const double c = cosine[token * half + channel % half];
            const double s = sine[token * half + channel % half] * (is_inverse ? -1 : 1);
            return channel < half ? states[first] * c - states[first + half] * s : states[first + half] * c + states[first] * s;
        },
        output.epsilon() + 1e-6, what);
}

// The random number of an element, 16 bits.
uint64_t random_bits(uint64_t seed, int64_t i) {
    uint64_t x = seed + uint64_t(i / 4 + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return x >> (16 * (i % 4)) & 0xFFFF;
}

void check_dropout_case(int32_t isa, int32_t type, int32_t num_threads, int64_t count) {
    const std::string what = described("dropout isa, type, threads, count", isa, type, num_threads, count);
    const uint64_t seed = 0xFEDCBA9876543210u;
    const uint16_t num_dropped = 20000;
    const Numbers input = normal(type, count);
    Exact<uint8_t> kept(count);
    Numbers output(type, count);
    in_ranges(num_threads, (count + 3) / 4, [&](int64_t begin, int64_t end) {
        ckernels_dropout_mask(isa, seed, num_dropped, count, begin, end, kept.data());
    });
    in_ranges(num_threads, count, [&](int64_t begin, int64_t end) {
        ckernels_dropout_apply(isa, type, input.data(), kept.data(), begin, end, output.data());
    });
    bool is_same_mask = true, is_applied = true;
    for (int64_t i = 0; i < count; i++) {
        is_same_mask = is_same_mask && kept[i] == (random_bits(seed, i) >= num_dropped);
        is_applied = is_applied && output[i] == (kept[i] ? input[i] : 0);
    }
    require(is_same_mask, what + ": another mask");
    require(is_applied, what + ": not the input where it is kept and zero elsewhere");
}

void check_adamw_case(int32_t isa, int32_t num_threads, int64_t count, float first_weight) {
    const std::string what = described("adamw isa, threads, count", isa, num_threads, count);
    const CKernelsAdamW c = {first_weight, 0.99f, 0.01f, 1.5f, 1e-6f, 0.999f, 1e-2f};
    const Numbers gradient = normal(CKERNELS_FLOAT32, count), before = normal(CKERNELS_FLOAT32, count);
    Exact<float> g(count), parameter(count), first(count), second(count);
    for (int64_t i = 0; i < count; i++) {
        g[i] = float(gradient[i]);
        parameter[i] = float(before[i]);
        first[i] = float(0.5 * before[i]);
        second[i] = float(before[i] * before[i]);
    }
    in_ranges(num_threads, count, [&](int64_t begin, int64_t end) {
        ckernels_adamw_update(isa, &c, g.data(), begin, end, parameter.data(), first.data(), second.data());
    });
    std::vector<double> expected(count), expected_first(count);
    for (int64_t i = 0; i < count; i++) {
        expected_first[i] = 0.5 * before[i] + first_weight * (gradient[i] - 0.5 * before[i]);
        const double v = 0.99 * before[i] * before[i] + 0.01 * gradient[i] * gradient[i];
        expected[i] = 0.999 * before[i] - 1e-2 * expected_first[i] / (1.5 * std::sqrt(v) + 1e-6);
    }
    const double tolerance = count == 1 ? 1e-5 : 1e-6;  // of one element it may be a difference of almost equal terms
    require_near(count, [&](int64_t i) { return parameter[i]; }, [&](int64_t i) { return expected[i]; }, tolerance, what);
    require_near(
        count, [&](int64_t i) { return first[i]; }, [&](int64_t i) { return expected_first[i]; }, tolerance,
        what + ": first moment");
}

}  // namespace

void check_adamw() {
    for (int32_t isa : instruction_sets()) {
        for (int32_t threads : thread_counts) {
            for (int64_t count : {1, 15, 16, 17, 64, 1003}) {
                for (float first_weight : {0.1f, 0.7f}) check_adamw_case(isa, threads, count, first_weight);
            }
        }
    }
}

void check_rmsnorm() {
    for_each_path([](int32_t isa, int32_t type, int32_t threads) {
        for (int64_t rows : {1, 5, 67}) {
            for (int64_t size : {1, 15, 16, 17, 64, 131}) {
                check_rmsnorm_case(isa, type, threads, rows, size, 0, 1);
                check_rmsnorm_case(isa, type, threads, rows, size, 1, 0);
            }
        }
    });
}

void check_swiglu() {
    for_each_path([](int32_t isa, int32_t type, int32_t threads) {
        for (int64_t count : {1, 15, 16, 17, 64, 1003}) check_swiglu_case(isa, type, threads, count);
    });
}

void check_rotary() {
    for_each_path([](int32_t isa, int32_t type, int32_t threads) {
        for (const Heads &shape : {Heads{1, 1, 2, 0}, {3, 2, 6, 5}, {5, 3, 32, 0}, {7, 2, 66, 1}}) {
            for (bool is_inverse : {false, true}) check_rotary_case(isa, type, threads, shape, is_inverse);
        }
    });
}

void check_dropout() {
    for_each_path([](int32_t isa, int32_t type, int32_t threads) {
        for (int64_t count : {1, 3, 4, 63, 64, 65, 1003}) check_dropout_case(isa, type, threads, count);
    });
}
