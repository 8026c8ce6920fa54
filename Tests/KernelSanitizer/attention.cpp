// Attention, forward and backward.
#include "check.h"

using namespace check;

namespace {

constexpr double tolerance = 1.5e-2;

struct Shape {
    std::vector<int64_t> segments;
    int64_t heads, key_value_heads, size, window;

    int64_t num_tokens() const {
        int64_t sum = 0;
        for (int64_t length : segments) sum += length;
        return sum;
    }
};

// A tensor [N, heads, D] in a block of exactly its size, with elements between one token and the next.
struct Heads {
    int64_t heads, size, stride;
    Numbers numbers;

    Heads(int64_t tokens, int64_t heads, int64_t size, int64_t gap)
        : heads(heads), size(size), stride(heads * size + gap), numbers(normal(CKERNELS_BFLOAT16, tokens * stride - gap)) {}
    double operator()(int64_t token, int64_t head, int64_t i) const { return numbers[token * stride + head * size + i]; }
    CKernelsHeads view() const { return {numbers.bits16(), stride, size}; }
    CKernelsMutableHeads view() { return {numbers.bits16(), stride, size}; }
};

// The results of double loops, [N, heads, D] without gaps.
struct Expected {
    std::vector<double> output, log_sum_exp, query, key, value;

    Expected(const Shape &shape, const Heads &q, const Heads &k, const Heads &v, const Heads &gradient, double scale);

private:
    void add_row(
        const Shape &shape, const Heads &q, const Heads &k, const Heads &v, const Heads &gradient, double scale, int64_t first,
        int64_t token, int64_t head);
};

Expected::Expected(const Shape &shape, const Heads &q, const Heads &k, const Heads &v, const Heads &gradient, double scale)
    : output(size_t(shape.num_tokens() * shape.heads * shape.size)), log_sum_exp(size_t(shape.num_tokens() * shape.heads)),
      query(output.size()), key(size_t(shape.num_tokens() * shape.key_value_heads * shape.size)), value(key.size()) {
    int64_t begin = 0;
    for (int64_t length : shape.segments) {
        for (int64_t token = begin; token < begin + length; token++) {
            const int64_t first = shape.window > 0 ? std::max(begin, token - shape.window + 1) : begin;
            for (int64_t head = 0; head < shape.heads; head++) add_row(shape, q, k, v, gradient, scale, first, token, head);
        }
        begin += length;
    }
}

// One query: keys [first, token].
void Expected::add_row(
    const Shape &shape, const Heads &q, const Heads &k, const Heads &v, const Heads &gradient, double scale, int64_t first,
    int64_t token, int64_t head) {
    const int64_t size = shape.size, shared = head / (shape.heads / shape.key_value_heads);
    std::vector<double> weights, products;
    double sum = 0, projection = 0;
    for (int64_t t = first; t <= token; t++) {
        double score = 0, product = 0;
        for (int64_t i = 0; i < size; i++) {
            score += q(token, head, i) * k(t, shared, i);
            product += gradient(token, head, i) * v(t, shared, i);
        }
        weights.push_back(std::exp(scale * score));
        products.push_back(product);
        sum += weights.back();
    }
    log_sum_exp[size_t(head * shape.num_tokens() + token)] = std::log(sum);
    const size_t row = size_t((token * shape.heads + head) * size);
    for (size_t j = 0; j < weights.size(); j++) projection += weights[j] / sum * products[j];
    for (size_t j = 0; j < weights.size(); j++) {
        const int64_t t = first + int64_t(j);
        const double weight = weights[j] / sum, score_gradient = scale * weight * (products[j] - projection);
        const size_t other = size_t((t * shape.key_value_heads + shared) * size);
        for (int64_t i = 0; i < size; i++) {
            output[row + i] += weight * v(t, shared, i);
            query[row + i] += score_gradient * k(t, shared, i);
            key[other + i] += score_gradient * q(token, head, i);
            value[other + i] += weight * gradient(token, head, i);
        }
    }
}

// `floor`: what the norm of a gradient that is nearly zero is compared with.
void require_heads(const Heads &found, const std::vector<double> &expected, const std::string &what, double floor = 0) {
    double norm = 0, difference = 0;
    for (size_t i = 0; i < expected.size(); i++) {
        const int64_t channel = int64_t(i) % found.size, head = int64_t(i) / found.size % found.heads;
        const double distance = found(int64_t(i) / found.size / found.heads, head, channel) - expected[i];
        difference += distance * distance;
        norm += expected[i] * expected[i];
    }
    const double error = std::sqrt(difference) / std::max(std::sqrt(norm), floor);
    require(error <= tolerance, what + ": found an error of " + std::to_string(error));
}

void check_case(const Shape &shape, int32_t num_threads, int64_t gap) {
    const int64_t tokens = shape.num_tokens(), size = shape.size;
    const std::string what = described(
        "attention tokens, segments, heads, groups, size, window, threads, gap", tokens, shape.segments.size(), shape.heads,
        shape.key_value_heads, size, shape.window, num_threads, gap);
    const float scale = 0.7f / std::sqrt(float(size));
    const Heads q(tokens, shape.heads, size, gap), k(tokens, shape.key_value_heads, size, gap);
    const Heads v(tokens, shape.key_value_heads, size, gap), gradient(tokens, shape.heads, size, gap);
    Heads output(tokens, shape.heads, size, gap), dq(tokens, shape.heads, size, gap);
    Heads dk(tokens, shape.key_value_heads, size, gap), dv(tokens, shape.key_value_heads, size, gap);
    Exact<float> log_sum_exp(tokens * shape.heads);
    const CKernelsAttention attention{
        int64_t(shape.segments.size()), shape.segments.data(), shape.heads, shape.key_value_heads, size, shape.window, scale};
    {
        Workspace workspace(ckernels_attention_forward_workspace_bytes(&attention, num_threads));
        require(
            ckernels_attention_forward(
                threads(num_threads), &attention, q.view(), k.view(), v.view(), output.view(), log_sum_exp.data(), workspace.data())
                == 0,
            what + ": refused");
    }
    Workspace workspace(ckernels_attention_backward_workspace_bytes(&attention, num_threads));
    ckernels_attention_backward(
        threads(num_threads), &attention, q.view(), k.view(), v.view(), std::as_const(output).view(), gradient.view(),
        log_sum_exp.data(), dq.view(), dk.view(), dv.view(), workspace.data());
    const Expected expected(shape, q, k, v, gradient, scale);
    require_heads(output, expected.output, what + ": output");
    double largest = 0;
    for (int64_t i = 0; i < log_sum_exp.size(); i++) {
        largest = std::max(largest, std::fabs(log_sum_exp[i] - expected.log_sum_exp[size_t(i)]));
    }
    require(largest < 1e-4, what + ": log sum exp");
    // A token that sees itself alone has no gradient of scores.
    const double floor = std::sqrt(double(tokens));
    require_heads(dq, expected.query, what + ": gradient of the query", floor);
    require_heads(dk, expected.key, what + ": gradient of the key", floor);
    require_heads(dv, expected.value, what + ": gradient of the value");
}

// The newest token against all keys, with double loops.
void check_newest(int64_t num_keys, int64_t heads, int64_t shared, int64_t size, int32_t num_threads) {
    const Heads q(1, heads, size, 0), k(num_keys, shared, size, 3), v(num_keys, shared, size, 5);
    Heads output(1, heads, size, 0);
    const double scale = 1 / std::sqrt(double(size));
    const CKernelsNewest newest{
        num_keys, heads, shared, size, float(scale), q.numbers.bits16(), k.view(), v.view(), output.numbers.bits16()};
    Workspace workspace(ckernels_attention_newest_workspace_bytes(&newest));
    const std::string what = described("newest keys, heads, shared, size, threads", num_keys, heads, shared, size, num_threads);
    require(ckernels_attention_newest(threads(num_threads), &newest, workspace.data()) == 0, what + ": refused");
    std::vector<double> expected(size_t(heads * size));
    for (int64_t head = 0; head < heads; head++) {
        const int64_t from = head / (heads / shared);
        double sum = 0;
        for (int64_t key = 0; key < num_keys; key++) {
            double score = 0;
            for (int64_t i = 0; i < size; i++) score += q(0, head, i) * k(key, from, i);
            const double weight = std::exp(score * scale);
            sum += weight;
            for (int64_t i = 0; i < size; i++) expected[size_t(head * size + i)] += weight * v(key, from, i);
        }
        for (int64_t i = 0; i < size; i++) expected[size_t(head * size + i)] /= sum;
    }
    require_near(
        heads * size, [&](int64_t i) { return output.numbers[i]; }, [&](int64_t i) { return expected[size_t(i)]; }, tolerance, what);
}

}  // namespace

void check_attention() {
    const Shape shapes[] = {
        {{1}, 1, 1, 1, 0}, {{5, 1, 33}, 4, 2, 5, 0}, {{70, 129}, 3, 1, 16, 0}, {{67, 3}, 2, 2, 64, 7}, {{130}, 4, 1, 80, 64},
        {{9, 40}, 2, 1, 255, 0}, {{65}, 1, 1, 256, 1},
    };
    for (const Shape &shape : shapes) {
        for (int32_t num_threads : thread_counts) {
            for (int64_t gap : {0, 3}) check_case(shape, num_threads, gap);
        }
    }
    for (int32_t num_threads : thread_counts) {
        check_newest(1, 3, 3, 64, num_threads);
        check_newest(259, 9, 3, 66, num_threads);
        check_newest(1027, 10, 2, 34, num_threads);
        check_newest(6, 5, 1, 256, num_threads);
    }
}
