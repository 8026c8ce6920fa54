#!/usr/bin/env -S --default-signal bash
# A Slurm cluster of two nodes on this machine, for tests. Everything is in a folder; /etc is not read.
#
#   slurm_cluster.sh FOLDER
#
# Prints "ready" when jobs can be submitted with SLURM_CONF=FOLDER/slurm.conf, and lives until its standard input ends, so that
# nothing outlives a test that is killed. Then it ends all jobs and daemons. Exits 1 if a daemon does not start, with its log.
# Signals that the test blocks are not blocked here, since daemons are ended by them.
set -euo pipefail
folder=$(realpath "$1")
export SLURM_CONF=$folder/slurm.conf PATH=$PATH:/usr/sbin:/sbin
daemons=()

for program in munged slurmctld slurmd srun; do
    command -v "$program" >/dev/null || { echo "$program is not on PATH" >&2; exit 1; }
done

# Names that are addresses (127.0.0.1 and 127.0.0.2), so that they resolve everywhere.
nodes=(0x7f000001 0x7f000002)

free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

# Starts a daemon that stays in the foreground.
start() {
    "$@" </dev/null >>"$folder/output.log" 2>&1 &
    daemons+=($!)
}

# Waits until a command succeeds.
wait_for() {
    local _
    for _ in {1..300}; do
        if "$@" >/dev/null 2>&1; then return; fi
        kill -0 "${daemons[@]}" 2>/dev/null || break
        sleep 0.1
    done
    echo "slurm_cluster.sh: not in 30 seconds: $*" >&2
    tail -n 20 "$folder"/*.log >&2
    exit 1
}

both_idle() { [ "$(sinfo --noheader --Node --format=%T)" = $'idle\nidle' ]; }
no_jobs() { [ -z "$(squeue --noheader)" ]; }

stop() {
    trap - EXIT
    exec </dev/null >/dev/null
    if [ "${#daemons[@]}" -gt 1 ]; then
        scancel --quiet --full --signal=KILL --state=RUNNING || true
        scancel --quiet --user="$(id -u)" || true
        for _ in {1..100}; do if no_jobs; then break; fi; sleep 0.1; done
    fi
    # munge last: the others do without it badly.
    for ((i = ${#daemons[@]} - 1; i >= 0; i--)); do
        kill "${daemons[i]}" 2>/dev/null || true
        wait "${daemons[i]}" || true
    done
}

trap stop EXIT
trap 'exit 1' INT TERM HUP
mkdir -p "$folder/state"
dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 status=none
chmod 600 "$folder/munge.key"
cat >"$SLURM_CONF" <<CONF
ClusterName=peft
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdSpoolDir=$folder/%n
SlurmdPidFile=$folder/%n.pid
SlurmdLogFile=$folder/%n.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=30
NodeName=${nodes[0]} NodeAddr=127.0.0.1 Port=$(free_port) CPUs=32
NodeName=${nodes[1]} NodeAddr=127.0.0.2 Port=$(free_port) CPUs=32
PartitionName=all Nodes=ALL Default=YES
CONF

start munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munge.pid" --log-file="$folder/munge.log" --seed-file="$folder/munge.seed"
wait_for munge --no-input --socket="$folder/munge.socket"
start slurmctld -D -c
for node in "${nodes[@]}"; do start slurmd -D -N "$node"; done
wait_for both_idle
echo ready
cat >/dev/null
