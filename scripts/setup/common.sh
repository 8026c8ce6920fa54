# Sourced by the set-up scripts, not run: strict mode, the checkout as current directory, messages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say() { printf '==> %s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# The clang that belongs to the Swift toolchain on PATH, else the one on PATH.
toolchain_clang() {
    local swift
    swift=$(readlink -f "$(command -v swift)")
    if [ -x "$(dirname "$swift")/clang" ]; then
        printf '%s\n' "$(dirname "$swift")/clang"
    else
        command -v clang || true
    fi
}

# A Python that has pip. A venv of our own is used when there is one, or when the system's Python has no pip.
python_with_pip() {
    local candidate
    for candidate in .venv-torch/bin/python .cache/venv-pip/bin/python python3; do
        if "$candidate" -m pip --version >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    rm -rf .cache/venv-pip
    python3 -m venv .cache/venv-pip >&2
    printf '%s\n' .cache/venv-pip/bin/python
}
