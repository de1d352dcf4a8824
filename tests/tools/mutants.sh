#!/usr/bin/env bash
# Deliberate bugs, each of which a test must catch. A mutant that passes is a failure of the tests.
#   raft.*  compiled into a copy of the core (tests/tools/raft_mutants.sh)
#   sync.*  one sync taken out of the source (tests/tools/sync_mutants.py)
#   disk.*  the whole node on a simulated disk that lies (the table in tests/sim/sim_node.c)
set -uo pipefail
cd "$(dirname "$0")/../.."
failures=0

caught() { # NAME COMMAND...: the command must fail
    local name=$1
    shift
    if "$@" >/dev/null 2>&1; then
        echo "$name: NOT CAUGHT"
        failures=$((failures + 1))
    else
        echo "$name: caught"
    fi
}

if [ -x tests/tools/raft_mutants.sh ]; then
    tests/tools/raft_mutants.sh build/release || failures=$((failures + 1))
fi
tests/tools/sync_mutants.py || failures=$((failures + 1))
for mutant in log-write log-directory record-write segment-directory every-sync; do
    caught "disk.$mutant" build/release/tests/sim/sim_node --seeds 300 --lives 5 --mutant "$mutant"
done
[ "$failures" -eq 0 ]
