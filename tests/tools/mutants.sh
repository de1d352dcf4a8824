#!/usr/bin/env bash
# Deliberate bugs, each of which a test must catch. A mutant that passes is a failure of the tests.
#   raft.*  compiled into a copy of the core (tests/tools/raft_mutants.sh)
#   sync.*  the simulated disk ignores one kind of sync: 1 io_sync of files, 2 durable writes, 4 directories
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
    tests/tools/raft_mutants.sh || failures=$((failures + 1))
fi
for bits in 1 2 4; do
    caught "sync.$bits" build/release/tests/sim/sim_node --seeds 300 --lives 4 --mutant "$bits"
done
[ "$failures" -eq 0 ]
