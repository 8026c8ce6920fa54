// 4-bit and 8-bit codes, GGUF blocks.
#include <cstring>

#include "check.h"

using namespace check;

namespace {


int code_of(const Exact<uint8_t> &packed, int64_t i) { return i % 2 ? packed[i / 2] & 15 : packed[i / 2] >> 4; }

// The distance of a value in [-1, 1] to the nearest level.
double nearest_distance(double value) {
    double distance = INFINITY;
    for (float level : levels) distance = std::min(distance, std::fabs(level - value));
    return distance;
}

void check_fourbit_case(int32_t isa, int32_t type, int64_t count, int64_t block_size, int32_t num_threads) {
    const std::string what = described("fourbit isa, type, count, block, threads", isa, type, count, block_size, num_threads);
    const int64_t num_blocks = (count + block_size - 1) / block_size;
    const Numbers input = normal(type, count);
    Exact<uint8_t> packed((count + 1) / 2);
    Exact<float> absmax(num_blocks);
    Numbers output(type, count);
    in_ranges(num_threads, num_blocks, [&](int64_t begin, int64_t end) {
        ckernels_fourbit_quantize(
            isa, levels, type, input.data(), count, block_size, begin, end, packed.data(), absmax.data());
        ckernels_fourbit_dequantize(
            isa, levels, type, packed.data(), absmax.data(), count, block_size, begin, end, output.data());
    });
    bool is_nearest = true, is_exact = true;
    Numbers rounded(type, 1);
    for (int64_t i = 0; i < count; i++) {
        double largest = 0;
        for (int64_t j = i / block_size * block_size; j < std::min((i / block_size + 1) * block_size, count); j++) {
            largest = std::max(largest, std::fabs(input[j]));
        }
        is_exact = is_exact && absmax[i / block_size] == largest;
        const double value = input[i] / largest;
        is_nearest = is_nearest && std::fabs(levels[code_of(packed, i)] - value) <= nearest_distance(value) + 1e-6;
        rounded.set(0, levels[code_of(packed, i)] * absmax[i / block_size]);
        is_exact = is_exact && output[i] == rounded[0];
    }
    require(is_nearest, what + ": codes are not the nearest");
    require(is_exact, what + ": absmax or decoded values differ");
    require(count % 2 == 0 || levels[packed[count / 2] & 15] == 0, what + ": the odd half is not zero's code");
}

void check_eightbit_case(int64_t count, int64_t block_size) {
    const std::string what = described("eightbit count, block", count, block_size);
    Exact<float> codebook(256);
    for (int i = 0; i < 256; i++) codebook[i] = std::pow(std::fabs(i - 127.5f) / 127.5f, 3.0f) * (i < 128 ? -1 : 1);
    const Exact<float> input = normal_floats(count);
    const float offset = 0.25f;
    Exact<uint8_t> codes(count);
    Exact<float> absmax((count + block_size - 1) / block_size), output(count);
    ckernels_eightbit_quantize(codebook.data(), input.data(), count, block_size, offset, codes.data(), absmax.data());
    ckernels_eightbit_dequantize(codebook.data(), codes.data(), absmax.data(), count, block_size, offset, output.data());
    bool is_nearest = true, is_exact = true;
    for (int64_t i = 0; i < count; i++) {
        const double value = (double(input[i]) - offset) / absmax[i / block_size];
        double distance = INFINITY;
        for (int64_t k = 0; k < 256; k++) distance = std::min(distance, std::fabs(codebook[k] - value));
        // The value is rounded to one of 65,536 levels first.
        is_nearest = is_nearest && std::fabs(codebook[codes[i]] - value) <= distance + 4e-5;
        is_exact = is_exact && output[i] == codebook[codes[i]] * absmax[i / block_size] + offset;
    }
    require(is_nearest, what + ": codes are not the nearest");
    require(is_exact, what + ": decoded values differ");
}

struct Format {
    int32_t type;
    int64_t bytes, elements;
    bool has_minimum, has_high_bits;
};

// Element i of a block, by the format's definition.
double gguf_element(const Format &format, const uint8_t *block, int64_t i) {
    auto half = [&](int64_t at) { return from_float16(uint16_t(block[at] | block[at + 1] << 8)); };
    switch (format.type) {
    case CKERNELS_GGUF_F32: {
        float value;
        std::memcpy(&value, block, 4);
        return value;
    }
    case CKERNELS_GGUF_F16: return half(0);
    case CKERNELS_GGUF_BF16: return from_bfloat16(uint16_t(block[0] | block[1] << 8));
    case CKERNELS_GGUF_Q8_0: return half(0) * int8_t(block[2 + i]);
    default: break;
    }
    const uint8_t *rest = block + 2 + 2 * format.has_minimum;
    const uint8_t *nibbles = rest + 4 * format.has_high_bits;
    int code = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
    if (format.has_high_bits) code |= (rest[i / 8] >> i % 8 & 1) << 4;
    const int zero = format.has_minimum ? 0 : format.has_high_bits ? 16 : 8;
    return half(0) * (code - zero) + (format.has_minimum ? half(2) : 0);
}

void check_gguf_case(const Format &format, int64_t num_blocks, int32_t num_threads) {
    Exact<uint8_t> input(num_blocks * format.bytes);
    for (int64_t i = 0; i < input.size(); i++) input[i] = uint8_t(engine()());
    for (int64_t block = 0; block < num_blocks; block++) {
        // Scales, and numbers of floating point, of a size that does not overflow.
        uint8_t *bytes = input.data() + block * format.bytes;
        const int64_t last = format.type == CKERNELS_GGUF_F32 ? 3 : 1;
        bytes[last] = uint8_t(bytes[last] & 0x80) | 0x3A;
        if (format.has_minimum) bytes[3] = uint8_t(bytes[3] & 0x80) | 0x3A;
    }
    Exact<float> output(num_blocks * format.elements);
    in_ranges(num_threads, num_blocks, [&](int64_t begin, int64_t end) {
        ckernels_gguf_decode(format.type, input.data(), begin, end, output.data());
    });
    require_near(
        output.size(), [&](int64_t i) { return output[i]; },
        [&](int64_t i) { return gguf_element(format, input.data() + i / format.elements * format.bytes, i % format.elements); },
        1e-7, described("gguf type, blocks, threads", format.type, num_blocks, num_threads));
}

}  // namespace

void check_fourbit() {
    for (int32_t isa : instruction_sets()) {
        for (int32_t type : element_types) {
            for (int64_t count : {1, 2, 31, 64, 65, 191, 1001}) {
                for (int64_t block_size : {32, 64, 256}) {
                    for (int32_t threads : thread_counts) check_fourbit_case(isa, type, count, block_size, threads);
                }
            }
        }
    }
}

void check_eightbit() {
    for (int64_t count : {1, 255, 256, 257, 1001}) check_eightbit_case(count, 256);
}

void check_gguf() {
    const Format formats[] = {
        {CKERNELS_GGUF_F32, 4, 1, false, false},   {CKERNELS_GGUF_F16, 2, 1, false, false},
        {CKERNELS_GGUF_BF16, 2, 1, false, false},  {CKERNELS_GGUF_Q4_0, 18, 32, false, false},
        {CKERNELS_GGUF_Q4_1, 20, 32, true, false}, {CKERNELS_GGUF_Q5_0, 22, 32, false, true},
        {CKERNELS_GGUF_Q5_1, 24, 32, true, true},  {CKERNELS_GGUF_Q8_0, 34, 32, false, false},
    };
    for (const Format &format : formats) {
        for (int64_t blocks : {1, 2, 7, 33}) {
            for (int32_t threads : thread_counts) check_gguf_case(format, blocks, threads);
        }
    }
}
