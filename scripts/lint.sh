#!/usr/bin/env bash
# Checks the formatting and documentation of every committed or new Swift file, with the toolchain's own swift format.
source "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

say "swift format lint --strict"
mapfile -d '' -t files < <(git ls-files -z --cached --others --exclude-standard -- '*.swift')
present=()
for file in "${files[@]}"; do if [ -e "$file" ]; then present+=("$file"); fi; done
swift format lint --strict --parallel "${present[@]}"
