#!/usr/bin/env bash
# Makes sure that Open MPI and Slurm are here, for the tests that start Examples/launch with them; by apt, and only what is missing.
# Then tries both and leaves in .cache/launchers, a file each, why one cannot be used on this machine; its tests are skipped.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

reasons=.cache/launchers

# Prints the last line that says something of a command that fails, and fails.
reason_of() {
    local output
    if output=$("$@" 2>&1 </dev/null); then return 0; fi
    printf '%s\n' "$output" | grep -v '^[[:space:]-]*$' | tail -n 1
    return 1
}

# Tries a launcher: its name, a command.
try() {
    local reason
    if reason=$(reason_of "${@:2}"); then
        : >"$reasons/$1"
    else
        printf '%s\n' "$reason" >"$reasons/$1"
        say "$1 cannot be used here, so its tests are skipped: $reason"
    fi
}

try_slurm() {
    local folder status=0
    folder=$(mktemp -d)
    Tests/Support/slurm_cluster.sh "$folder" || status=$?
    rm -rf "$folder"
    return "$status"
}

try_openmpi() {
    command -v mpirun >/dev/null || fail "mpirun is not on PATH"
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 mpirun --host localhost:2 true
}

mkdir -p "$reasons"
# Messages of apt are shown; what cannot be installed is no error, since only some tests need it.
scripts/setup/system.sh launchers || say "going on without the launchers that are missing (see above)"
try openmpi try_openmpi
try slurm try_slurm
