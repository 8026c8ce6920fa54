#!/bin/sh
# Two processes on this machine. Arguments go to `peft train`.
set -eu
exec "${PEFT:-peft}" launch --nproc "${NPROC:-2}" --max-restarts 1 -- train "$@"
