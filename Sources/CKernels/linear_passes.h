// The two passes of the linear layer, divided into items for threads.
#pragma once

#include <numeric>

#include "linear_product.h"

namespace linear {

// Tokens of an item of a small product.
inline constexpr int64_t small_block = 64;

// How a product's panels and tokens are divided: an item is a panel and a range of tokens, and decodes the panel for itself.
template <class A> struct Division {
    int64_t panels;
    int64_t chunks;
    int64_t chunk_tokens;

    // About 512 tokens an item, fewer where threads would have nothing to do.
    Division(int64_t width, int64_t tokens, int32_t threads) : panels(divided_up(width, panel_width)) {
        const int64_t most = std::max<int64_t>(1, tokens / small_block);
        const int64_t wanted = std::max(divided_up(tokens, 512), threads == 1 ? 1 : divided_up(4 * threads, panels));
        chunk_tokens = rounded_up(divided_up(tokens, std::min(wanted, most)), 2 * A::tile_rows);
        chunks = divided_up(tokens, chunk_tokens);
    }

    int64_t items() const { return panels * chunks; }
    int64_t first_column(int64_t item) const { return item / chunks * panel_width; }
    int64_t first_token(int64_t item) const { return item % chunks * chunk_tokens; }
};

// The pieces of the workspace; both passes divide it alike.
template <class A> struct Spaces {
    typename A::Word *packed;      // A or B for the small product
    typename A::Element *small;    // v
    typename A::Word *transposed;  // v, then u: [padded rank][stride] each
    Workspace rest;
    int64_t depth;  // in words
    int64_t padded_rank;
    int64_t stride;  // in words, of the transposed

    Spaces(void *base, int64_t rows, int64_t columns, int64_t rank, int64_t tokens, int64_t num_segments)
        : rest(reinterpret_cast<uintptr_t>(base)), depth(std::max(rows, columns) / A::depth_per_word),
          padded_rank(rounded_up(rank, rank_step)),
          stride(rounded_up(divided_up(tokens, A::depth_per_word) + num_segments, register_lanes) + register_lanes) {
        packed = rest.take<typename A::Word>(padded_rank * depth);
        small = rest.take<typename A::Element>(padded_rank * tokens);
        transposed = rest.take<typename A::Word>(2 * padded_rank * stride);
    }

    SmallPanels<A> small_panels(int64_t length) const { return {packed, length / A::depth_per_word, padded_rank}; }

    // Of a thread; threads in ascending order from 0.
    ThreadSpace<A> of_thread(int32_t thread) const {
        Workspace one(0);
        ThreadSpace<A>(one, depth, padded_rank);
        Workspace own = rest;
        own.take<char>(one.used() * thread);
        return ThreadSpace<A>(own, depth, padded_rank);
    }
};

// small = scale rows packed: [tokens, padded rank] from what pack_a and pack_b make.
template <class A>
void multiply_small(
    const CKernelsThreads &threads, const Spaces<A> &spaces, const SmallPanels<A> &packed, const typename A::Element *rows,
    int64_t row_stride, int64_t tokens, float scale, typename A::Element *small) {
    for_each_item(threads, divided_up(tokens, small_block), [&](int64_t item, int32_t thread) {
        const ThreadSpace<A> space = spaces.of_thread(thread);
        for (int64_t first = 0; first < packed.padded_rank; first += panel_width) {
            const int64_t width = packed.width(first);
            const Product<A> product{
                .rows = rows, .row_stride = row_stride, .panel = packed.column(first), .depth = packed.depth, .columns = width,
                .bias = nullptr, .low_rows = nullptr, .low_panel = nullptr, .low_depth = 0, .kept = nullptr, .kept_stride = 0,
                .scale = scale, .output = small + first, .output_stride = packed.padded_rank, .width = width};
            multiply_rows<A>(product, item * small_block, std::min((item + 1) * small_block, tokens), space);
        }
    });
}

// Adds gradient columns, rows [padded rank][64], to the matrix [rank, columns].
template <class A>
void add_gradient_a(const double *totals, int64_t rank, int64_t columns, int64_t first, double *gradient) {
    const int64_t width = std::min<int64_t>(panel_width, columns - first);
    for (int64_t k = 0; k < rank; k++) {
        for (int64_t c = 0; c < width; c++) gradient[k * columns + first + c] += totals[k * panel_width + c];
    }
}

// The same, transposed, to the matrix [rows, rank].
template <class A>
void add_gradient_b(const double *totals, int64_t rank, int64_t rows, int64_t first, double *gradient) {
    const int64_t width = std::min<int64_t>(panel_width, rows - first);
    for (int64_t row = 0; row < width; row++) {
        for (int64_t k = 0; k < rank; k++) gradient[(first + row) * rank + k] += totals[k * panel_width + row];
    }
}

// Each segment's rows of small, transposed behind one another.
template <class A>
void transpose_segments(
    const CKernelsSegments &segments, const typename A::Element *small, const Spaces<A> &spaces, typename A::Word *transposed) {
    for (int64_t segment = 0; segment < segments.count; segment++) {
        const int64_t length = segments.lengths[segment];
        transpose_small<A>(small, spaces.padded_rank, length, spaces.stride, transposed);
        small += length * spaces.padded_rank;
        transposed += divided_up(length, A::depth_per_word);
    }
}

template <class A>
int64_t workspace_bytes(
    int64_t rows, int64_t columns, int64_t rank, int64_t tokens, int64_t num_segments, int32_t threads) {
    Spaces<A> spaces(nullptr, rows, columns, rank, tokens, num_segments);
    for (int32_t thread = 0; thread < threads; thread++) ThreadSpace<A>(spaces.rest, spaces.depth, spaces.padded_rank);
    return spaces.rest.used();
}

template <class A>
void forward(
    CKernelsThreads threads, const CKernelsPanels &weight, const CKernelsLowRank &low_rank, int64_t tokens, const void *x,
    const void *low_x, const void *bias, void *u, void *y, void *workspace) {
    using Element = typename A::Element;
    const int64_t rows = weight.rows, columns = weight.columns;
    const Spaces<A> spaces(workspace, rows, columns, low_rank.rank, tokens, 0);
    const bool has_term = low_rank.rank > 0;
    if (has_term) {
        const SmallPanels<A> small = spaces.small_panels(columns);
        pack_a<A>(weight, low_rank, small);
        multiply_small<A>(
            threads, spaces, small, static_cast<const Element *>(low_x ? low_x : x), columns, tokens, low_rank.scale,
            static_cast<Element *>(u));
    }
    const Division<A> division(rows, tokens, threads.count);
    for_each_item(threads, division.items(), [&](int64_t item, int32_t thread) {
        const ThreadSpace<A> space = spaces.of_thread(thread);
        const int64_t first = division.first_column(item), begin = division.first_token(item);
        pack_outputs<A>(weight, first, space);
        if (has_term) pack_low_outputs<A>(weight, low_rank, first, space.low_panel);
        const Product<A> product{
            .rows = static_cast<const Element *>(x), .row_stride = columns, .panel = space.panel,
            .depth = columns / A::depth_per_word, .columns = panel_width,
            .bias = bias ? static_cast<const Element *>(bias) + first : nullptr,
            .low_rows = static_cast<const Element *>(u), .low_panel = space.low_panel,
            .low_depth = spaces.padded_rank / A::depth_per_word, .kept = nullptr, .kept_stride = 0, .scale = 1,
            .output = static_cast<Element *>(y) + first, .output_stride = rows,
            .width = std::min<int64_t>(panel_width, rows - first)};
        multiply_rows<A>(product, begin, std::min(begin + division.chunk_tokens, tokens), space);
    });
}

template <class A>
void backward(
    CKernelsThreads threads, const CKernelsPanels &weight, const CKernelsLowRank &low_rank, CKernelsSegments segments,
    const void *low_x, const void *u, const void *dy, void *dx, double *da, double *db, void *workspace) {
    using Element = typename A::Element;
    const int64_t rows = weight.rows, columns = weight.columns, rank = low_rank.rank;
    const int64_t tokens = std::accumulate(segments.lengths, segments.lengths + segments.count, int64_t{0});
    const Element *const gradient = static_cast<const Element *>(dy);
    const Spaces<A> spaces(workspace, rows, columns, rank, tokens, segments.count);
    const int64_t padded_rank = spaces.padded_rank, stride = spaces.stride;
    typename A::Word *const transposed_v = spaces.transposed;
    typename A::Word *const transposed_u = transposed_v + padded_rank * stride;
    if (rank > 0) {
        const SmallPanels<A> small = spaces.small_panels(rows);
        pack_b<A>(weight, low_rank, small);
        multiply_small<A>(threads, spaces, small, gradient, rows, tokens, low_rank.scale, spaces.small);
        transpose_segments<A>(segments, spaces.small, spaces, transposed_v);
        transpose_segments<A>(segments, static_cast<const Element *>(u), spaces, transposed_u);
    }
    const Division<A> division(columns, tokens, threads.count);
    const int64_t num_products = dx ? division.items() : 0;
    const int64_t num_a = rank > 0 ? divided_up(columns, panel_width) : 0;
    const int64_t num_b = rank > 0 ? divided_up(rows, panel_width) : 0;
    for_each_item(threads, num_products + num_a + num_b, [&](int64_t item, int32_t thread) {
        const ThreadSpace<A> space = spaces.of_thread(thread);
        if (item >= num_products + num_a) {
            const int64_t first = (item - num_products - num_a) * panel_width;
            add_columns_of_segments<A>(segments, transposed_u, padded_rank, stride, gradient, rows, first, space);
            return add_gradient_b<A>(space.totals, rank, rows, first, db);
        }
        if (item >= num_products) {
            const int64_t first = (item - num_products) * panel_width;
            add_columns_of_segments<A>(
                segments, transposed_v, padded_rank, stride, static_cast<const Element *>(low_x), columns, first, space);
            return add_gradient_a<A>(space.totals, rank, columns, first, da);
        }
        const int64_t first = division.first_column(item), begin = division.first_token(item);
        pack_inputs<A>(weight, first, space);
        if (rank > 0) pack_low_inputs<A>(weight, low_rank, first, space.low_panel);
        const Product<A> product{
            .rows = gradient, .row_stride = rows, .panel = space.panel, .depth = rows / A::depth_per_word,
            .columns = panel_width, .bias = nullptr, .low_rows = spaces.small, .low_panel = space.low_panel,
            .low_depth = padded_rank / A::depth_per_word, .kept = low_rank.kept ? low_rank.kept + first : nullptr,
            .kept_stride = columns, .scale = 1, .output = static_cast<Element *>(dx) + first, .output_stride = columns,
            .width = std::min<int64_t>(panel_width, columns - first)};
        multiply_rows<A>(product, begin, std::min(begin + division.chunk_tokens, tokens), space);
    });
}

// The passes in an arithmetic.
template <class A> struct PassesOf {
    static constexpr Passes passes{A::depth_per_word, workspace_bytes<A>, forward<A>, backward<A>};
};

}  // namespace linear
