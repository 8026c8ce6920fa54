#include <jemalloc/jemalloc.h>

#include "CProcess.h"

// Read by jemalloc when it is loaded; MALLOC_CONF in the environment goes before it. One arena, since one thread makes the
// tensors; freed pages go back to the system over five seconds, so that a step uses its own again, and their addresses with them, which
// a limit on a process's memory counts (docs/decisions/0007).
const char *malloc_conf = "narenas:1,oversize_threshold:0,dirty_decay_ms:5000,muzzy_decay_ms:0,retain:false";

// jemalloc 5.3.0 makes its first arena before it has read oversize_threshold: that arena gives every free extent of 8 MB and more back
// at once, whatever the decay says, and the next layer's tensors fault them in anew. The main thread, which makes the tensors, gets an
// arena that was made later. Without jemalloc's help (it refuses) the first arena serves, more slowly.
__attribute__((constructor, used)) static void take_arena_that_keeps_large_extents(void) {
    unsigned arena = 0;
    size_t size = sizeof arena;
    if (mallctl("arenas.create", &arena, &size, NULL, 0) != 0) return;
    mallctl("thread.arena", NULL, NULL, &arena, sizeof arena);
}
