#!/usr/bin/env bash
# Leaves Apache Arrow's C++ libraries and headers in .libarrow, for files of rows in Parquet: of the wheel `pyarrow` only these are
# unpacked, no Python of it is installed or run.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

version=26.0.1
folder=.libarrow

# The version that the headers state, or nothing.
header_version() {
    sed -n 's/^#define ARROW_VERSION_STRING "\(.*\)"/\1/p' "$folder/include/arrow/util/config.h" 2>/dev/null || true
}

# The folder is renamed into place when it is complete, so one that is there is whole.
if [ "$(header_version)" = "$version" ]; then exit 0; fi

scripts/setup/system.sh python
mkdir -p .cache
rm -rf .cache/arrow.partial.*
partial=$(mktemp -d .cache/arrow.partial.XXXXXX)
trap 'rm -rf "$partial"' EXIT
say "installing Arrow's C++ libraries $version (PyPI: pyarrow==$version) into $folder"
python=$(python_with_pip)
"$python" -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps \
    --only-binary=:all: --dest "$partial" "pyarrow==$version" \
    || fail "could not fetch pyarrow==$version from PyPI (see above); this step needs the network once"
"$python" - "$partial" <<'PYTHON'
import pathlib, re, sys, zipfile

folder = pathlib.Path(sys.argv[1])
[wheel] = folder.glob("*.whl")
wanted = re.compile(r"(?:pyarrow/)(include/.*|lib(?:arrow|parquet)\.so\.\d+)|pyarrow-.*/((?:LICENSE|NOTICE)[^/]*)")
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        if (match := wanted.fullmatch(name)) and not name.endswith("/"):
            target = folder / "arrow" / (match[1] or match[2])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
PYTHON
# The build links by names without a version.
for library in arrow parquet; do
    [ -e "$partial/arrow/lib$library.so."* ] || fail "the wheel pyarrow==$version holds no lib$library.so"
    ln -s "$(basename "$partial/arrow/lib$library.so."*)" "$partial/arrow/lib$library.so"
done
rm -rf "$folder"
mv "$partial/arrow" "$folder"
say "Arrow $version is at $folder"
