#!/usr/bin/env bash
# Every micro benchmark once, in a scratch directory that is removed: tests/bench/run.sh [DIRECTORY]
# Numbers on a shared machine vary by a factor of two: compare runs of one hour with each other.
#
# Against other servers: tests/bench/peers/shale.sh is Shale's file for a harness that starts one
# server a peer file and loads it with S3 requests.
set -euo pipefail
cd "$(dirname "$0")/../.."
ninja -C build/release benches >/dev/null
scratch=$(mktemp -d "${1:-/tmp}/shale-bench.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
programs=build/release/tests/bench
echo "== runtime"
"$programs/bench_runtime" "$scratch"
echo "== http"
"$programs/bench_http"
echo "== meta"
"$programs/bench_meta" "$scratch"
echo "== storage"
mkdir "$scratch/drive"
"$programs/bench_storage" "$scratch/drive"
