// What the 4-bit quantizer and dequantizer share: the check of arguments.
#pragma once

#include <algorithm>
#include <bit>

#include "isa.h"

namespace fourbit {

inline bool arguments_are_valid(int32_t isa, int32_t element_type, int64_t block_size) {
    return ckernels_isa_is_supported(isa) && element_type >= CKERNELS_FLOAT32 && element_type <= CKERNELS_FLOAT16
        && block_size >= 32 && block_size <= 4096 && std::has_single_bit(uint64_t(block_size));
}

}  // namespace fourbit
