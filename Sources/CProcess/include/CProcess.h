// What must be decided for the process of the program `peft` before the libraries it uses are set up: linking this target is all, nothing
// is called.
#pragma once

// Settings of the memory allocator, jemalloc.
extern const char *malloc_conf;
