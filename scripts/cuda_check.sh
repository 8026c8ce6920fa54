#!/usr/bin/env bash
# Compiles and links everything, the backend NCCL included, against a CUDA build of libtorch, and runs all tests on the CPU.
# It needs no GPU, and proves nothing about one. The first run downloads about 2.5 GB. Called by make cuda-check.
source "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

scripts/setup/libtorch.sh cuda
scripts/setup/arrow.sh
export LIBTORCH=$PWD/.libtorch-cuda
export OMP_NUM_THREADS=1
build=(-c release --scratch-path .build-cuda)

say "building the tests against $LIBTORCH (release)"
swift build "${build[@]}" --build-tests
say "running the tests (release, one after the other)"
swift test "${build[@]}" --skip-build --disable-xctest --no-parallel 2>&1 | tee .build-cuda/test.log
# The runner's closing line once more, last.
grep -a 'Test run with' .build-cuda/test.log | tail -1
