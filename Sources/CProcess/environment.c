// Starts the program again with the settings of OpenMP and oneDNN that suit it, where the user has set nothing (docs/decisions/0007).
//
// Both read their environment when they are set up. This runs before any library is (`.preinit_array`), so the first start costs
// milliseconds; from `main` it would be a tenth of a second, the set-up of libtorch.
#define _GNU_SOURCE
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "CProcess.h"

// How often a waiting OpenMP thread looks before it sleeps: microseconds, not milliseconds.
static char spin_count[] = "GOMP_SPINCOUNT=3000";
// How many compiled products oneDNN keeps: it compiles one for each number of tokens, and batches differ in it.
static char product_cache[] = "ONEDNN_PRIMITIVE_CACHE_CAPACITY=64";

static int is_set(char *const *environment, const char *name) {
    const size_t length = strlen(name);
    for (; *environment; environment++) {
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=') return 1;
    }
    return 0;
}

static int has_one_processor(void) {
    cpu_set_t allowed;
    return sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) == 1;
}

static void set_environment(int count, char **arguments, char **environment) {
    (void)count;
    size_t size = 0;
    while (environment[size]) size++;
    char *changed[size + 3];
    memcpy(changed, environment, size * sizeof *changed);
    const size_t before = size;
    const int is_waiting_decided = is_set(environment, "OMP_WAIT_POLICY") || is_set(environment, "GOMP_SPINCOUNT") ||
                                   is_set(environment, "OMP_NUM_THREADS") || has_one_processor();
    if (!is_waiting_decided) changed[size++] = spin_count;
    if (!is_set(environment, "ONEDNN_PRIMITIVE_CACHE_CAPACITY")) changed[size++] = product_cache;
    if (size == before) return;
    changed[size] = NULL;
    // If the system refuses, the threads spin, which is slower beside other load and nothing else.
    execve("/proc/self/exe", arguments, changed);
}

__attribute__((section(".preinit_array"), used)) static void (*const before_libraries)(int, char **, char **) = set_environment;
