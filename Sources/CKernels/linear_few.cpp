// The linear layer's output for few tokens: the weight is read once and multiplied in registers.
#include "half.h"
#include "parallel.h"
#include "vnni.h"
#include "workspace.h"

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

namespace {

using namespace vnni;

// Rows of an item: about 10 KiB of 4-bit codes, 0.5 us.
constexpr int64_t item_rows = 32;

// The pieces of the workspace.
struct Spaces {
    float *u;            // [tokens, rank]
    bfloat16 *arranged;  // [tokens, columns]
    int64_t used;

    Spaces(void *base, const CKernelsPanels &weight, int64_t rank, int64_t tokens) {
        Workspace all(reinterpret_cast<uintptr_t>(base));
        u = all.take<float>(tokens * rank);
        arranged = all.take<bfloat16>(weight.arrange ? tokens * weight.columns : 0);
        used = all.used() + (base ? 0 : Workspace::line);
    }
};

// u[t][k] = scale * x[t] A[k], rounded to bfloat16 as the product for many tokens has it.
void multiply_a(const CKernelsLowRank &term, int64_t columns, int64_t tokens, const bfloat16 *x, float *u) {
    for (int64_t k = 0; k < term.rank; k++) {
        const float *a = term.a + k * columns;
        for (int64_t t = 0; t < tokens; t++) {
            __m512 total = _mm512_setzero_ps();
            for (int64_t c = 0; c < columns; c += 32) {
                const int64_t left = columns - c;
                const __m512i row = narrowed(
                    _mm512_maskz_loadu_ps(first_of_16(left), a + c),
                    _mm512_maskz_loadu_ps(first_of_16(left - 16), a + c + 16));
                total = dot(total, row, load_up_to(x + t * columns + c, left));
            }
            u[t * term.rank + k] = float_from_bfloat16(bfloat16_from_float(term.scale * _mm512_reduce_add_ps(total)));
        }
    }
}

// u B[row], with B rounded to bfloat16.
float multiply_b(const CKernelsLowRank &term, int64_t row, const float *u) {
    __m512 total = _mm512_setzero_ps();
    for (int64_t k = 0; k < term.rank; k += 16) {
        const __mmask16 mask = first_of_16(term.rank - k);
        const __m512 b = widened(narrowed(_mm512_maskz_loadu_ps(mask, term.b + row * term.rank + k)));
        total = _mm512_fmadd_ps(b, _mm512_maskz_loadu_ps(mask, u + k), total);
    }
    return _mm512_reduce_add_ps(total);
}

// Adds bias and term to the sums of rows [begin, end) of a token, and rounds them.
void finish(
    const CKernelsLowRank &term, const bfloat16 *bias, const float *u, int64_t begin, int64_t end, float *sums,
    bfloat16 *output) {
    for (int64_t row = begin; row < end; row++) {
        float &sum = sums[row - begin];
        if (bias) sum += float_from_bfloat16(bias[row]);
        if (term.rank > 0) sum += multiply_b(term, row, u);
    }
    for (int64_t row = begin; row < end; row += 16) {
        const __mmask16 mask = first_of_16(end - row);
        _mm256_mask_storeu_epi16(output + row, mask, narrowed(_mm512_maskz_loadu_ps(mask, sums + row - begin)));
    }
}

}  // namespace

CKERNELS_VNNI_END

int64_t ckernels_linear_few_workspace_bytes(const CKernelsPanels *weight, int64_t rank, int64_t tokens) {
    return Spaces(nullptr, *weight, rank, tokens).used;
}

void ckernels_linear_forward_few(
    CKernelsThreads threads, const CKernelsPanels *weight, const CKernelsLowRank *low_rank, int64_t tokens,
    const uint16_t *x, const uint16_t *bias, uint16_t *y, void *workspace) {
    const int64_t rows = weight->rows, columns = weight->columns;
    const Spaces spaces(workspace, *weight, low_rank->rank, tokens);
    float *const u = spaces.u;
    if (low_rank->rank > 0) multiply_a(*low_rank, columns, tokens, x, u);
    if (weight->arrange) {
        for (int64_t t = 0; t < tokens; t++) weight->arrange(weight, x + t * columns, spaces.arranged + t * columns);
        x = spaces.arranged;
    }
    for_each_item(threads, divided_up(rows, item_rows), [&](int64_t item, int32_t) {
        const int64_t begin = item * item_rows, end = std::min(begin + item_rows, rows);
        alignas(64) float sums[CKERNELS_PANELS_MOST_TOKENS][item_rows];
        weight->multiply(weight, begin, end, tokens, x, sums[0], item_rows);
        for (int64_t t = 0; t < tokens; t++) {
            finish(*low_rank, bias, u + t * low_rank->rank, begin, end, sums[t], y + t * rows);
        }
    });
}

#else

// ckernels_linear_is_supported says so.

int64_t ckernels_linear_few_workspace_bytes(const CKernelsPanels *, int64_t, int64_t) { __builtin_trap(); }

void ckernels_linear_forward_few(
    CKernelsThreads, const CKernelsPanels *, const CKernelsLowRank *, int64_t, const uint16_t *, const uint16_t *,
    uint16_t *, void *) {
    __builtin_trap();
}

#endif
