// How the work of causal attention is divided. Depends on the shapes alone, never on the number of threads.
#include "attention.h"

int32_t ckernels_attention_is_supported(int64_t head_size) {
#if CKERNELS_X86
    return head_size > 0 && head_size <= attention::largest_head_size && ckernels_isa_is_supported(CKERNELS_ISA_AVX512_BF16);
#else
    return 0;
#endif
}

#if CKERNELS_X86

namespace attention {

namespace {

// Segments of so many tokens are divided for backward into parts, about so many items in all, were such a segment alone. It depends
// on nothing else in the batch: sums over parts have another last bit than sums over tiles, and a row's gradients must not depend on
// the rows beside it. More parts cost more in fresh pages, each having sums of its own, than an even division over threads gains.
constexpr int64_t divided_length = 512;
constexpr int64_t wanted_items = 8;

int64_t parts(const Shape &shape, int64_t length) {
    return length < divided_length ? 1 : std::min(divided_up(wanted_items, shape.heads), shape.tiles(length));
}

// The sums before the segment that comes after this one.
Segment after(const Shape &shape, Segment segment) {
    const bool is_divided = segment.parts > 1;
    segment.rows += segment.padded();
    segment.blocks += divided_up(segment.length, block_keys);
    segment.tiles += shape.tiles(segment.length);
    segment.items += segment.parts;
    segment.sum_rows += is_divided ? segment.parts * segment.padded() : 0;
    return segment;
}

}  // namespace

Totals::Totals(const CKernelsAttention &attention) : sums{}, undivided_rows(0) {
    const Shape shape(attention);
    for (int64_t i = 0; i < attention.num_segments; i++) {
        sums.length = attention.segment_lengths[i];
        sums.parts = parts(shape, sums.length);
        if (sums.parts == 1) undivided_rows = std::max(undivided_rows, sums.padded());
        sums = after(shape, sums);
    }
}

Plan::Plan(const CKernelsAttention &attention, Segment *memory)
    : shape(attention), num_tokens(0), segments(memory), num_segments(attention.num_segments) {
    for (int64_t i = 0; i < num_segments; i++) {
        memory[i] = Segment{};
        memory[i].first_token = num_tokens;
        memory[i].length = attention.segment_lengths[i];
        num_tokens += memory[i].length;
    }
    std::sort(memory, memory + num_segments, [](const Segment &a, const Segment &b) {
        return a.length != b.length ? a.length > b.length : a.first_token < b.first_token;
    });
    Segment sums{};
    for (int64_t i = 0; i < num_segments; i++) {
        sums.first_token = memory[i].first_token;
        sums.length = memory[i].length;
        sums.parts = parts(shape, sums.length);
        memory[i] = sums;
        sums = after(shape, sums);
    }
    memory[num_segments] = sums;
}

Place Plan::place(int64_t i, int64_t Segment::*before) const {
    const int64_t heads = shape.heads;
    const Segment *next = std::upper_bound(
        segments, segments + num_segments, i,
        [=](int64_t i, const Segment &segment) { return i < segment.*before * heads; });
    const Segment *segment = next - 1;
    const int64_t count = next->*before - segment->*before;
    const int64_t local = i - segment->*before * heads;
    return Place{segment, local / count, local % count, count};
}

}  // namespace attention

#endif
