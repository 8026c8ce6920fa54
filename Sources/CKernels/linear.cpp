// The two passes of the linear layer, divided into items for threads.
#include "linear.h"

int64_t ckernels_linear_padded_rank(int64_t rank) { return (rank + 15) / 16 * 16; }

int32_t ckernels_linear_is_supported(int64_t rows, int64_t columns) {
    return CKERNELS_X86 && rows > 0 && columns > 0 && rows % 2 == 0 && columns % 2 == 0;
}

#if CKERNELS_X86

namespace {

using namespace linear;

// Tokens of an item of a small product.
constexpr int64_t small_block = 64;

// How a product's panels and tokens are divided: an item is a panel and a range of tokens, and decodes the panel for itself.
struct Division {
    int64_t panels;
    int64_t chunks;
    int64_t chunk_tokens;

    // About 512 tokens an item, fewer where threads would have nothing to do.
    Division(int64_t width, int64_t tokens, int32_t threads) : panels((width + panel_width - 1) / panel_width) {
        const int64_t most = std::max<int64_t>(1, tokens / small_block);
        const int64_t wanted = std::max((tokens + 511) / 512, threads == 1 ? 1 : (4 * threads + panels - 1) / panels);
        chunk_tokens = rounded_up((tokens + std::min(wanted, most) - 1) / std::min(wanted, most), 8);
        chunks = (tokens + chunk_tokens - 1) / chunk_tokens;
    }

    int64_t items() const { return panels * chunks; }
    int64_t first_column(int64_t item) const { return item / chunks * panel_width; }
    int64_t first_token(int64_t item) const { return item % chunks * chunk_tokens; }
};

// The pieces of the workspace; both passes divide it alike.
struct Spaces {
    uint32_t *packed;      // A or B for the small product
    bfloat16 *small;       // v
    uint32_t *transposed;  // v, then u
    Workspace rest;
    int64_t depth;
    int64_t padded_rank;

    Spaces(void *base, int64_t rows, int64_t columns, int64_t rank, int64_t tokens)
        : rest(reinterpret_cast<uintptr_t>(base)), depth(std::max(rows, columns) / 2), padded_rank(ckernels_linear_padded_rank(rank)) {
        packed = rest.take<uint32_t>(padded_rank * depth);
        small = rest.take<bfloat16>(padded_rank * tokens);
        transposed = rest.take<uint32_t>(padded_rank * rounded_up(tokens, row_block));
    }

    // Of a thread; threads in ascending order from 0.
    ThreadSpace of_thread(int32_t thread) const {
        Workspace one(0);
        ThreadSpace(one, depth, padded_rank);
        Workspace own = rest;
        own.take<char>(one.used() * thread);
        return ThreadSpace(own, depth, padded_rank);
    }
};

// Gradient columns as rows [padded rank][64] into the matrix [rank, columns].
void store_gradient_a(const float *sums, int64_t rank, int64_t columns, int64_t first, float *gradient) {
    const int64_t width = std::min<int64_t>(panel_width, columns - first);
    for (int64_t k = 0; k < rank; k++) std::copy_n(sums + k * panel_width, width, gradient + k * columns + first);
}

// The same, transposed, into the matrix [rows, rank].
void store_gradient_b(const float *sums, int64_t rank, int64_t rows, int64_t first, float *gradient) {
    const int64_t width = std::min<int64_t>(panel_width, rows - first);
    for (int64_t row = 0; row < width; row++) {
        for (int64_t k = 0; k < rank; k++) gradient[(first + row) * rank + k] = sums[k * panel_width + row];
    }
}

}  // namespace

int64_t ckernels_linear_workspace_bytes(int64_t rows, int64_t columns, int64_t rank, int64_t tokens, int32_t threads) {
    Spaces spaces(nullptr, rows, columns, rank, tokens);
    for (int32_t thread = 0; thread < threads; thread++) ThreadSpace(spaces.rest, spaces.depth, spaces.padded_rank);
    return spaces.rest.used();
}

void ckernels_linear_forward(
    CKernelsThreads threads, const CKernelsPanels *weight, const CKernelsLowRank *low_rank, int64_t tokens,
    const uint16_t *x, const uint16_t *low_x, const uint16_t *bias, uint16_t *u, uint16_t *y, void *workspace) {
    const int64_t rows = weight->rows, columns = weight->columns;
    const Spaces spaces(workspace, rows, columns, low_rank->rank, tokens);
    const bool has_term = low_rank->rank > 0;
    if (has_term) {
        pack_a(*weight, *low_rank, spaces.packed);
        for_each_item(threads, (tokens + small_block - 1) / small_block, [&](int64_t item, int32_t) {
            multiply_small(
                low_x ? low_x : x, columns, spaces.packed, columns / 2, low_rank->scale, u, spaces.padded_rank,
                item * small_block, std::min((item + 1) * small_block, tokens));
        });
    }
    const Division division(rows, tokens, threads.count);
    for_each_item(threads, division.items(), [&](int64_t item, int32_t thread) {
        const ThreadSpace space = spaces.of_thread(thread);
        const int64_t first = division.first_column(item), begin = division.first_token(item);
        pack_outputs(*weight, first, space);
        if (has_term) pack_low_outputs(*weight, *low_rank, first, space.low_panel);
        const Product product{
            .rows = x, .row_stride = columns, .panel = space.panel, .depth = columns / 2,
            .bias = bias ? bias + first : nullptr,
            .low_rows = u, .low_panel = space.low_panel, .low_depth = spaces.padded_rank / 2,
            .kept = nullptr, .kept_stride = 0,
            .output = y + first, .output_stride = rows, .width = std::min<int64_t>(panel_width, rows - first)};
        multiply_rows(product, begin, std::min(begin + division.chunk_tokens, tokens), space.sums);
    });
}

void ckernels_linear_backward(
    CKernelsThreads threads, const CKernelsPanels *weight, const CKernelsLowRank *low_rank, int64_t tokens,
    const uint16_t *low_x, const uint16_t *u, const uint16_t *dy, uint16_t *dx, float *da, float *db, void *workspace) {
    const int64_t rows = weight->rows, columns = weight->columns, rank = low_rank->rank;
    const Spaces spaces(workspace, rows, columns, rank, tokens);
    const int64_t padded_rank = spaces.padded_rank, padded_tokens = rounded_up(tokens, row_block);
    uint32_t *const transposed_v = spaces.transposed;
    uint32_t *const transposed_u = transposed_v + padded_rank * padded_tokens / 2;
    if (rank > 0) {
        pack_b(*weight, *low_rank, spaces.packed);
        for_each_item(threads, (tokens + small_block - 1) / small_block, [&](int64_t item, int32_t) {
            multiply_small(
                dy, rows, spaces.packed, rows / 2, low_rank->scale, spaces.small, padded_rank, item * small_block,
                std::min((item + 1) * small_block, tokens));
        });
        transpose_small(spaces.small, padded_rank, tokens, padded_tokens, transposed_v);
        transpose_small(u, padded_rank, tokens, padded_tokens, transposed_u);
    }
    const Division division(columns, tokens, threads.count);
    const int64_t num_products = dx ? division.items() : 0;
    const int64_t num_a = rank > 0 ? (columns + panel_width - 1) / panel_width : 0;
    const int64_t num_b = rank > 0 ? (rows + panel_width - 1) / panel_width : 0;
    for_each_item(threads, num_products + num_a + num_b, [&](int64_t item, int32_t thread) {
        const ThreadSpace space = spaces.of_thread(thread);
        if (item >= num_products + num_a) {
            const int64_t first = (item - num_products - num_a) * panel_width;
            multiply_columns(transposed_u, padded_rank, padded_tokens, dy, rows, tokens, first, space);
            return store_gradient_b(space.sums, rank, rows, first, db);
        }
        if (item >= num_products) {
            const int64_t first = (item - num_products) * panel_width;
            multiply_columns(transposed_v, padded_rank, padded_tokens, low_x, columns, tokens, first, space);
            return store_gradient_a(space.sums, rank, columns, first, da);
        }
        const int64_t first = division.first_column(item), begin = division.first_token(item);
        pack_inputs(*weight, first, space);
        if (rank > 0) pack_low_inputs(*weight, *low_rank, first, space.low_panel);
        const Product product{
            .rows = dy, .row_stride = rows, .panel = space.panel, .depth = rows / 2, .bias = nullptr,
            .low_rows = spaces.small, .low_panel = space.low_panel, .low_depth = padded_rank / 2,
            .kept = low_rank->kept ? low_rank->kept + first : nullptr, .kept_stride = columns,
            .output = dx + first, .output_stride = columns, .width = std::min<int64_t>(panel_width, columns - first)};
        multiply_rows(product, begin, std::min(begin + division.chunk_tokens, tokens), space.sums);
    });
}

#else

// ckernels_linear_is_supported says so.

int64_t ckernels_linear_workspace_bytes(int64_t, int64_t, int64_t, int64_t, int32_t) { __builtin_trap(); }

void ckernels_linear_forward(
    CKernelsThreads, const CKernelsPanels *, const CKernelsLowRank *, int64_t, const uint16_t *, const uint16_t *,
    const uint16_t *, uint16_t *, uint16_t *, void *) {
    __builtin_trap();
}

void ckernels_linear_backward(
    CKernelsThreads, const CKernelsPanels *, const CKernelsLowRank *, int64_t, const uint16_t *, const uint16_t *,
    const uint16_t *, uint16_t *, float *, float *, void *) {
    __builtin_trap();
}

#endif
