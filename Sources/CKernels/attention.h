// Causal attention: how a batch is divided into problems, tiles and items, and where the workspace's pieces lie.
//
// A problem is one segment and one key/value head, with the "group" of query heads that share it. Keys come in blocks of 64,
// queries in tiles of four columns; a column is 16 tokens of one query head, one token a lane. Columns enumerate (16 tokens,
// query head of the group), heads fastest, so a tile spans few tokens whatever the group, and little of a block on the diagonal
// is computed in vain.
#pragma once

#include <algorithm>
#include <cstdint>

#include "CKernels.h"
#include "isa.h"
#include "workspace.h"

#if CKERNELS_X86

namespace attention {

using bfloat16 = uint16_t;

inline constexpr int64_t block_keys = 64;
inline constexpr int columns = 4;
// Tokens of a column. Segments are padded to a multiple of it.
inline constexpr int64_t column_tokens = 16;
inline constexpr int64_t largest_head_size = 256;

// The sizes of a call that all problems share.
struct Shape {
    int64_t heads;      // key/value heads
    int64_t group;      // query heads of each
    int64_t head_size;
    int64_t pairs;      // of the head size, an odd one filled up with zero
    int64_t row_pairs;  // of a packed row: whole registers
    int64_t width;      // head size in whole registers of float32
    int64_t window;     // keys that a token sees at most
    float scale;

    explicit Shape(const CKernelsAttention &attention)
        : heads(attention.num_key_value_heads), group(attention.num_heads / heads), head_size(attention.head_size),
          pairs(divided_up(head_size, 2)), row_pairs(rounded_up(pairs, 16)), width(rounded_up(head_size, 16)),
          window(attention.window > 0 ? attention.window : INT64_MAX / 4), scale(attention.scale) {}

    int64_t tiles(int64_t length) const { return divided_up(divided_up(length, column_tokens) * group, columns); }
};

// A segment, and sums over the segments before it, of one key/value head each.
struct Segment {
    int64_t first_token;
    int64_t length;
    int64_t parts;  // into which backward divides a problem's tiles: tile t belongs to part t mod parts
    int64_t rows;   // keys, padded
    int64_t blocks;
    int64_t tiles;
    int64_t items;     // parts
    int64_t sum_rows;  // rows of the sums that parts of a divided problem keep for themselves

    int64_t padded() const { return rounded_up(length, column_tokens); }
};

// One of the things that problems are divided into.
struct Place {
    const Segment *segment;
    int64_t head;   // key/value head
    int64_t index;  // within the problem
    int64_t count;  // of the problem
};

// The segments of a call, longest first, so that what takes long begins early.
struct Plan {
    Shape shape;
    int64_t num_tokens;
    // num_segments entries, and one more with the sums of all.
    const Segment *segments;
    int64_t num_segments;

    // `memory` has room for the entries.
    Plan(const CKernelsAttention &attention, Segment *memory);

    const Segment &totals() const { return segments[num_segments]; }

    // The number of things, of all problems: `before` is one of the sums.
    int64_t count(int64_t Segment::*before) const { return totals().*before * shape.heads; }

    // Finds the i-th of them; problem by problem.
    Place place(int64_t i, int64_t Segment::*before) const;
};

// The sums of all segments in any order, and the most rows of one whose problems are not divided.
struct Totals {
    Segment sums;
    int64_t undivided_rows;

    explicit Totals(const CKernelsAttention &attention);
};

// Pieces of which every thread has its own.
template <class Scratch>
class PerThread {
public:
    PerThread(Workspace &workspace, const Shape &shape, int64_t threads) : shape_(shape), bytes_(bytes(shape)) {
        first_ = workspace.take<char>(bytes_ * threads);
    }

    Scratch of(int32_t thread) const {
        Workspace own(reinterpret_cast<uintptr_t>(first_) + uintptr_t(bytes_ * thread));
        return Scratch(own, shape_);
    }

private:
    static int64_t bytes(const Shape &shape) {
        Workspace counted(0);
        Scratch(counted, shape);
        return counted.used();
    }

    Shape shape_;
    int64_t bytes_;
    char *first_;
};

}  // namespace attention

#endif
