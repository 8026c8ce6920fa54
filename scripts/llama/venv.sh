#!/usr/bin/env bash
# Leaves llama.cpp (requirements.txt), compiled for this machine's processor, in .venv-llama. Takes about ten minutes once.
source "$(dirname "${BASH_SOURCE[0]}")/../setup/common.sh"

requirements=scripts/llama/requirements.txt
installed=.venv-llama/requirements.txt

# The copy of the requirements is written last: it says that all of them are there.
if cmp -s "$requirements" "$installed"; then exit 0; fi

scripts/setup/system.sh libraries python
say "compiling llama.cpp of $requirements into .venv-llama"
rm -rf .venv-llama
python3 -m venv .venv-llama
export CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DMTMD_BUILD=OFF"
CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) .venv-llama/bin/python -m pip install --quiet --disable-pip-version-check \
    --no-binary llama_cpp_python -r "$requirements"
cp "$requirements" "$installed"
