#!/bin/sh
# Each deliberate bug of the Raft core (meta/raft/core.h, enum raft_mutant) must be caught by a
# script or by a seed.
#
#   tests/tools/raft_mutants.sh BUILD_DIRECTORY [SEED_COUNT]
#
# Prints one line a mutant; fails when one survives both.
set -u
build=${1:?usage: raft_mutants.sh BUILD_DIRECTORY [SEED_COUNT]}
seeds=${2:-350}
header=$(dirname "$0")/../../meta/raft/core.h
ninja -C "$build" raft_mutants >/dev/null || exit 2
export ASAN_OPTIONS=detect_leaks=0
survivors=0
for program in $(find "$build" -type f -name 'raft_mutant_*_script' | sort -t_ -k3 -n); do
    number=$(basename "$program" | cut -d_ -f3)
    name=$(sed -n "s/^ *MUTANT_\([A-Z_]*\) = $number,.*/\1/p" "$header")
    scripts=survived
    "$program" >/dev/null 2>"$build/raft_mutant.log" || scripts=caught
    caught_by=$(sed -n 's/.*\/\([a-z0-9_]*\)\.txt: output differs.*/\1/p' "$build/raft_mutant.log" |
        head -3 | tr '\n' ' ')
    violation=$(sed -n 's/^VIOLATION seed=[0-9]*: //p' "$build/raft_mutant.log" | head -1)
    random=survived
    "${program%_script}_seeds" 1 "$seeds" >/dev/null 2>"$build/raft_mutant.log" || random=caught
    seed=$(sed -n 's/.*seed=\([0-9]*\).*/\1/p' "$build/raft_mutant.log" | head -1)
    echo "$number $name: scripts $scripts (${violation:-$caught_by}) seeds $random (${seed:-none})"
    if [ "$scripts" = survived ] && [ "$random" = survived ]; then
        survivors=$((survivors + 1))
    fi
done
echo "$survivors mutants survived"
[ "$survivors" -eq 0 ]
