#!/usr/bin/env bash
# Makes libtorch available to the build: the folder that $LIBTORCH names, else the wheel `torch` in .venv-torch,
# with the relative link .libtorch to it. The wheel is used for its C++ libraries only; no Python runs in the product.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

version=2.13.0

# The version that the headers below folder $1 state, or nothing.
header_version() {
    awk '/^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) / { printf "%s%s", dot, $3; dot = "." }' \
        "$1/include/torch/headeronly/version.h" 2>/dev/null || true
}

if [ -n "${LIBTORCH:-}" ]; then
    [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] \
        || fail "LIBTORCH=$LIBTORCH: expected lib/libtorch_cpu.so in it; point it at a libtorch $version folder, or unset it"
    found=$(header_version "$LIBTORCH")
    [ "$found" = "$version" ] \
        || fail "LIBTORCH=$LIBTORCH: expected libtorch $version, found '${found:-no version header}'; unset it to use the pinned wheel"
    say "libtorch $found at $LIBTORCH (LIBTORCH is set: no venv is made)"
    exit 0
fi

if [ -e .libtorch/lib/libtorch_cpu.so ] && [ "$(header_version .libtorch)" = "$version" ]; then exit 0; fi

scripts/setup/system.sh python
# The link is made last, so an interrupted installation is never used: it starts again from nothing.
rm -rf .libtorch .venv-torch
say "installing libtorch $version (PyPI: torch==$version) into .venv-torch"
python3 -m venv .venv-torch
python=.venv-torch/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps "torch==$version" \
    || fail "could not install torch==$version from PyPI (see above); this step needs the network once"
torch=$("$python" -c 'import importlib.util as u, os; print(os.path.relpath(os.path.dirname(u.find_spec("torch").origin)))')

# The wheel may be a CUDA build, whose libtorch_cpu needs libraries of other wheels: only those are added, not all of CUDA.
unresolved() {
    ldd "$torch/lib/libtorch_cpu.so" "$torch/lib/libc10.so" \
        | sed -n 's/^[[:space:]]*\(.*\) => not found/\1/p' | sort -u
}
if [ -n "$(unresolved)" ]; then
    # "cuda-toolkit[cublas,cudart,...]==V" in the wheel's requirements, with the extras of the missing libraries alone.
    requirement=$("$python" - $(unresolved) <<'PYTHON'
import importlib.metadata, re, sys

extras = ",".join(sorted({re.match(r"lib([a-z]+)", name)[1] for name in sys.argv[1:]}))
for requirement in importlib.metadata.requires("torch"):
    if match := re.match(r"cuda-toolkit\[.*\]==([0-9.]+)", requirement):
        print(f"cuda-toolkit[{extras}]=={match[1]}")
PYTHON
    )
    say "this build of libtorch needs $(unresolved | tr '\n' ' ')- installing $requirement"
    "$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-warn-conflicts "$requirement" \
        || fail "could not install $requirement from PyPI (see above)"
    [ -z "$(unresolved)" ] || fail "libtorch $version in .venv-torch: still unresolved: $(unresolved | tr '\n' ' ')"
fi
ln -sfn "$torch" .libtorch
say "libtorch $version is at .libtorch -> $torch"
