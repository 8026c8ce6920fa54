// Cross entropy of a linear head: which arithmetic computes, and targets divided over threads.
#include "cross_entropy.h"

namespace {

using namespace cross_entropy;

// Null if there is none.
const Kernel *kernel(int32_t isa) {
    if (!ckernels_isa_is_supported(isa)) return nullptr;
    switch (isa) {
#if CKERNELS_X86
    case CKERNELS_ISA_AVX512_BF16:
        return &kernel_avx512_bf16;
    case CKERNELS_ISA_AVX512:
        return &kernel_avx512;
    case CKERNELS_ISA_AVX2:
        return &kernel_avx2;
#endif
    default:
        return nullptr;
    }
}

Plan plan(const Kernel &kernel, int64_t num_targets, int64_t hidden_size, bool with_gradient, int64_t num_threads) {
    Plan plan;
    plan.num_tiles = divided_up(num_targets, tile_size);
    const int64_t threads = std::max<int64_t>(num_threads, 1);
    // As few rounds as the largest group allows, and then all of them equally full.
    const int64_t rounds = std::max<int64_t>(divided_up(plan.num_tiles, threads * max_tiles), 1);
    plan.group_tiles = std::max<int64_t>(divided_up(plan.num_tiles, threads * rounds), 1);
    plan.num_groups = divided_up(plan.num_tiles, plan.group_tiles);
    plan.bytes_per_thread = kernel.bytes_per_thread(hidden_size, with_gradient, plan.group_tiles);
    return plan;
}

}  // namespace

int32_t ckernels_cross_entropy_is_supported(int32_t isa, int64_t hidden_size) {
    const Kernel *const chosen = kernel(isa);
    return chosen && hidden_size > 0 && hidden_size % chosen->multiple == 0;
}

int64_t ckernels_cross_entropy_workspace_bytes(
    int32_t isa, int64_t num_targets, int64_t hidden_size, int32_t with_gradient, int32_t num_threads) {
    const Plan division = plan(*kernel(isa), num_targets, hidden_size, with_gradient != 0, num_threads);
    return division.bytes_per_thread * std::min<int64_t>(std::max(num_threads, 1), division.num_groups);
}

int32_t ckernels_cross_entropy(
    int32_t isa, CKernelsLinearHead head, int64_t num_targets, const int64_t *positions, const int64_t *labels,
    CKernelsThreads threads, void *workspace, float *losses, uint16_t *gradient) {
    const Problem problem{head, num_targets, positions, labels};
    const bool are_labels_valid = std::all_of(labels, labels + num_targets, [&](int64_t label) {
        return label >= 0 && label < head.vocabulary_size;
    });
    if (!are_labels_valid || !ckernels_cross_entropy_is_supported(isa, head.hidden_size)) return -1;
    const Kernel &chosen = *kernel(isa);
    const Plan division = plan(chosen, num_targets, head.hidden_size, gradient != nullptr, threads.count);
    for_each_item(threads, division.num_groups, [&](int64_t group, int32_t thread) {
        char *memory = static_cast<char *>(workspace) + thread * division.bytes_per_thread;
        chosen.compute_group(problem, division, group, memory, losses, gradient);
    });
    return 0;
}
