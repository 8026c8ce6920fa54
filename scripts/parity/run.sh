#!/usr/bin/env bash
# Runs every check scripts/parity/*.py against the built command, in the pinned peer environment; fails if any fails.
# Names of checks as arguments run only those: scripts/parity/run.sh logits adapters
source "$(dirname "${BASH_SOURCE[0]}")/../setup/common.sh"

scripts/parity/venv.sh
export HF_HOME="$PWD/.cache/huggingface" PYTHONDONTWRITEBYTECODE=1

checks=("$@")
if [ "${#checks[@]}" -eq 0 ]; then
    for script in scripts/parity/*.py; do checks+=("$(basename "$script" .py)"); done
fi
failed=()
for check in "${checks[@]}"; do
    say "parity: $check"
    .venv-parity/bin/python "scripts/parity/$check.py" --peft .build/release/peft \
        --model .cache/models/SmolLM2-135M-Instruct.Q4_1.gguf --work .cache/parity || failed+=("$check")
done
[ "${#failed[@]}" -eq 0 ] || fail "parity: ${#failed[@]} of ${#checks[@]} checks failed: ${failed[*]}"
say "parity: all ${#checks[@]} checks passed"
