#!/usr/bin/env bash
# Leaves torchrun in .cache/torchrun/bin, for the tests: the launcher of the wheel `torch`, with the Python packages that it
# imports in a folder of their own. The product runs no Python, and .venv-torch stays as it is.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

version=2.13.0
folder=.cache/torchrun
packages=(
    filelock==3.19.1 fsspec==2025.9.0 jinja2==3.1.6 markupsafe==3.0.3 mpmath==1.3.0 networkx==3.4.2
    setuptools==80.9.0 sympy==1.14.0 typing_extensions==4.15.0
)

# The folder is renamed into place when it is complete, so one that is there is whole.
if [ -e "$folder" ]; then exit 0; fi

scripts/setup/system.sh python
mkdir -p .cache
rm -rf .cache/torchrun.partial.*
partial=$(mktemp -d .cache/torchrun.partial.XXXXXX)
trap 'rm -rf "$partial"' EXIT
chmod 755 "$partial"
python=$(python_with_pip)

add_packages() {
    "$python" -m pip install --quiet --disable-pip-version-check --no-compile --no-warn-conflicts \
        --target "$partial/packages" "$@" \
        || fail "could not install torchrun's packages from PyPI (see above); this step needs the network once"
}

imports() { PYTHONPATH=$partial/packages "$python" -c 'import torch.distributed.run' 2>/dev/null; }

say "installing what torchrun imports into $folder"
add_packages "${packages[@]}"
if ! imports; then
    # LIBTORCH is set, so no wheel is here; or the wheel is a CUDA build, which Python imports with all of CUDA only.
    say "no wheel torch that Python can import: installing torch $version with all that it requires into $folder"
    add_packages "torch==$version"
    imports || fail "the wheel torch $version does not import; try: PYTHONPATH=$folder/packages $python -c 'import torch'"
fi
mkdir "$partial/bin"
# Paths are taken from the script's own, so that the checkout can be moved.
if [[ $python == */* ]]; then python="\$root/$python"; fi
cat >"$partial/bin/torchrun" <<SCRIPT
#!/bin/sh
root=\$(dirname "\$0")/../../..
PYTHONPATH="\$root/$folder/packages" exec "$python" -m torch.distributed.run "\$@"
SCRIPT
chmod +x "$partial/bin/torchrun"
mv "$partial" "$folder"
say "torchrun $version is at $folder/bin/torchrun"
