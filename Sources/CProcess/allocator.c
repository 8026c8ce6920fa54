#include "CProcess.h"

// Read by jemalloc when it is loaded; MALLOC_CONF in the environment goes before it. One arena, since one thread makes the
// tensors; freed pages go back to the system after a second, so that a step uses its own again (docs/decisions/0007).
const char *malloc_conf = "narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0";
