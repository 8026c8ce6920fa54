// Parts of the GGUF decoder that lie in several files.
#pragma once

#include "include/CKernels.h"

// The formats whose scales are in groups; as ckernels_gguf_decode.
int32_t ckernels_gguf_decode_groups(int32_t type, const uint8_t *input, int64_t begin, int64_t end, float *output);
