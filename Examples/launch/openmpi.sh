#!/bin/sh
# HOSTS as mpirun has them: first:2,second:2. Open MPI numbers the processes; where they meet is told to all.
set -eu
exec mpirun --host "${HOSTS:-localhost:2}" -x MASTER_ADDR="${HEAD:-127.0.0.1}" -x MASTER_PORT="${PORT:-29500}" \
    -x OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "${PEFT:-peft}" train "$@"
