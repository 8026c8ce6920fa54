#!/usr/bin/env bash
# Makes libtorch available to the build: the folder that $LIBTORCH names, else the wheel `torch` in .venv-torch,
# with the relative link .libtorch to it. The wheel is used for its C++ libraries only; no Python runs in the product.
#
#   scripts/setup/libtorch.sh [cuda]
#
# cuda: a CUDA build of a later version instead, in .venv-torch-cuda with the link .libtorch-cuda, with all of CUDA's
# libraries and headers (4 GB). $LIBTORCH does not matter then.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

version=2.13.0 venv=.venv-torch link=.libtorch
if [ "${1:-}" = cuda ]; then
    version=2.15.0 venv=.venv-torch-cuda link=.libtorch-cuda
    unset LIBTORCH
fi

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

if [ -e "$link/lib/libtorch_cpu.so" ] && [ "$(header_version "$link")" = "$version" ]; then exit 0; fi

scripts/setup/system.sh python
# The link is made last, so an interrupted installation is never used: it starts again from nothing.
rm -rf "$link" "$venv"
say "installing libtorch $version (PyPI: torch==$version) into $venv"
python3 -m venv "$venv"
python=$venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-deps "torch==$version" \
    || fail "could not install torch==$version from PyPI (see above); this step needs the network once"
torch=$("$python" -c 'import importlib.util as u, os; print(os.path.relpath(os.path.dirname(u.find_spec("torch").origin)))')

install() {
    say "this build of libtorch needs $* - installing"
    "$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-warn-conflicts "$@" \
        || fail "could not install $* from PyPI (see above)"
}

unresolved() {
    local libraries=("$torch/lib/libtorch_cpu.so" "$torch/lib/libc10.so")
    if [ "$link" = .libtorch-cuda ]; then libraries+=("$torch/lib/libtorch_cuda.so"); fi
    ldd "${libraries[@]}" | sed -n 's/^[[:space:]]*\(.*\) => not found/\1/p' | sort -u
}

# The wheel may be a CUDA build. What it requires of CUDA: everything, or "cuda-toolkit[cublas,cudart,...]==V" with the
# extras of the libraries $@ alone. The libtorch_cpu of such a wheel needs just two libraries of the toolkit.
requirements() {
    "$python" - "$@" <<'PYTHON'
import importlib.metadata, re, sys

extras = ",".join(sorted({re.match(r"lib([a-z]+)", name)[1] for name in sys.argv[1:]}))
for requirement in importlib.metadata.requires("torch"):
    requirement = requirement.split(";")[0].strip()
    if match := re.match(r"cuda-toolkit\[.*\]==([0-9.]+)", requirement):
        # The headers of the runtime include crt's, which the wheel does not require: it only runs.
        print(f"cuda-toolkit[{extras}]=={match[1]}" if extras else requirement.replace("[", "[crt,"))
    elif requirement.startswith("nvidia-") and not extras:
        print(requirement)
PYTHON
}

if [ "$link" = .libtorch-cuda ]; then
    mapfile -t needed < <(requirements)
    [ "${#needed[@]}" -gt 0 ] || fail "torch==$version of PyPI is no CUDA build on this machine: it requires no CUDA package"
    install "${needed[@]}"
elif [ -n "$(unresolved)" ]; then
    install "$(requirements $(unresolved))"
fi
[ -z "$(unresolved)" ] || fail "libtorch $version in $venv: still unresolved: $(unresolved | tr '\n' ' ')"
ln -sfn "$torch" "$link"
say "libtorch $version is at $link -> $torch"
