#!/usr/bin/env bash
# SwiftPM's build folder and the binaries' library path hold absolute paths: drop the build folder when the checkout was moved.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

if [ -e .build ] && [ -e .build/checkout-path ] && [ "$(cat .build/checkout-path)" != "$PWD" ]; then
    say "the checkout was moved from $(cat .build/checkout-path): removing .build, everything is built again"
    rm -rf .build
fi
mkdir -p .build
printf '%s\n' "$PWD" >.build/checkout-path
