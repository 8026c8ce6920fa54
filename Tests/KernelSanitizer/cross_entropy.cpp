// Cross entropy of a linear head and its gradient.
#include "check.h"

using namespace check;

namespace {

struct Shape {
    int64_t hidden, vocabulary, targets, gap;  // gap: elements between one row and the next
};

void check_case(int32_t isa, const Shape &shape, int32_t num_threads, bool with_gradient) {
    const auto [size, vocabulary, targets, gap] = shape;
    if (!ckernels_cross_entropy_is_supported(isa, size)) return;
    const bool has_pairs = isa == CKERNELS_ISA_AVX512_BF16;
    const std::string what = described(
        "cross entropy instruction set, hidden, vocabulary, targets, gap, threads", isa, size, vocabulary, targets, gap,
        num_threads);
    const int64_t rows = targets + 2, stride = size + gap;
    const Numbers hidden = normal(CKERNELS_BFLOAT16, rows * stride - gap);
    const Numbers weight = normal(CKERNELS_BFLOAT16, vocabulary * stride - gap, 0.5);
    Exact<int64_t> positions(targets), labels(targets);
    for (int64_t i = 0; i < targets; i++) {
        positions[i] = (i * 7 + 1) % rows;
        labels[i] = i * 31 % vocabulary;
    }
    Exact<float> losses(targets);
    Numbers gradient(CKERNELS_BFLOAT16, with_gradient ? targets * size : 0);
    Workspace workspace(ckernels_cross_entropy_workspace_bytes(isa, targets, size, with_gradient, num_threads));
    const CKernelsLinearHead head{size, vocabulary, hidden.bits16(), stride, weight.bits16(), stride};
    const int32_t status = ckernels_cross_entropy(
        isa, head, targets, positions.data(), labels.data(), threads(num_threads), workspace.data(), losses.data(),
        with_gradient ? gradient.bits16() : nullptr);
    require(status == 0, what + ": refused");

    std::vector<double> expected(targets), expected_gradient(size_t(targets * size));
    for (int64_t i = 0; i < targets; i++) {
        std::vector<double> logits(vocabulary);
        double sum = 0;
        for (int64_t v = 0; v < vocabulary; v++) {
            for (int64_t c = 0; c < size; c++) logits[v] += hidden[positions[i] * stride + c] * weight[v * stride + c];
            sum += std::exp(logits[v]);
        }
        expected[i] = std::log(sum) - logits[labels[i]];
        for (int64_t v = 0; v < vocabulary; v++) {
            const double factor = std::exp(logits[v]) / sum - (v == labels[i]);
            for (int64_t c = 0; c < size; c++) expected_gradient[size_t(i * size + c)] += factor * weight[v * stride + c];
        }
    }
    require_near(targets, [&](int64_t i) { return losses[i]; }, [&](int64_t i) { return expected[i]; }, has_pairs ? 5e-5 : 2e-6, what + ": losses");
    if (!with_gradient) return;
    require_near(
        targets * size, [&](int64_t i) { return gradient[i]; }, [&](int64_t i) { return expected_gradient[size_t(i)]; },
        has_pairs ? 6e-3 : 3e-3, what + ": gradient");
}

}  // namespace

void check_cross_entropy() {
    const Shape shapes[] = {{2, 3, 1, 0}, {34, 17, 3, 0}, {64, 300, 65, 1}, {66, 515, 130, 2}, {128, 129, 17, 0}, {67, 300, 65, 0}};
    for (const Shape &shape : shapes) {
        for (int32_t isa : instruction_sets()) {
            for (int32_t num_threads : thread_counts) {
                for (bool with_gradient : {false, true}) check_case(isa, shape, num_threads, with_gradient);
            }
        }
    }
}
