#!/usr/bin/env python3
"""Remove each sync of the source in turn: a test must then fail.

Every call in kv, meta, storaged, gateway and cli that makes something durable is a site. Each site
has a row in MUTANTS: a name and the test that catches its removal. A site without a row, a row
without a site, and a mutant that survives are failures.

The sources are copied to build/mutants/source, a mutant is one call there replaced by success, and
build/mutants/build has the tests.

  tests/tools/sync_mutants.py [--list] [NAME...]
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "build" / "mutants" / "source"
BUILD = ROOT / "build" / "mutants" / "build"
LAYERS = ("kv", "meta", "storaged", "gateway", "cli")
TEST_SECONDS_MAX = 120

# What makes something durable, and what stands for "it did" in its place. In kv/kv.c and
# kv/memory.c are the wrapper and the double of the simulator, which the tests themselves need.
CALLS = {
    "io_sync": "OK",
    "io_sync_directory": "OK",
    "io_sync_parent": "OK",
    "kv_flush": "OK",
    "fsync": "0",
    "rocksdb_flush": "(void)0",
    "WRITE_DURABLE": "0",
}
NOT_SITES = {"kv/kv.c", "kv/memory.c"}
CALL = re.compile(r"\b(" + "|".join(CALLS) + r")\b(?=(\()?)")
FUNCTION = re.compile(r"^(?:[a-z].*[ *])?([a-z_0-9]+)\(", re.MULTILINE)

# file function[#ordinal of the sites in it]: name, test program with its arguments.
MUTANTS = {
    "kv/rocks.c rocks_flush": ("rocks-flush", ["test_kv_rocks"]),
    "kv/rocks.c sync_parent": ("rocks-parent", ["test_kv_rocks"]),
    "meta/group_copy.c flush_on_lane": ("copy-flush", ["test_group"]),
    "meta/log.c write_flight": ("log-write", ["test_meta_log"]),
    "meta/log_files.c fill": ("log-segment", ["test_meta_log"]),
    "meta/log_files.c log_file_prepare": ("log-directory", ["test_meta_log"]),
    "meta/log_files.c tidy_up#1": ("log-recovered", ["test_meta_log"]),
    "meta/log_files.c tidy_up#2": ("log-recovered-names", ["test_meta_log"]),
    "meta/server_apply.c flush_on_lane": ("state-flush", ["test_server"]),
    "meta/server_open.c write_identity": ("meta-identity", ["test_server"]),
    "meta/server_open.c open_identity": ("meta-identity-name", ["test_server"]),
    "meta/server_open.c open_kv": ("state-created", ["test_server"]),
    "meta/server_open.c make_directories": ("meta-parent", ["test_server"]),
    "storaged/appender.c write_group": ("record-write", ["test_storage_life"]),
    "storaged/collector.c sync_touched": ("punch", ["test_storage_cut"]),
    "storaged/drive.c write_superblock": ("superblock", ["test_storage_cut"]),
    "storaged/drive.c sync_parent#1": ("drive-parent", ["test_storage_cut"]),
    "storaged/drive.c sync_parent#2": ("drive-parent-fallback", ["test_storage_cut"]),
    "storaged/drive.c open_segments": ("segments-directory", ["test_storage_life"]),
    "storaged/drive_index.c flush_job": ("index-flush", ["test_storage_cut"]),
    "storaged/drive_segments.c write_header": ("segment-header", ["test_storage_life"]),
    "storaged/drive_segments.c drive_segment_create": ("segment-name", ["test_storage_life"]),
    "storaged/drive_segments.c drive_segment_seal": ("seal", ["test_storage_life"]),
    "cli/credentials.c replace_copy#1": ("credentials", ["test_node"]),
    "cli/credentials.c replace_copy#2": ("credentials-name", ["test_node"]),
    "cli/node_metadata.c write_marker": ("marker-name", ["test_node"]),
}

# Sites without a mutant: why nothing that was acknowledged rests on them.
EXEMPT = {
    "storaged/appender.c fill_fiber": "pays for new extents before the next append has to",
    "storaged/drive_index.c drive_index_condemn": "the next scrub finds the damage again",
    "meta/group_survey.c group_put_aside": "an operator runs the recovery again",
    "meta/group_recover.c recover_from_store": "an operator runs the recovery again",
    "meta/log.c delete_segment": "changes of one directory keep their order in the simulator; others may not",
    "storaged/drive_index.c drive_index_condemn": "an index that is forgotten to be damaged is found so again",
    "cli/offline_main.c close_output": "a copy for the operator, from drives that stay as they are",
}


class Site:
    def __init__(self, path, function, start, end, call):
        self.path, self.function, self.start, self.end, self.call = path, function, start, end, call
        self.key = f"{path} {function}"


def end_of_call(text, at):
    depth = 0
    while True:
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        at += 1
        if depth == 0:
            return at


def without_comments(text):
    return re.sub(r"/\*.*?\*/", lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)


def sites_of(path):
    text = without_comments((COPY / path).read_text())
    found = []
    for match in CALL.finditer(text):
        function = None
        for head in FUNCTION.finditer(text, 0, match.start()):
            function = head[1]
        if match[1] != "WRITE_DURABLE" and match[2] is None:
            continue
        end = end_of_call(text, match.end(1)) if match[2] else match.end(1)
        found.append(Site(path, function, match.start(), end, match[1]))
    for site in found:
        same = [other for other in found if other.function == site.function]
        if len(same) > 1:
            site.key += f"#{same.index(site) + 1}"
    return found


def all_sites():
    paths = [path.relative_to(COPY) for layer in LAYERS for path in sorted((COPY / layer).rglob("*.c"))]
    return [site for path in paths if str(path) not in NOT_SITES for site in sites_of(path)]


def copy_tree():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.split("\n")
    wanted = {name for name in listed if name and (ROOT / name).is_file()}
    for name in wanted:
        source, target = ROOT / name, COPY / name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    for path in list(COPY.rglob("*")):
        if path.is_file() and str(path.relative_to(COPY)) not in wanted:
            path.unlink()


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", check=False, **options)


def build(targets):
    if not (BUILD / "build.ninja").exists():
        made = run(["cmake", "-S", COPY, "-B", BUILD, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
                    "-DCMAKE_C_FLAGS=-w", "-DCMAKE_C_COMPILER_LAUNCHER=ccache"])
        if made.returncode != 0:
            sys.exit(made.stdout)
    made = run(["ninja", "-C", BUILD, *targets])
    if made.returncode != 0:
        sys.exit(f"sync_mutants: does not compile\n{made.stdout}")


def program_of(test):
    return next((path for path in (BUILD / "tests").rglob(test[0]) if path.is_file()), None)


def passes(test):
    try:
        return run([program_of(test), *test[1:]], timeout=TEST_SECONDS_MAX,
                   cwd=COPY).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def try_mutant(site, name, test):
    """True when the test fails without the sync."""
    target = COPY / site.path
    original = target.read_text()
    begun = time.monotonic()
    try:
        target.write_text(original[: site.start] + CALLS[site.call] + original[site.end :])
        build([test[0]])
        caught = not passes(test)
    finally:
        target.write_text(original)
    print(f"sync.{name}: {'caught' if caught else 'NOT CAUGHT'} "
          f"({time.monotonic() - begun:.0f} s, {site.key}, {test[0]})", flush=True)
    return caught


def main(arguments):
    copy_tree()
    sites = {site.key: site for site in all_sites()}
    missing = [key for key in sites if key not in MUTANTS and key not in EXEMPT]
    stale = [key for key in (*MUTANTS, *EXEMPT) if key not in sites]
    if "--list" in arguments:
        for key in sites:
            name, test = MUTANTS.get(key, ("-", [EXEMPT.get(key, "?")]))
            print(f"{key:48} {name:24} {' '.join(test)}")
        return 0
    for key in missing:
        print(f"sync_mutants: no mutant for {key}")
    for key in stale:
        print(f"sync_mutants: no such site: {key}")
    chosen = {key: row for key, row in MUTANTS.items()
              if key in sites and (not arguments or row[0] in arguments)}
    tests = {row[1][0]: row[1] for row in chosen.values()}
    build(sorted(tests))
    broken = [name for name, test in tests.items() if not passes(test)]
    if broken:
        sys.exit(f"sync_mutants: fails without a mutant: {' '.join(broken)}")
    survived = [row[0] for key, row in chosen.items() if not try_mutant(sites[key], *row)]
    print(f"sync_mutants: {len(chosen)} mutants, {len(survived)} survived")
    return 1 if survived or missing or stale else 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main(sys.argv[1:]))
