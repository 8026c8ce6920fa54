// Causal attention, backward: five products for each tile and block of keys, weights computed again from the scores.
//
// Gradients of keys and values are sums over tiles. A problem's tiles are dealt out to its parts, each part adds up its own in a
// fixed order, and parts are added in order at the end: the same bits on any number of threads.
//
// Source: Dao et al. 2022, "FlashAttention", algorithm 4.
#include <cstring>

#include "attention_backward.h"
#include "parallel.h"

#if CKERNELS_X86

CKERNELS_VNNI_BEGIN

namespace attention {

namespace {

// The workspace of a call.
struct Memory {
    Segment *segments;
    uint32_t *keys;             // rows
    uint32_t *transposed_keys;  // blocks
    uint32_t *values;           // rows
    float *part_sums;           // for each part of a divided problem [2][padded keys][width]: of keys, of values
    float *thread_sums;         // the same for each thread, for problems that are not divided
    int64_t thread_sums_count;  // of one thread
    PerThread<Scratch> scratch;

    Memory(Workspace &workspace, const CKernelsAttention &attention, int64_t threads)
        : Memory(workspace, attention, Shape(attention), Totals(attention), threads) {}

private:
    Memory(
        Workspace &workspace, const CKernelsAttention &attention, const Shape &shape, const Totals &totals, int64_t threads)
        : segments(workspace.take<Segment>(attention.num_segments + 1)),
          keys(workspace.take<uint32_t>(totals.sums.rows * shape.heads * shape.row_pairs)),
          transposed_keys(workspace.take<uint32_t>(totals.sums.rows * shape.heads / 2 * shape.width)),
          values(workspace.take<uint32_t>(totals.sums.rows * shape.heads * shape.row_pairs)),
          part_sums(workspace.take<float>(2 * totals.sums.sum_rows * shape.heads * shape.width)),
          thread_sums_count(rounded_up(2 * totals.undivided_rows * shape.width, Workspace::line)),
          scratch(workspace, shape, threads) {
        thread_sums = workspace.take<float>(thread_sums_count * threads);
    }
};

struct Call {
    Plan plan;
    Memory memory;
    Inputs inputs;
    CKernelsMutableHeads query_gradient, key_gradient, value_gradient;

    int64_t first_row(const Place &place) const {
        return place.segment->rows * plan.shape.heads + place.head * place.segment->padded();
    }

    // The sums of the first part of a divided problem; those of the others follow.
    float *part_sums(const Segment &segment, int64_t head) const {
        const int64_t first = segment.sum_rows * plan.shape.heads + head * segment.parts * segment.padded();
        return memory.part_sums + 2 * first * plan.shape.width;
    }

    void pack(int64_t item) const {
        const Shape &shape = plan.shape;
        const Place place = plan.place(item, &Segment::blocks);
        const Segment &segment = *place.segment;
        const int64_t first = first_row(place);
        uint32_t *transposed = memory.transposed_keys + first / 2 * shape.width;
        pack_rows(shape, segment, place.index, place.head, inputs.key, memory.keys + first * shape.row_pairs);
        pack_block(shape, segment, place.index, place.head, inputs.key, transposed);
        pack_rows(shape, segment, place.index, place.head, inputs.value, memory.values + first * shape.row_pairs);
    }

    // The tiles of a part of a problem; writes the gradients of keys and values where it is the only one.
    void compute(int64_t item, int32_t thread) const {
        const Shape shape = plan.shape;
        const Place place = plan.place(item, &Segment::items);
        const Segment &segment = *place.segment;
        const int64_t first = first_row(place), size = segment.padded() * shape.width;
        float *sums = place.count > 1 ? part_sums(segment, place.head) + place.index * 2 * size
                                      : memory.thread_sums + thread * memory.thread_sums_count;
        const Packed packed{
            memory.keys + first * shape.row_pairs, memory.transposed_keys + first / 2 * shape.width,
            memory.values + first * shape.row_pairs, sums, sums + size};
        const Scratch scratch = memory.scratch.of(thread);
        memset(sums, 0, size_t(2 * size) * sizeof(float));
        for (int64_t tile = place.index; tile < shape.tiles(segment.length); tile += place.count) {
            differentiate(plan, inputs, segment, place.head, tile, packed, scratch, query_gradient);
        }
        if (place.count > 1) return;
        for (int64_t block = 0; block * block_keys < segment.length; block++) store(segment, place.head, block, sums, 1);
    }

    // Adds up the parts of a block of keys.
    void add_parts(int64_t item) const {
        const Place place = plan.place(item, &Segment::blocks);
        const Segment &segment = *place.segment;
        if (segment.parts > 1) {
            store(segment, place.head, place.index, part_sums(segment, place.head), segment.parts);
        }
    }

    void store(const Segment &segment, int64_t head, int64_t block, const float *sums, int64_t parts) const {
        const Shape &shape = plan.shape;
        const int64_t size = segment.padded() * shape.width;
        store_sums(shape, segment, head, block, sums, parts, shape.scale, key_gradient);
        store_sums(shape, segment, head, block, sums + size, parts, 1, value_gradient);
    }
};

}  // namespace

}  // namespace attention

CKERNELS_VNNI_END

#endif

int64_t ckernels_attention_backward_workspace_bytes(const CKernelsAttention *attention, int32_t threads) {
#if CKERNELS_X86
    Workspace workspace(0);
    attention::Memory(workspace, *attention, threads);
    return workspace.used() + Workspace::line;
#else
    return 0;
#endif
}

int32_t ckernels_attention_backward(
    CKernelsThreads threads, const CKernelsAttention *attention, CKernelsHeads query, CKernelsHeads key, CKernelsHeads value,
    CKernelsHeads output, CKernelsHeads output_gradient, const float *log_sum_exp, CKernelsMutableHeads query_gradient,
    CKernelsMutableHeads key_gradient, CKernelsMutableHeads value_gradient, void *workspace) {
    if (!ckernels_attention_is_supported(attention->head_size)) return -1;
#if CKERNELS_X86
    using attention::Segment;
    Workspace pieces(reinterpret_cast<uintptr_t>(workspace));
    const attention::Memory memory(pieces, *attention, threads.count);
    const attention::Plan plan(*attention, memory.segments);
    const attention::Inputs inputs{query, key, value, output, output_gradient, log_sum_exp};
    const attention::Call call{plan, memory, inputs, query_gradient, key_gradient, value_gradient};
    for_each_item(threads, plan.count(&Segment::blocks), [&](int64_t item, int32_t) { call.pack(item); });
    for_each_item(
        threads, plan.count(&Segment::items), [&](int64_t item, int32_t thread) { call.compute(item, thread); });
    for_each_item(threads, plan.count(&Segment::blocks), [&](int64_t item, int32_t) { call.add_parts(item); });
#endif
    return 0;
}
