// Runs every kernel on odd shapes and compares it with double loops; built with sanitizers by scripts/sanitize.sh.
#include "check.h"

int main() {
    struct Family {
        const char *name;
        void (*check)();
        bool needs_products;
    };
    const Family families[] = {
        {"fourbit", check_fourbit, false},     {"eightbit", check_eightbit, false},   {"gguf", check_gguf, false},
        {"rmsnorm", check_rmsnorm, false},     {"swiglu", check_swiglu, false},       {"rotary", check_rotary, false},
        {"adamw", check_adamw, false},         {"dropout", check_dropout, false},     {"linear", check_linear, false},
        {"attention", check_attention, true},
        {"cross entropy", check_cross_entropy, false},
    };
    for (const Family &family : families) {
        if (family.needs_products && !ckernels_isa_is_supported(CKERNELS_ISA_AVX512_BF16)) {
            std::printf("%s: skipped, this processor has no AVX512-BF16\n", family.name);
            continue;
        }
        const int64_t before = check::num_checks;
        family.check();
        std::printf("%s: %lld comparisons\n", family.name, (long long)(check::num_checks - before));
    }
    if (check::num_failures > 0) std::printf("%lld comparisons failed\n", (long long)check::num_failures);
    return check::num_failures > 0;
}
