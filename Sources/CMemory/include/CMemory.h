// The memory allocator of the program `peft`: jemalloc. Linking this target is all; nothing is called.
#pragma once

extern const char *malloc_conf;
