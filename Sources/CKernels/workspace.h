// Memory that a kernel's caller lends it, cut into pieces.
#pragma once

#include <cstdint>

constexpr int64_t divided_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit; }
constexpr int64_t rounded_up(int64_t count, int64_t unit) { return divided_up(count, unit) * unit; }

// Hands out pieces of the workspace, each on a cache line of its own; from address 0 it only counts.
class Workspace {
public:
    explicit Workspace(uintptr_t address) : start_(rounded_up(int64_t(address), line)), next_(start_) {}

    template <class Element>
    Element *take(int64_t count) {
        const int64_t piece = next_;
        next_ += rounded_up(count * int64_t(sizeof(Element)), line);
        return reinterpret_cast<Element *>(piece);
    }

    int64_t used() const { return next_ - start_; }

    // What rounding the address up may take.
    static constexpr int64_t line = 64;

private:
    int64_t start_;
    int64_t next_;
};
