#!/bin/bash
# A search on the nodes of a SLURM allocation; see runs/cluster/README.md.
#
#   sbatch runs/cluster/slurm.sh /shared/results/mine --budget 200
#
# From a clone on a shared disk, in an environment where pip install ".[cluster]" was run. The same
# command again goes on with the run.

#SBATCH --job-name=replk-search
#SBATCH --output=%x-%j.log
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
# Latency is measured on the first node, and Ray's ports are nobody else's.
#SBATCH --exclusive
##SBATCH --gpus-per-node=4
#SBATCH --time=08:00:00
# SIGTERM to this script 60 s before the limit: the search ends, and can go on.
#SBATCH --signal=B:TERM@60

set -eu
cd "${SLURM_SUBMIT_DIR:?start it with sbatch}"

head=$(hostname)
# The name of a machine is often 127.0.1.1 to itself.
address=$(hostname --all-ip-addresses | awk '{print $1}')
export RAY="$address:6379"
# The nodes talk to each other with a token that no other job knows.
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_TOKEN
# Ray would run workers behind everything else, and latencies with them.
export RAY_worker_niceness=0
# Of the cluster that this job starts, whatever else the user runs.
unset RAY_ADDRESS

started=()
stop() {
    trap - EXIT TERM
    kill "${started[@]}" 2>/dev/null || true
    wait
}
trap stop EXIT

common=(--disable-usage-stats --block)
ray start --head --node-ip-address="$address" --port=6379 --include-dashboard=false \
    --temp-dir="/tmp/ray-$SLURM_JOB_ID" "${common[@]}" &
started+=($!)
until ray health-check --address="$RAY" >/dev/null 2>&1; do
    kill -0 "${started[0]}" 2>/dev/null || { echo "Ray did not start on $head" >&2; exit 1; }
    sleep 2
done

if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
    others=$((SLURM_JOB_NUM_NODES - 1))
    srun --nodes="$others" --ntasks="$others" --exclude="$head" \
        ray start --address="$RAY" "${common[@]}" &
    started+=($!)
fi

runs/cluster/search.sh "$@" &
search=$!
told=
trap 'told=yes; kill -TERM "$search"' TERM
status=0
wait "$search" || status=$?
# A signal ends `wait`, not the search.
while [ -n "$told" ]; do
    told=
    status=0
    wait "$search" || status=$?
done
exit "$status"
