// What the drivers share: buffers of exactly the size that a kernel may touch, numbers, threads, comparisons with double loops.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "CKernels.h"

namespace check {

// MARK: Memory

// Elements on the heap that end where the block ends, so that the address sanitizer sees one step beyond; the first lies no better
// than its type must.
template <class T> class Exact {
public:
    explicit Exact(int64_t count, T value = T()) : elements(size_t(count + 1), value) {}
    T *data() { return elements.data() + 1; }
    const T *data() const { return elements.data() + 1; }
    int64_t size() const { return int64_t(elements.size()) - 1; }
    T &operator[](int64_t i) { return data()[i]; }
    const T &operator[](int64_t i) const { return data()[i]; }

private:
    std::vector<T> elements;
};

// Exactly that many bytes at a multiple of 64, filled with NaN so that what is read unwritten shows.
class Workspace {
public:
    explicit Workspace(int64_t bytes) : memory(std::aligned_alloc(64, size_t(bytes))) {
        std::fill_n(static_cast<uint8_t *>(memory), bytes, 0xFF);
    }
    ~Workspace() { std::free(memory); }
    Workspace(const Workspace &) = delete;
    void *data() { return memory; }

private:
    void *memory;
};

// MARK: Numbers

inline double from_bfloat16(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

// To nearest, ties to even; finite numbers only.
inline uint16_t to_bfloat16(double value) {
    const uint32_t bits = std::bit_cast<uint32_t>(float(value));
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline double from_float16(uint16_t bits) {
    const int exponent = bits >> 10 & 31;
    const int fraction = bits & 1023;
    const double size = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    return bits >> 15 ? -size : size;
}

// To nearest, ties to even; numbers of float16's range only.
inline uint16_t to_float16(double value) {
    const double size = std::fabs(value);
    const int exponent = size == 0 ? -14 : std::max(std::ilogb(size), -14);
    const int steps = int(std::nearbyint(std::ldexp(size, 10 - exponent)));
    return uint16_t((std::signbit(value) ? 0x8000 : 0) + ((exponent + 14) << 10) + steps);
}

// Numbers of an element type, as kernels take them.
class Numbers {
public:
    Numbers(int32_t type, int64_t count)
        : type(type), words(type == CKERNELS_FLOAT32 ? 0 : count), floats(type == CKERNELS_FLOAT32 ? count : 0) {}
    void *data() { return type == CKERNELS_FLOAT32 ? static_cast<void *>(floats.data()) : words.data(); }
    const void *data() const { return const_cast<Numbers *>(this)->data(); }
    int64_t size() const { return std::max(words.size(), floats.size()); }
    double operator[](int64_t i) const {
        if (type == CKERNELS_FLOAT32) return floats[i];
        return type == CKERNELS_BFLOAT16 ? from_bfloat16(words[i]) : from_float16(words[i]);
    }
    void set(int64_t i, double value) {
        if (type == CKERNELS_FLOAT32) {
            floats[i] = float(value);
        } else {
            words[i] = type == CKERNELS_BFLOAT16 ? to_bfloat16(value) : to_float16(value);
        }
    }
    // The largest relative error of one rounding.
    double epsilon() const { return std::ldexp(1, type == CKERNELS_FLOAT32 ? -24 : type == CKERNELS_BFLOAT16 ? -8 : -11); }
    const uint16_t *bits16() const { return words.data(); }
    uint16_t *bits16() { return words.data(); }

private:
    int32_t type;
    Exact<uint16_t> words;
    Exact<float> floats;
};

// Normal numbers, the same in every run.
inline std::mt19937_64 &engine() {
    static std::mt19937_64 shared(7);
    return shared;
}

inline Numbers normal(int32_t type, int64_t count, double scale = 1) {
    std::normal_distribution<double> distribution(0, scale);
    Numbers numbers(type, count);
    for (int64_t i = 0; i < count; i++) numbers.set(i, distribution(engine()));
    return numbers;
}

inline Exact<float> normal_floats(int64_t count, double scale = 1) {
    std::normal_distribution<double> distribution(0, scale);
    Exact<float> numbers(count);
    for (int64_t i = 0; i < count; i++) numbers[i] = float(distribution(engine()));
    return numbers;
}

// A codebook of 4-bit codes.
inline constexpr float levels[16] = {
    -1, -0.7f, -0.53f, -0.4f, -0.28f, -0.18f, -0.09f, 0, 0.08f, 0.16f, 0.25f, 0.34f, 0.44f, 0.56f, 0.72f, 1};

// MARK: Instruction sets and threads

inline constexpr int32_t element_types[] = {CKERNELS_FLOAT32, CKERNELS_BFLOAT16, CKERNELS_FLOAT16};
inline constexpr int32_t thread_counts[] = {1, 3};

// Every one that this machine runs.
inline std::vector<int32_t> instruction_sets() {
    std::vector<int32_t> result;
    for (int32_t isa : {CKERNELS_ISA_PORTABLE, CKERNELS_ISA_AVX2, CKERNELS_ISA_AVX512, CKERNELS_ISA_AVX512_BF16}) {
        if (ckernels_isa_is_supported(isa)) result.push_back(isa);
    }
    return result;
}

inline void run_threads(int32_t count, void (*body)(void *, int32_t), void *data) {
    std::vector<std::thread> threads;
    for (int32_t i = 1; i < count; i++) threads.emplace_back(body, data, i);
    body(data, 0);
    for (std::thread &thread : threads) thread.join();
}

inline CKernelsThreads threads(int32_t count) { return {count, run_threads}; }

// Calls body(begin, end) on ranges that cover [0, count), one for each thread.
template <class Body> void in_ranges(int32_t num_threads, int64_t count, const Body &body) {
    struct Work {
        int64_t count;
        int32_t num_threads;
        const Body *body;
    } work{count, num_threads, &body};
    run_threads(
        num_threads,
        [](void *data, int32_t thread) {
            const Work &work = *static_cast<Work *>(data);
            (*work.body)(work.count * thread / work.num_threads, work.count * (thread + 1) / work.num_threads);
        },
        &work);
}

// MARK: Comparison

inline int64_t num_checks = 0;
inline int64_t num_failures = 0;

inline void require(bool holds, const std::string &what) {
    num_checks++;
    if (holds) return;
    num_failures++;
    std::printf("FAILED: %s\n", what.c_str());
}

// Compares found(i) and expected(i): the norm of the difference, relative to the norm of what is expected.
template <class Found, class Expected>
void require_near(int64_t count, const Found &found, const Expected &expected, double tolerance, const std::string &what) {
    double difference = 0, norm = 0;
    for (int64_t i = 0; i < count; i++) {
        const double distance = double(found(i)) - double(expected(i));
        difference += distance * distance;
        norm += double(expected(i)) * double(expected(i));
    }
    const double error = std::sqrt(difference) / std::max(std::sqrt(norm), 1e-30);
    require(
        error <= tolerance,
        what + ": expected an error up to " + std::to_string(tolerance) + ", found " + std::to_string(error));
}

// "name, 3, 65": what is compared, and the numbers that say which case it is.
template <class... Values> std::string described(const std::string &name, Values... values) {
    std::string text = name;
    ((text += ", " + std::to_string(values)), ...);
    return text;
}

}  // namespace check

// One function for each family of kernels.
void check_fourbit();
void check_eightbit();
void check_gguf();
void check_rmsnorm();
void check_swiglu();
void check_rotary();
void check_adamw();
void check_dropout();
void check_linear();
void check_attention();
void check_cross_entropy();
