// Work of a kernel on the threads that its caller lends.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "CKernels.h"

// Calls body(item, thread) once for each item in [0, count); returns when all have ended.
//
// Threads take the next item when they are done with one, so long ones come first. What an item computes must not depend on the
// thread that computes it; then results do not depend on the number of threads either.
template <class Body>
void for_each_item(const CKernelsThreads &threads, int64_t count, const Body &body) {
    const int32_t used = int32_t(std::min<int64_t>(threads.count, count));
    if (used <= 1) {
        for (int64_t item = 0; item < count; item++) body(item, 0);
        return;
    }
    struct Work {
        std::atomic<int64_t> next{0};
        int64_t count;
        const Body *body;
    } work;
    work.count = count;
    work.body = &body;
    threads.run(
        used,
        [](void *data, int32_t thread) {
            Work &work = *static_cast<Work *>(data);
            for (int64_t item; (item = work.next.fetch_add(1, std::memory_order_relaxed)) < work.count;) {
                (*work.body)(item, thread);
            }
        },
        &work);
}
