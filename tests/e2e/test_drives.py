"""Several drives: any that the redundancy bears may go, stopped or running; the rest serves and rebuilds."""

import itertools
import json
import os
import random
import shutil
import subprocess
import time

import pytest

from ledger import Crowd, matches
from server import BINARY, LoopDisk, NotStarted, loop_disks_missing, run
from test_crash import crash_many_times
from test_damage import damage, files_by_kind
from wire import eventually, request

WORKERS = 6
WHOLE_SECONDS_MAX = 120
BIG = os.urandom(1 << 20) * 70  # more than one block
# Drives of a node -> how many may go at once.
BEARS = {2: 1, 3: 1, 4: 2, 5: 2, 6: 2}


def directories_of(tmp_path, count):
    folders = [tmp_path / f"d{i}" for i in range(1, count + 1)]
    for folder in folders:
        folder.mkdir()
    return folders


def empty(folder):
    """What an operator does who puts a new disk in the place of a broken one."""
    for entry in folder.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def is_whole(server):
    metrics = server.metrics()
    wanting = ("shale_blocks_degraded", "shale_voters_missing", "shale_volumes_repairing")
    return all(metrics[name] == 0 for name in wanting)


def wait_until_whole(server):
    assert eventually(lambda: is_whole(server), seconds=WHOLE_SECONDS_MAX), {
        name: value for name, value in server.metrics().items() if name.startswith("shale_") and value
    }


def load(crowd, seconds):
    before = crowd.acknowledged
    crowd.begin()
    time.sleep(seconds)
    crowd.end()
    assert not crowd.errors, crowd.errors[0]
    assert crowd.acknowledged > before, "nothing was written"


def put_big(server, key="big"):
    assert request(server, "PUT", "large", key, body=BIG).status == 200


def check_big(server, key="big"):
    answer = request(server, "GET", "large", key)
    assert answer.status == 200, answer
    assert answer.body == BIG


def begin(server):
    server.start()
    for bucket in ("bucket", "large"):
        assert request(server, "PUT", bucket).status == 200
    crowd = Crowd(server, "bucket", WORKERS)
    load(crowd, 1.0)
    put_big(server)
    return crowd


def check_and_write(server, crowd, key):
    crowd.check()
    check_big(server)
    load(crowd, 0.5)
    put_big(server, key)


SETS = {count: list(itertools.combinations(range(count), BEARS[count])) for count in BEARS}
STOPPED = [(3, (0,)), (4, (1, 3)), (6, (0, 1))]


def emptied_while_stopped(server, gone):
    crowd = begin(server)
    server.stop()
    for index in gone:
        empty(server.directories[index])
    server.start()
    check_and_write(server, crowd, "again")
    wait_until_whole(server)
    others = [index for index in range(len(server.directories)) if index not in gone][: len(gone)]
    server.stop()
    for index in others:
        empty(server.directories[index])
    server.start()
    crowd.check()
    check_big(server)
    check_big(server, "again")
    wait_until_whole(server)
    server.stop()


@pytest.mark.parametrize("count, gone", STOPPED)
def test_drives_emptied_while_stopped(new_server, tmp_path, count, gone):
    emptied_while_stopped(new_server(directories_of(tmp_path, count), ["--auto-recover"]), gone)


@pytest.mark.full
@pytest.mark.parametrize("count, gone", [(count, gone) for count in SETS for gone in SETS[count] if count > 2])
def test_any_drives_emptied_while_stopped(new_server, tmp_path, count, gone):
    emptied_while_stopped(new_server(directories_of(tmp_path, count), ["--auto-recover"]), gone)


@pytest.mark.parametrize("count", [pytest.param(3, marks=pytest.mark.full), 6])
def test_a_drive_emptied_while_running(new_server, tmp_path, count):
    server = new_server(directories_of(tmp_path, count))
    crowd = begin(server)
    crowd.tolerate(500, 503)  # a request that was under way may have to be repeated
    crowd.begin()
    empty(server.directories[1])
    time.sleep(2)
    crowd.end()
    assert not crowd.errors, crowd.errors[0]
    crowd.tolerate()
    check_and_write(server, crowd, "again")
    wait_until_whole(server)
    server.stop()
    for index in range(BEARS[count]):
        empty(server.directories[2 - index if count == 3 else 3 + index])
    server.start()
    crowd.check()
    check_big(server)
    check_big(server, "again")
    server.stop()


def test_one_more_lost_than_promised(new_server, tmp_path):
    """No start over it; when the operator insists: errors, never wrong bytes."""
    server = new_server(directories_of(tmp_path, 6))
    crowd = begin(server)
    server.stop()
    for index in (0, 2, 4):
        empty(server.directories[index])
    with pytest.raises(NotStarted) as refused:
        server.start()
    assert "--accept-loss" in str(refused.value)
    assert not list(server.directories[0].iterdir()), "a refused start formats nothing"
    checked = fsck(server)
    assert checked.returncode == 2, checked.stdout + checked.stderr
    assert "lost object=large/big " in checked.stdout, "fsck says what is lost"
    recovered = subprocess.run([BINARY, "meta", "recover", *server.directories], capture_output=True, text=True)
    assert recovered.returncode == 1, "two of five voters may have missed something"
    assert "--accept-loss" in recovered.stdout + recovered.stderr
    run(BINARY, "meta", "recover", "--accept-loss", *server.directories)
    server.flags = ["--accept-loss"]
    server.start()
    check_no_wrong_bytes(server, crowd)
    assert request(server, "GET", "large", "big").status in (500, 503)
    load(Crowd(server, "bucket", 1), 0.5)
    server.stop()


def check_no_wrong_bytes(server, crowd):
    for worker in crowd.workers:
        for key, entry in worker.entries.items():
            answer = request(server, "GET", "bucket", key)
            assert answer.status in (200, 404, 500, 503), answer
            if answer.status == 200:
                assert any(matches(value, answer.body) for value in entry.allowed()), f"wrong bytes of {key}"


def test_without_a_quorum_it_reads(new_server, tmp_path):
    """Two of four gone: everything is read, nothing written, and every refusal says what to do."""
    server = new_server(directories_of(tmp_path, 4))
    crowd = begin(server)
    server.stop()
    for index in (0, 3):
        empty(server.directories[index])
    server.start(ready=False)
    assert "shale meta recover" in server.log()
    crowd.check()
    check_big(server)
    assert request(server, "PUT", "bucket", "new", body=b"x").status == 503
    assert request(server, "DELETE", "large", "big").status == 503
    for path in ("/scrub", f"/drives/drain?id={drives_of(server)[0]['id']}"):
        status, text = server.admin(path, "POST")
        assert status == 503 and "shale meta recover" in text, text
    server.stop()


def drives_of(server):
    return json.loads(server.admin("/drives")[1])["drives"]


@pytest.mark.parametrize("method, path, status", [
    ("POST", "/drives/drain", 400),
    ("POST", "/drives/drain?id=xyz", 400),
    ("POST", "/drives/undrain?name=1", 400),
    ("POST", "/drives/drain?id=" + 32 * "0", 404),
    ("GET", "/drives/drain", 405),
    ("POST", "/drives", 405),
    ("DELETE", "/scrub", 405),
    ("GET", "/drives/none", 404),
])  # fmt: skip
def test_the_admin_port_refuses(server, method, path, status):
    before = drives_of(server)
    answered, text = server.admin(path, method)
    assert answered == status, text
    assert text.strip(), "a refusal says why"
    assert [drive["state"] for drive in drives_of(server)] == [drive["state"] for drive in before]


def test_a_directory_is_added_later(new_server, tmp_path):
    """1 drive grows to 2, 3 and 6: new blocks get the better redundancy, nothing is copied by hand."""
    folders = directories_of(tmp_path, 6)
    server = new_server(folders[:1])
    crowd = begin(server)
    for count in (2, 3, 6):
        server.stop()
        server.directories = list(reversed(folders[:count]))  # their order does not matter
        server.start()
        crowd.check()
        load(crowd, 0.5)
        put_big(server, f"of {count}")
        wait_until_whole(server)
    check_big(server, "of 2")
    server.stop()
    for index in (1, 4):
        empty(folders[index])
    server.start()
    check_big(server, "of 6")
    server.stop()


def test_a_directory_of_another_node_is_refused(new_server, tmp_path):
    folders = directories_of(tmp_path, 4)
    for pair in (folders[:2], folders[2:]):
        new_server(pair).start().stop()
    server = new_server([folders[0], folders[1], folders[2]])
    with pytest.raises(NotStarted) as refused:
        server.start()
    assert str(folders[2]) in str(refused.value)
    assert new_server(folders[:2]).start()


def test_an_old_copy_of_a_drive_is_not_used(new_server, tmp_path):
    server = new_server(directories_of(tmp_path, 6))
    crowd = begin(server)
    server.stop()
    copy = tmp_path / "copy"
    run("cp", "-a", "--sparse=always", server.directories[3], copy)
    server.start()
    load(crowd, 1.0)
    server.stop()
    shutil.rmtree(server.directories[3])
    copy.rename(server.directories[3])
    server.start()
    assert "older copy" in server.log()
    crowd.check()
    check_big(server)
    server.stop()


@pytest.mark.parametrize("cycles", [5, pytest.param(20, marks=pytest.mark.full)])
def test_crashes_of_six_drives(new_server, tmp_path, cycles):
    crash_many_times(new_server(directories_of(tmp_path, 6)), cycles)


def fsck(server):
    return subprocess.run([BINARY, "fsck", *server.directories], capture_output=True, text=True)


def scrub(server):
    assert server.admin("/scrub", "POST")[0] == 202
    assert eventually(lambda: not json.loads(server.admin("/scrub")[1])["running"], seconds=120)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in range(1, 6))])
def test_damage_in_every_kind_of_file_of_one_drive(new_server, tmp_path, seed):
    """All is read bit for bit; scrubbing and the rebuilding of the replica mend it, and both are counted."""
    generator = random.Random(seed)
    server = new_server(directories_of(tmp_path, 6))
    crowd = begin(server)
    server.restart()
    load(crowd, 0.5)
    server.stop()
    drive = server.directories[seed]
    damaged = [(name, damage(drive / name, generator)) for name in map(generator.choice, files_by_kind(drive).values())]
    server.start()
    crowd.check()
    check_big(server)
    scrub(server)
    wait_until_whole(server)
    crowd.check()
    metrics = server.metrics()
    mended = metrics["shale_scrub_repairs_total"] + metrics["shale_meta_replicas_rebuilt_total"]
    assert mended > 0, damaged
    server.stop()
    checked = fsck(server)
    assert checked.returncode == 0, f"{damaged}\n{checked.stdout}{checked.stderr}"


# Drives that fail


@pytest.fixture
def six_disks(tmp_path):
    if why := loop_disks_missing():
        pytest.skip(why)
    disks = []
    try:
        for i in range(6):
            (tmp_path / f"disk{i}").mkdir()
            disks.append(LoopDisk(tmp_path / f"disk{i}", 1200))
        yield disks
    finally:
        for disk in disks:
            disk.close()


def test_power_cuts_of_six_disks(new_server, six_disks):
    server = new_server([disk.mount_point for disk in six_disks])
    crowd = begin(server)
    crowd.tolerate(500, 503, 507)  # the disks go one after the other
    for _ in range(3):
        crowd.begin()
        time.sleep(0.5)
        for disk in six_disks:
            disk.cut_power()
        server.kill9()
        crowd.end()
        assert not crowd.errors, crowd.errors[0]
        for disk in six_disks:
            disk.unmount()
            disk.mount()
        server.start()
        crowd.check()
    check_big(server)
    server.stop()


def fail_with_errors(disk):
    disk.cut_power()


def fail_read_only(disk):
    run("mount", "-o", "remount,abort", disk.mount_point)  # as ext4 does by itself after an error


def fail_full(disk):
    free = os.statvfs(disk.mount_point)
    with open(disk.mount_point / "filler", "wb") as filler:
        os.posix_fallocate(filler.fileno(), 0, free.f_bavail * free.f_frsize - (1 << 20))


@pytest.mark.parametrize("fail", [fail_with_errors, fail_read_only, fail_full])
def test_a_disk_fails_while_running(new_server, six_disks, fail):
    server = new_server([disk.mount_point for disk in six_disks])
    crowd = begin(server)
    crowd.tolerate(500, 503)
    crowd.begin()
    time.sleep(0.3)
    fail(six_disks[0])
    time.sleep(2)
    crowd.end()
    assert not crowd.errors, crowd.errors[0]
    crowd.tolerate()
    check_and_write(server, crowd, "again")
    server.stop()
    if fail is not fail_full:
        six_disks[0].unmount()
        six_disks[0].mount()
    server.start()
    crowd.check()
    check_big(server, "again")
    server.stop()
