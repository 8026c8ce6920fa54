// A group of tiles of the linear head's cross entropy: rows of W made ready for all of them.
#pragma once

#include "cross_entropy_tile.h"

namespace cross_entropy {

// The pieces of a thread's memory, in bytes: scores and probabilities of a block, copied rows, transposed rows; then for each tile of
// a group the hidden states and the gradient.
template <class A> struct Pieces {
    int64_t scores, probabilities, rows, transposed, hidden, gradient;

    Pieces(int64_t hidden_size, bool with_gradient) {
        constexpr int64_t word = sizeof(typename A::Word), d = A::depth_per_word;
        const int64_t padded = rounded_up(hidden_size, register_lanes * d);
        scores = block_size * tile_size * int64_t(sizeof(float));
        probabilities = with_gradient ? block_size * tile_size / d * word : 0;
        rows = rounded_up(block_size * hidden_size / d * word, 64);
        transposed = with_gradient ? padded * block_size / d * word : 0;
        hidden = padded / d * tile_size * word;
        gradient = with_gradient ? padded * tile_size * int64_t(sizeof(float)) : 0;
    }
};

template <class A> int64_t bytes_per_thread(int64_t hidden_size, bool with_gradient, int64_t group_tiles) {
    const Pieces<A> p(hidden_size, with_gradient);
    return p.scores + p.probabilities + p.rows + p.transposed + group_tiles * (p.hidden + p.gradient);
}

// Reads the rows of a block as they lie if they are whole words and fill the block, else copies them.
template <class A> void set_rows(const Problem &problem, Block<A> &block, typename A::Word *copy) {
    constexpr int64_t d = A::depth_per_word;
    const auto *source = problem.weight + block.first * problem.weight_stride;
    if constexpr (sizeof(typename A::Element) * d == sizeof(typename A::Word)) {
        const bool is_aligned = reinterpret_cast<uintptr_t>(source) % sizeof(typename A::Word) == 0;
        if (block.count % row_step == 0 && problem.weight_stride % d == 0 && is_aligned) {
            block.rows = reinterpret_cast<const typename A::Word *>(source);
            block.stride = problem.weight_stride / d;
            return;
        }
    }
    const int64_t size = problem.hidden_size;
    block.rows = copy;
    block.stride = size / d;
    for (int64_t v = 0; v < block.padded(block.count); v++) {
        for (int64_t k = 0; k < size; k += register_lanes * d) {
            const auto words = v < block.count ? A::load(source + v * problem.weight_stride + k, size - k) : A::zero_words();
            A::store_words_up_to(copy + (v * size + k) / d, words, (size - k) / d);
        }
    }
}

template <class A> void transpose_rows(const Problem &problem, Block<A> &block) {
    constexpr int64_t d = A::depth_per_word;
    const auto *source = problem.weight + block.first * problem.weight_stride;
    for (int64_t v = 0; v < block.padded(block.count); v += register_lanes * d) {
        for (int64_t k = 0; k < problem.hidden_size; k += register_lanes) {
            typename A::Words words[register_lanes];
            for (int64_t i = 0; i < register_lanes; i++) {
                const int64_t row = v + i * d;
                words[i] = A::zip(
                    source + row * problem.weight_stride + k, problem.weight_stride, block.count - row,
                    problem.hidden_size - k);
            }
            A::transpose(words);
            for (int64_t i = 0; i < register_lanes; i++) {
                A::store_words(block.transposed + ((k + i) * block_size + v) / d, words[i]);
            }
        }
    }
}

// Calls body with the number of columns that hold `count` targets, as a constant. Three columns would cost what four do.
template <class A, class Body> void with_columns(int64_t count, const Body &body) {
    if (count <= register_lanes) return body(std::integral_constant<int, 1>());
    if (count <= 2 * register_lanes) return body(std::integral_constant<int, 2>());
    body(std::integral_constant<int, 4>());
}

template <class A>
void compute_group(const Problem &problem, const Plan &plan, int64_t group, char *memory, float *losses, uint16_t *gradient) {
    using Word = typename A::Word;
    const Pieces<A> pieces(problem.hidden_size, gradient != nullptr);
    const auto take = [&memory](int64_t bytes) {
        char *taken = memory;
        memory += bytes;
        return bytes == 0 ? nullptr : taken;
    };
    Block<A> block;
    block.scores = reinterpret_cast<float *>(take(pieces.scores));
    block.probabilities = reinterpret_cast<Word *>(take(pieces.probabilities));
    Word *const copy = reinterpret_cast<Word *>(take(pieces.rows));
    block.transposed = reinterpret_cast<Word *>(take(pieces.transposed));

    Tile<A> tiles[max_tiles];
    const int64_t first_tile = group * plan.group_tiles;
    const int64_t count = std::min(plan.num_tiles - first_tile, plan.group_tiles);
    for (int64_t t = 0; t < count; t++) {
        Tile<A> &tile = tiles[t];
        tile.first = (first_tile + t) * tile_size;
        tile.count = std::min(problem.num_targets - tile.first, tile_size);
        tile.hidden = reinterpret_cast<Word *>(take(pieces.hidden));
        tile.gradient = reinterpret_cast<float *>(take(pieces.gradient));
        std::fill_n(tile.largest, tile_size, -INFINITY);
        std::fill_n(tile.sum, tile_size, 0.0f);
        with_columns<A>(tile.count, [&](auto columns) { pack_hidden<A, columns>(problem, tile); });
    }
    for (block.first = 0; block.first < problem.vocabulary_size; block.first += block_size) {
        block.count = std::min(problem.vocabulary_size - block.first, block_size);
        set_rows<A>(problem, block, copy);
        if (gradient) transpose_rows<A>(problem, block);
        for (int64_t t = 0; t < count; t++) {
            with_columns<A>(tiles[t].count, [&](auto columns) { add_block<A, columns>(problem, block, tiles[t]); });
        }
    }
    for (int64_t t = 0; t < count; t++) {
        float scale[tile_size], label_scale[tile_size];
        finish_losses<A>(tiles[t], losses, scale, label_scale);
        if (!gradient) continue;
        with_columns<A>(tiles[t].count, [&](auto columns) {
            finish_gradient<A, columns>(problem, tiles[t], scale, label_scale, gradient);
        });
    }
}

// The kernel in an arithmetic.
template <class A> struct KernelOf {
    static constexpr Kernel kernel{A::depth_per_word, bytes_per_thread<A>, compute_group<A>};
};

}  // namespace cross_entropy
