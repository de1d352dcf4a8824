#!/usr/bin/env bash
# The part of `./dev full` that comes after `./dev test`: second compiler, thread sanitizer, static
# checks, mutants, long runs. Prints one line a step; stops at the first failure.
set -euo pipefail
cd "$(dirname "$0")/../.."

step() { echo "== $*"; }

step "clang: build and unit tests"
[ -f build/clang/build.ninja ] || cmake --preset clang >/dev/null
ninja -C build/clang
ninja -C build/clang all_verify_interface_header_sets
ctest --test-dir build/clang --output-on-failure -L 'unit|sim' -j "$(nproc)"

step "thread sanitizer: runtime, HTTP, base"
[ -f build/tsan/build.ninja ] || cmake --preset tsan >/dev/null
ninja -C build/tsan
ctest --test-dir build/tsan --output-on-failure \
    -R 'unit\.(buf|fiber|reactor|lane|file|sync|metrics|http)$'

step "gcc -fanalyzer on the pure code"
includes="-Ibase/include -Ierasure/include -Imeta/raft/include -Igateway/s3/include"
includes="$includes $(pkg-config --cflags libxml-2.0)"
for source in base/*.c erasure/*.c meta/raft/*.c gateway/s3/*.c; do
    # shellcheck disable=SC2086
    gcc -std=gnu2x -D_GNU_SOURCE -O1 -fanalyzer -Werror -c -o /dev/null $includes "$source"
done

step "format"
git ls-files '*.c' '*.h' | xargs clang-format --dry-run -Werror

step "clang-tidy"
git ls-files 'base/*.c' 'erasure/*.c' 'meta/raft/*.c' 'gateway/s3/*.c' |
    xargs -P "$(nproc)" -n 4 clang-tidy -p build/clang --quiet

step "mutants: every one must be caught"
tests/tools/mutants.sh

step "simulator: 1000 seeds of power cuts"
build/release/tests/sim/sim_node --seeds 1000 --base 100000

step "fuzz: 30 s a target"
./dev fuzz 30

step "slow end-to-end tests"
./dev e2e -m full
echo "full: passed"
