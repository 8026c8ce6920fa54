#!/usr/bin/env bash
# Leaves the pinned peers (requirements.txt) in .venv-parity; nothing else of the project uses that venv.
source "$(dirname "${BASH_SOURCE[0]}")/../setup/common.sh"

requirements=scripts/parity/requirements.txt
installed=.venv-parity/requirements.txt

# The copy of the requirements is written last: it says that all of them are there.
if cmp -s "$requirements" "$installed"; then exit 0; fi

scripts/setup/system.sh python
say "installing the peers of $requirements into .venv-parity"
rm -rf .venv-parity
python3 -m venv .venv-parity
.venv-parity/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements"
cp "$requirements" "$installed"
