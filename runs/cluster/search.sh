#!/bin/bash
# Begins the run DIRECTORY, or goes on with it where it is there: say the same command again after
# any end, and nothing that finished is lost.
#
#   runs/cluster/search.sh DIRECTORY [arguments of a new search]
#
# RAY is the cluster's address (auto), BUDGET a new total for a run that goes on.
set -eu
directory=${1:?a run directory}
shift
ray=${RAY:-auto}
cd "$(dirname "$0")/../.."
if [ -e "$directory/trials.jsonl" ]; then
    exec python -m runs resume "$directory" --ray "$ray" ${BUDGET:+--budget "$BUDGET"}
fi
exec python -m runs --out "$directory" --ray "$ray" "$@"
