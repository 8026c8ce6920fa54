#!/usr/bin/env bash
# Makes every committed test fixture again with the pinned peers and shows what differs from the committed ones.
# scripts/fixtures/<area>.py FOLDER writes the fixtures of Tests/Fixtures/<area>.
source "$(dirname "${BASH_SOURCE[0]}")/setup/common.sh"

scripts/parity/venv.sh
scripts/setup/model.sh
# PEFT writes sets of names in hash order: the seed fixes the order that the committed files have.
export PYTHONHASHSEED=3 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HOME="$PWD/.cache/huggingface" PYTHONDONTWRITEBYTECODE=1
for script in scripts/fixtures/*.py; do
    area=$(basename "$script" .py)
    say "fixtures: $area"
    mkdir -p "Tests/Fixtures/$area"
    .venv-parity/bin/python "$script" "Tests/Fixtures/$area"
done
say "difference from the committed fixtures (nothing below: none)"
git --no-pager diff --stat -- Tests/Fixtures
git ls-files --others --exclude-standard -- Tests/Fixtures
