#!/bin/sh
# HOSTS as mpirun has them: first:2,second:2. Open MPI numbers the processes; where they meet is told to all: on the first host,
# at a port made of this script's process id, so that two runs do not meet. A process may use all of its host's cores, not one.
# mpirun kills its processes a second after it gets SIGTERM or SIGINT; SIGUSR1 it passes on, and they write a checkpoint first.
set -eu
hosts="${HOSTS:-localhost:2}"
setsid mpirun --host "$hosts" --bind-to none \
    -x MASTER_ADDR="${HEAD:-${hosts%%[:,]*}}" -x MASTER_PORT="${PORT:-$((15000 + $$ % 10000))}" \
    -x OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "${PEFT:-peft}" train "$@" &
mpirun=$!
trap 'kill -USR1 "$mpirun"' INT TERM
status=0
wait "$mpirun" || status=$?
while kill -0 "$mpirun" 2>/dev/null; do
    status=0
    wait "$mpirun" || status=$?
done
exit "$status"
