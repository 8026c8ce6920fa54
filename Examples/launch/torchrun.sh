#!/bin/sh
# One of NNODES machines, under torchrun: run it on each of them, with HEAD the name of the first.
# Where one process is lost, torchrun starts all again, and the run goes on from its last checkpoint.
set -eu
exec torchrun --no-python --nnodes "${NNODES:-1}" --nproc-per-node "${NPROC:-2}" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-endpoint "${HEAD:-localhost}:${PORT:-29400}" \
    "${PEFT:-peft}" train "$@"
