#!/usr/bin/env bash
# Builds and runs every test in release (docs/decisions/0003), then the kernels under sanitizers, the lint and the budgets. Called by
# make test.
source "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

# One OpenMP thread: two spin against each other when the cores are busy, and results do not depend on the machine.
export OMP_NUM_THREADS=1
log=.build/test.log

say "building the tests (release)"
swift build -c release --build-tests
say "running the tests (release, one after the other)"
swift test -c release --skip-build --disable-xctest --no-parallel 2>&1 | tee "$log"
say "reading the inputs that the fuzzer once found"
.build/release/Fuzz replay
# Of the sanitizers one of two, 40 s: the other, for data races, takes as long again and is left to make sanitize.
scripts/sanitize.sh address
scripts/lint.sh
scripts/budget.py
scripts/budget_test.sh
# The runner's closing line once more, last.
grep -a 'Test run with' "$log" | tail -1
