#!/usr/bin/env bash
# Makes sure that the system has what the named jobs need, and installs only what is missing, by apt.
#
#   scripts/setup/system.sh [swift] [libraries] [python] [wordnet] [launchers] [emulator]
#
# swift: Swift 6.3 or later on PATH (checked, never installed). libraries: C++ headers, Oniguruma, libyaml, jemalloc.
# python: Python 3.10 or later with venv (set-up and peers only; the product runs no Python). wordnet: WordNet's files.
# launchers: Open MPI and Slurm with munge; their packages start no daemon of Slurm without a configuration in /etc, but munge's
# own where systemd runs. emulator: QEMU for programs, which imitates older processors.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

missing=()

check_swift() {
    command -v swift >/dev/null || fail "swift is not on PATH; install Swift 6.3 or later (swift.org) first"
    local version
    version=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9]*\.[0-9]*\).*/\1/p' | head -1)
    if [ "${version%%.*}" -lt 6 ] || { [ "${version%%.*}" -eq 6 ] && [ "${version##*.}" -lt 3 ]; }; then
        fail "swift on PATH is version $version; expected 6.3 or later"
    fi
}

compiles() { printf '#include <%s>\n' "$2" | "$clang" -x "$1" -fsyntax-only - 2>/dev/null; }

check_libraries() {
    local clang
    clang=$(toolchain_clang)
    [ -n "$clang" ] || fail "no clang beside swift or on PATH; install the complete Swift toolchain"
    compiles c++ vector || missing+=(g++)
    compiles c oniguruma.h || missing+=(libonig-dev)
    compiles c yaml.h || missing+=(libyaml-dev)
    compiles c jemalloc/jemalloc.h || missing+=(libjemalloc-dev)
}

check_python() {
    if ! command -v python3 >/dev/null; then
        missing+=(python3 python3-venv)
        return
    fi
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
        || fail "python3 on PATH is $(python3 --version 2>&1); expected 3.10 or later"
    python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
}

check_wordnet() {
    [ -e /usr/share/wordnet/data.noun ] || missing+=(wordnet-base)
}

check_launchers() {
    local PATH=$PATH:/usr/sbin:/sbin
    command -v mpirun >/dev/null || missing+=(openmpi-bin)
    command -v munged >/dev/null || missing+=(munge)
    { command -v slurmctld && command -v slurmd && command -v srun; } >/dev/null || missing+=(slurm-wlm)
}

check_emulator() {
    [ "$(uname -m)" != x86_64 ] || command -v qemu-x86_64 >/dev/null || missing+=(qemu-user)
}

install_missing() {
    local as_root=() list="${missing[*]}"
    local by_hand="install these packages by hand, then run make again: $list"
    command -v apt-get >/dev/null || fail "this system has no apt-get; $by_hand"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "not root, and there is no sudo; $by_hand"
        as_root=(sudo)
        say "installing system packages with sudo apt-get: $list"
    else
        say "installing system packages with apt-get: $list"
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get)
    "${apt[@]}" update -qq || say "apt-get update failed; trying with the package lists that are here"
    "${apt[@]}" install -y -qq --no-install-recommends "${missing[@]}" \
        || fail "apt-get could not install the packages (see above); $by_hand"
}

for need in "$@"; do
    case "$need" in
    swift) check_swift ;;
    libraries) check_libraries ;;
    python) check_python ;;
    wordnet) check_wordnet ;;
    launchers) check_launchers ;;
    emulator) check_emulator ;;
    *) fail "system.sh: unknown need '$need'; expected swift, libraries, python, wordnet, launchers or emulator" ;;
    esac
done
if [ "${#missing[@]}" -gt 0 ]; then install_missing; fi
