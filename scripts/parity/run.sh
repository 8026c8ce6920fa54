#!/usr/bin/env bash
# Runs every check scripts/parity/*.py against the built command, in the pinned peer environment, and says at the end what
# held; fails if any fails. Names of checks as arguments run only those: scripts/parity/run.sh logits adapters
source "$(dirname "${BASH_SOURCE[0]}")/../setup/common.sh"

scripts/parity/venv.sh
export HF_HOME="$PWD/.cache/huggingface" PYTHONDONTWRITEBYTECODE=1
# Two spinning OpenMP threads beside another busy process are much slower than one (docs/decisions/0003-tests-run-in-release.md).
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

checks=("$@")
if [ "${#checks[@]}" -eq 0 ]; then
    for script in scripts/parity/*.py; do checks+=("$(basename "$script" .py)"); done
fi
failed=()
summary=()
for check in "${checks[@]}"; do
    say "parity: $check"
    began=$SECONDS
    if .venv-parity/bin/python "scripts/parity/$check.py" --peft .build/release/peft \
        --model .cache/models/SmolLM2-135M-Instruct.Q4_1.gguf --work .cache/parity; then
        verdict=equal
    else
        verdict=DIFFERS
        failed+=("$check")
    fi
    summary+=("$(printf '%-14s %-8s %4d s' "$check" "$verdict" $((SECONDS - began)))")
done
say "parity with the Hugging Face stack, ${#checks[@]} checks:"
printf '    %s\n' "${summary[@]}"
[ "${#failed[@]}" -eq 0 ] || fail "parity: ${#failed[@]} of ${#checks[@]} checks failed: ${failed[*]}"
say "parity: all ${#checks[@]} checks passed, $SECONDS s"
