// What a thread of the linear layer works in.
#pragma once

#include "arithmetic.h"
#include "linear.h"

namespace linear {

using arithmetic::multiply;
using arithmetic::register_lanes;

template <class A> struct ThreadSpace {
    using Word = typename A::Word;

    // Rows that share a piece of a panel before the next piece: their sums are 32 KiB. Whole tiles of the micro-kernel.
    static constexpr int64_t row_block = 128 / A::tile_rows * A::tile_rows;

    typename A::Decoded *tile;  // [64, 64], a decoded piece of the weight
    Word *panel;                // [depth][64]
    Word *low_panel;            // [padded rank / depth_per_word][64]
    Word *rows;                 // [row_block, depth_block], widened; none where rows are read as they lie
    Word *low_rows;             // [row_block, padded rank / depth_per_word], likewise
    float *sums;                // [row_block][64]; or [padded rank][64] of a segment's gradient
    double *totals;             // [padded rank][64] of a gradient

    ThreadSpace(Workspace &workspace, int64_t depth, int64_t padded_rank)
        : tile(workspace.take<typename A::Decoded>(panel_width * panel_width)),
          panel(workspace.take<Word>(std::max(rounded_up(depth, register_lanes), token_block / A::depth_per_word) * panel_width)),
          low_panel(workspace.take<Word>(padded_rank / A::depth_per_word * panel_width)),
          rows(workspace.take<Word>(A::widens ? row_block * depth_block : 0)),
          low_rows(workspace.take<Word>(A::widens ? row_block * padded_rank / A::depth_per_word : 0)),
          sums(workspace.take<float>(std::max(row_block, padded_rank) * panel_width)),
          totals(workspace.take<double>(padded_rank * panel_width)) {}
};

// A low-rank matrix packed for products with rows of its long side: for each 64 of the padded rank (fewer at the end), a panel
// of that width, [depth][width].
template <class A> struct SmallPanels {
    typename A::Word *packed;
    int64_t depth;
    int64_t padded_rank;

    int64_t width(int64_t first) const { return std::min(panel_width, padded_rank - first / panel_width * panel_width); }
    typename A::Word *column(int64_t first) const {
        return packed + first / panel_width * panel_width * depth + first % panel_width;
    }
};

}  // namespace linear
