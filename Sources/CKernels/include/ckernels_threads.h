// Threads that a caller lends to a kernel; kernels that take none run on the caller's only.
#ifndef CKERNELS_THREADS_H
#define CKERNELS_THREADS_H

#include <stdint.h>

typedef struct {
    // At least 1.
    int32_t count;
    // Calls body(data, thread) once for each thread in [0, count) and returns when all have ended. Not needed for one.
    void (*run)(int32_t count, void (*body)(void *data, int32_t thread), void *data);
} CKernelsThreads;

#endif
