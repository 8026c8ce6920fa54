// The linear layer: which arithmetic computes.
#include "linear.h"

namespace {

// Null if there is none.
const linear::Passes *passes(int32_t isa, int32_t element_type) {
#if CKERNELS_X86
    const bool is_known = element_type == CKERNELS_FLOAT32 || element_type == CKERNELS_BFLOAT16;
    if (!is_known || !ckernels_isa_is_supported(isa)) return nullptr;
    if (isa == CKERNELS_ISA_AVX512_BF16 && element_type == CKERNELS_BFLOAT16) return &linear::passes_avx512_bf16;
    if (isa == CKERNELS_ISA_AVX512_BF16 || isa == CKERNELS_ISA_AVX512) return &linear::passes_avx512[element_type];
    if (isa == CKERNELS_ISA_AVX2) return &linear::passes_avx2[element_type];
#endif
    return nullptr;
}

}  // namespace

int64_t ckernels_linear_padded_rank(int64_t rank) { return rounded_up(rank, linear::rank_step); }

int32_t ckernels_linear_is_supported(int32_t isa, int32_t element_type, int64_t rows, int64_t columns) {
    const linear::Passes *const chosen = passes(isa, element_type);
    return chosen && rows > 0 && columns > 0 && rows % chosen->multiple == 0 && columns % chosen->multiple == 0;
}

int64_t ckernels_linear_workspace_bytes(
    int32_t isa, int32_t element_type, int64_t rows, int64_t columns, int64_t rank, int64_t tokens, int64_t num_segments,
    int32_t threads) {
    return passes(isa, element_type)->workspace_bytes(rows, columns, rank, tokens, num_segments, threads);
}

void ckernels_linear_forward(
    int32_t isa, int32_t element_type, CKernelsThreads threads, const CKernelsPanels *weight, const CKernelsLowRank *low_rank,
    int64_t tokens, const void *x, const void *low_x, const void *bias, void *u, void *y, void *workspace) {
    passes(isa, element_type)->forward(threads, *weight, *low_rank, tokens, x, low_x, bias, u, y, workspace);
}

void ckernels_linear_backward(
    int32_t isa, int32_t element_type, CKernelsThreads threads, const CKernelsPanels *weight, const CKernelsLowRank *low_rank,
    CKernelsSegments segments, const void *low_x, const void *u, const void *dy, void *dx, double *da, double *db,
    void *workspace) {
    passes(isa, element_type)->backward(threads, *weight, *low_rank, segments, low_x, u, dy, dx, da, db, workspace);
}
