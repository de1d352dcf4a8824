"""Memory, start time, full disks, and directories that are not to be touched."""

import hashlib
import os
import shutil
import signal
import struct
import subprocess
import time

import pytest

import wire
from server import BINARY, NotStarted, Server
from wire import Connection, encode_path, eventually, receive_stream, request

MIB = 1 << 20
MEMORY_SPREAD_KIB_MAX = 32 << 10
PIECE = hashlib.sha512(b"piece").digest() * (MIB // 64)
SUPERBLOCK_COPIES = 4
SUPERBLOCK_COPY_BYTES = 32 << 10


# Memory


def peak_kib(server, mebibytes):
    """VmHWM of a fresh server after one PUT and one GET of that size."""
    server.start()
    assert request(server, "PUT", "bucket").status == 200
    with Connection(server, timeout=300) as connection:
        headers = {"content-length": str(mebibytes * MIB)}
        body = (PIECE for _ in range(mebibytes))
        answer = connection.request("PUT", encode_path("bucket", "k"), (), headers, body, wire.UNSIGNED)
        assert answer.status == 200, answer
    received = 0

    def take(piece):
        nonlocal received
        received += len(piece)

    assert receive_stream(server, "bucket", "k", take) == 200
    assert received == mebibytes * MIB
    peak = server.status_kib("VmHWM")
    assert request(server, "DELETE", "bucket", "k").status == 204
    server.stop()
    return peak


def check_memory(new_server, large_mib):
    small = peak_kib(new_server(), 64)
    large = peak_kib(new_server(), large_mib)
    assert large - small <= MEMORY_SPREAD_KIB_MAX, f"64 MiB: {small} KiB, {large_mib} MiB: {large} KiB"


def test_memory_does_not_grow_with_the_object(new_server):
    check_memory(new_server, 1024)


@pytest.mark.full
def test_memory_of_the_largest_put(new_server):
    check_memory(new_server, 5120)


# Start


def test_ready_within_a_second(new_server):
    """The best of three: other processes of the machine may be in the way."""
    times = []
    for _ in range(3):
        server = new_server()
        started = time.monotonic()
        server.start()
        times.append(time.monotonic() - started)
        server.stop()
    assert min(times) < 1, times


def test_health_and_metrics(server):
    assert server.admin("/health/live") == (200, "live\n")
    assert server.admin("/health/ready") == (200, "ready\n")
    assert server.admin("/none")[0] == 404
    request(server, "GET")
    metrics = server.metrics()
    for name in ("shale_fibers", "shale_pool_used_bytes", "shale_s3_requests_active"):
        assert name in metrics, name
    counted = [name for name in metrics if name.startswith("shale_s3_requests_total{") and "ListBuckets" in name]
    assert counted and metrics[counted[0]] >= 1


def test_credentials_are_made_once(tmp_path):
    """Without SHALE_ROOT_*: random ones in a 0600 file, the same at the next start."""
    drive = tmp_path / "drive"
    drive.mkdir()
    seen = []
    for _ in range(2):
        environment = {n: v for n, v in os.environ.items() if not n.startswith("SHALE_")}
        process = subprocess.Popen(
            [BINARY, "server", drive, "--address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        lines = {}
        for line in process.stdout:
            name, _, value = line.strip().partition(": ")
            lines[name] = value
            if name == "ready":
                break
        path = lines["secret key"].removeprefix("in ")
        assert os.stat(path).st_mode & 0o777 == 0o600
        seen.append((lines["access key"], open(path).read()))
        assert lines["access key"] in seen[-1][1]
        secret = seen[-1][1].split("secret_key=")[1].strip()
        server = Server(drive, tmp_path / "log")
        server.port = int(lines["s3"].rsplit(":", 1)[1])
        signer = wire.Signer(lines["access key"], secret)
        assert request(server, "GET", signer=signer).status == 200
        process.terminate()
        assert process.wait(40) == 0
    assert seen[0] == seen[1]


# Space


def test_a_full_disk(loop_disk, tmp_path):
    disk = loop_disk(1536)
    drive = disk.mount_point / "drive"
    drive.mkdir()
    server = Server(drive, tmp_path / "server.log", ["--log-level", "debug"]).start()
    try:
        fill_and_empty(server)
    finally:
        server.kill9()


def fill_and_empty(server):
    body = PIECE * 16
    assert request(server, "PUT", "bucket").status == 200
    keys = []
    with Connection(server, timeout=120) as connection:
        while True:
            key = f"k{len(keys):03}"
            answer = connection.request("PUT", encode_path("bucket", key), body=body, payload=wire.UNSIGNED)
            if answer.status != 200:
                break
            keys.append(key)
            assert len(keys) < 200, "the disk is never full"
    assert (answer.status, answer.code) == (507, "InsufficientStorage"), answer
    assert len(keys) >= 20, "refused long before the disk was full"
    assert server.is_ready()
    listed = request(server, "GET", "bucket", query=[("list-type", "2")]).all("Contents/Key")
    assert listed == keys, "the refused one is not there"
    assert request(server, "GET", "bucket", keys[-1]).body == body
    for key in keys[: len(keys) // 2]:
        assert request(server, "DELETE", "bucket", key).status == 204
    assert eventually(
        lambda: request(server, "PUT", "bucket", "again", body=body, payload=wire.UNSIGNED).status == 200, 40, 0.5
    ), "space does not come back"
    assert request(server, "GET", "bucket", "again").body == body
    assert request(server, "GET", "bucket", keys[-1]).body == body
    server.restart()
    assert request(server, "GET", "bucket", "again").body == body
    for key in request(server, "GET", "bucket", query=[("list-type", "2")]).all("Contents/Key"):
        assert request(server, "GET", "bucket", key).body == body
    server.stop()


def test_a_full_disk_at_a_restart(loop_disk, tmp_path):
    """Filled by somebody else while it was down: it starts, reads and deletes."""
    disk = loop_disk(1536)
    drive = disk.mount_point / "drive"
    drive.mkdir()
    server = Server(drive, tmp_path / "server.log", ["--log-level", "debug"]).start()
    try:
        assert request(server, "PUT", "bucket").status == 200
        assert request(server, "PUT", "bucket", "k", body=PIECE * 4).status == 200
        server.stop()
        with open(disk.mount_point / "filler", "wb") as filler:
            try:
                while True:
                    filler.write(PIECE)
                    filler.flush()
            except OSError:
                pass
        server.start()
        assert request(server, "GET", "bucket", "k").body == PIECE * 4
        answer = request(server, "PUT", "bucket", "new", body=PIECE * 4)
        assert (answer.status, answer.code) == (507, "InsufficientStorage"), answer
        assert request(server, "DELETE", "bucket", "k").status == 204
        (disk.mount_point / "filler").unlink()
        assert eventually(lambda: request(server, "PUT", "bucket", "new", body=PIECE * 4).status == 200, 40, 0.5)
        server.stop()
    finally:
        server.kill9()


def test_a_drive_that_is_too_small(loop_disk, tmp_path):
    disk = loop_disk(512)
    drive = disk.mount_point / "drive"
    drive.mkdir()
    check_refused(Server(drive, tmp_path / "server.log"), "small", "1 GiB", "1024", "GiB", "bytes")


# Directories that are refused


def check_refused(server, *words):
    """It ends with status 1 and says why, in one of `words`; nothing was printed as ready."""
    with pytest.raises(NotStarted):
        server.start()
    assert server.exit_status == 1
    assert any(word in server.log() for word in words), server.log()


def used_drive(new_server, folder):
    """A stopped server's directory with an object in it."""
    folder.mkdir()
    server = new_server(folder).start()
    assert request(server, "PUT", "bucket").status == 200
    assert request(server, "PUT", "bucket", "k", body=b"x").status == 200
    server.stop()
    return server


def test_a_directory_of_something_else(new_server, tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear ...")
    check_refused(new_server(folder), "not Shale's")
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_a_directory_that_is_missing_or_a_file(new_server, tmp_path):
    server = new_server(tmp_path / "missing")
    try:
        server.start()  # making it is as good as refusing it
        server.stop()
    except NotStarted:
        assert "missing" in server.log()
    (tmp_path / "file").write_text("")
    check_refused(new_server(tmp_path / "file"), "file")


def test_a_directory_in_use(new_server, tmp_path):
    folder = tmp_path / "drive"
    folder.mkdir()
    first = new_server(folder).start()
    check_refused(new_server(folder), "lock", "in use", "another")
    assert request(first, "GET").status == 200


def superblock_of(drive):
    found = [path for path in drive.iterdir() if path.name.startswith("superblock")]
    assert len(found) == 1, list(drive.iterdir())
    return found[0]


def test_a_later_version(new_server, tmp_path):
    server = used_drive(new_server, tmp_path / "drive")
    path = superblock_of(tmp_path / "drive")
    data = bytearray(path.read_bytes())
    for copy in range(SUPERBLOCK_COPIES):
        at = copy * SUPERBLOCK_COPY_BYTES
        struct.pack_into("<II", data, at + 8, 0, 99)  # CRC, version
        crc = wire.crc32c(bytes(data[at : at + SUPERBLOCK_COPY_BYTES]))
        struct.pack_into("<I", data, at + 8, crc)
    path.write_bytes(data)
    check_refused(server, "version")


def test_metadata_of_another_cluster(new_server, tmp_path):
    one = used_drive(new_server, tmp_path / "one")
    used_drive(new_server, tmp_path / "two")
    shutil.rmtree(tmp_path / "one" / "meta")
    shutil.copytree(tmp_path / "two" / "meta", tmp_path / "one" / "meta")
    check_refused(one, "cluster", "replica", "belongs", "mismatch", "another")


def test_segments_of_another_cluster(new_server, tmp_path):
    """Two directories of two clusters are not one node."""
    used_drive(new_server, tmp_path / "one")
    used_drive(new_server, tmp_path / "two")
    check_refused(new_server([tmp_path / "one", tmp_path / "two"]), "belongs to another")


def test_missing_metadata_is_not_made_anew(new_server, tmp_path):
    server = used_drive(new_server, tmp_path / "drive")
    shutil.move(tmp_path / "drive" / "meta", tmp_path / "kept")
    check_refused(server, "missing")
    shutil.move(tmp_path / "kept", tmp_path / "drive" / "meta")
    server.start()
    assert request(server, "GET", "bucket", "k").body == b"x"
    server.stop()


BAD_FLAGS = {
    "unknown": (["--no-such-flag"], "no-such-flag"),
    "no value": (["--region"], "region"),
    "no number": (["--reactors", "many"], "reactors"),
    "zero reactors": (["--reactors", "0"], "reactors"),
    "too little memory": (["--body-memory", "1"], "body-memory"),
    "log level": (["--log-level", "loud"], "log-level"),
}


@pytest.mark.parametrize("case", BAD_FLAGS)
def test_bad_flags(new_server, case):
    flags, word = BAD_FLAGS[case]
    server = new_server(flags=flags)
    with pytest.raises(NotStarted):
        server.start()
    assert server.exit_status not in (0, None) and word in server.log()


def test_an_address_in_use(new_server):
    first = new_server().start()
    second = new_server()
    second.port = first.port
    check_refused(second, str(first.port), "in use")
    assert request(first, "GET").status == 200


@pytest.mark.parametrize("reactors", [1, 3])
def test_any_number_of_reactors(new_server, reactors):
    server = new_server(flags=["--reactors", str(reactors)]).start()
    assert request(server, "PUT", "bucket").status == 200
    for index in range(12):  # connections spread over the reactors
        assert request(server, "PUT", "bucket", f"k{index}", body=PIECE).status == 200
    for index in range(12):
        assert request(server, "GET", "bucket", f"k{index}").body == PIECE
    server.stop()


def test_a_stop_lets_a_request_end(new_server):
    """SIGTERM in the middle of a PUT: the answer still comes, and the object is there afterwards."""
    server = new_server().start()
    assert request(server, "PUT", "bucket").status == 200
    with Connection(server) as connection:
        head, _ = connection.signed_head(
            "PUT", encode_path("bucket", "k"), headers={"content-length": str(2 * MIB)}
        )
        connection.send(head + PIECE)
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        connection.send(PIECE)
        assert connection.read_answer("PUT").status == 200
    assert server.process.wait(40) == 0
    server.process = None
    server.start()
    assert request(server, "GET", "bucket", "k").body == PIECE * 2
    server.stop()
