"""shale fsck and shale extract over the drives of a stopped server: nothing changes, nothing wrong comes out, losses are named."""

import functools
import hashlib
import json
import os
import random
import shutil
import subprocess

import pytest

from ledger import content
from server import BINARY, NotStarted, Server
from wire import Connection, encode_path, multipart_etag, request

MIB = 1 << 20
OBJECTS = {
    "empty": (1, 0),
    "inline": (2, 16 << 10),
    "one block": (3, (16 << 10) + 1),
    "folder/megabytes": (4, 3 * MIB + 17),
}
MANY_BYTES = 64 * MIB + 4099
PARTS = [(20, 5 * MIB), (21, 6 * MIB), (22, 777)]


def shale(*arguments):
    """Exit status, standard output and standard error of a run."""
    done = subprocess.run([str(BINARY), *map(str, arguments)], capture_output=True, timeout=300)
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def fsck(*arguments):
    """Exit status and the lines, by kind."""
    status, out, errors = shale("fsck", "--json", *arguments)
    kinds = {}
    for line in out.decode().splitlines():
        entry = json.loads(line)
        kinds.setdefault(entry["kind"], []).append(entry)
    if status != 3:
        assert kinds["summary"][0]["exit"] == status
    return status, kinds, errors


@functools.cache
def expected():
    objects = {key: content(*value) for key, value in OBJECTS.items()}
    objects["many blocks"] = random.Random(5).randbytes(MANY_BYTES)
    objects["parts/of it"] = b"".join(content(*part) for part in PARTS)
    return objects


def fill(server):
    assert request(server, "PUT", "bucket").status == 200
    with Connection(server) as connection:
        for index in range(5):  # what is replaced and deleted later
            path = encode_path("bucket", f"gone {index}")
            assert connection.request("PUT", path, body=content(90 + index, 40_000 * index)).status == 200
        path = encode_path("bucket", "one block")
        assert connection.request("PUT", path, body=content(99, 100_000)).status == 200
        for key, body in expected().items():
            if not key.startswith("parts/"):
                assert connection.request("PUT", encode_path("bucket", key), body=body).status == 200
        for index in range(5):
            assert connection.request("DELETE", encode_path("bucket", f"gone {index}")).status == 204
    parts = [content(*part) for part in PARTS]
    key = "parts/of it"
    upload = request(server, "POST", "bucket", key, query=[("uploads", "")]).text("UploadId")
    items = ""
    for number, part in enumerate(parts, 1):
        query = [("partNumber", number), ("uploadId", upload)]
        etag = request(server, "PUT", "bucket", key, query=query, body=part).headers["ETag"]
        items += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()
    answer = request(server, "POST", "bucket", key, query=[("uploadId", upload)], body=body)
    assert answer.text("ETag").strip('"') == multipart_etag(parts)


def make_drives(folder, count, end):
    """Directories of a server that was filled and then ended by `end`."""
    drives = [folder / f"drive-{index}" for index in range(count)]
    for drive in drives:
        drive.mkdir()
    server = Server(drives, folder / "server.log")
    try:
        server.start()
        fill(server)
        end(server)
    finally:
        server.kill9()
    return drives


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_drives(tmp_path_factory.mktemp("fsck"), 1, Server.stop)[0]


@pytest.fixture
def drive(original, tmp_path):
    shutil.copytree(original, tmp_path / "drive")
    return tmp_path / "drive"


def fingerprint(drive):
    """Names, times and contents of everything."""
    found = {}
    for path in sorted(drive.rglob("*")):
        info = path.stat()
        body = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(drive))] = (info.st_size, info.st_mtime_ns, info.st_ctime_ns, body)
    return found


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))


def find_bytes(drive, needle):
    """Segment file and offset of these bytes."""
    for path in sorted((drive / "segments").iterdir()):
        at = path.read_bytes().find(needle)
        if at >= 0:
            return path, at
    raise AssertionError("not in any segment")


def extract_all(drives, flags=(), but=()):
    for key, body in expected().items():
        if key in but:
            continue
        status, out, errors = shale("extract", *flags, "-o", "-", *drives, f"bucket/{key}")
        assert (key, status) == (key, 0), errors
        assert out == body


def test_a_whole_drive_is_whole_and_stays_as_it_was(drive):
    before = fingerprint(drive)
    status, found, errors = fsck(drive)
    assert status == 0, (found, errors)
    summary = found["summary"][0]
    assert summary["objects"] == len(expected())
    # "many blocks" has two, and each part is one of its own
    assert summary["blocks"] == summary["whole"] == 1 + 1 + 2 + len(PARTS)
    assert summary["lost"] == summary["degraded"] == summary["damage"] == summary["objects_lost"] == 0
    assert "damage" not in found and "block" not in found
    extract_all([drive])
    assert fingerprint(drive) == before


def test_lines_for_people_end_with_the_result(drive):
    status, out, _ = shale("fsck", drive)
    assert status == 0
    assert out.decode().splitlines()[-1].endswith('result="everything is whole" exit=0')


def test_a_running_server_is_left_alone(new_server):
    server = new_server().start()
    status, out, errors = shale("fsck", *server.directories)
    assert (status, out) == (3, b"")
    assert "in use: stop the server first" in errors
    status, out, errors = shale("extract", "-o", "-", *server.directories, "bucket/key")
    assert (status, out) == (3, b"")
    assert request(server, "PUT", "bucket").status == 200


@pytest.mark.parametrize("arguments", [
    ("fsck",), ("fsck", "--unknown", "/tmp"), ("fsck", "--memory", "none", "/tmp"), ("fsck", "--tmp"), ("extract", "/tmp"),
    ("extract", "/tmp", "nokey"), ("extract", "--write-id", "7", "/tmp", "bucket/key"), ("extract", "--json", "/tmp", "b/k"),
])  # fmt: skip
def test_bad_arguments_are_refused(arguments):
    status, out, errors = shale(*arguments)
    assert (status, out) == (3, b"") and errors.startswith("shale: ")


def test_what_is_no_drive_is_refused(tmp_path, drive):
    for directories in ([tmp_path / "missing"], [tmp_path], [drive, drive]):
        status, out, errors = shale("fsck", *directories)
        assert (status, out) == (3, b"") and "shale: " in errors


def test_what_was_acknowledged_before_a_kill_is_there(tmp_path):
    drives = make_drives(tmp_path, 1, Server.kill9)
    status, found, errors = fsck(*drives)
    assert status == 0, (found, errors)
    assert found["summary"][0]["objects"] == len(expected())
    extract_all(drives)


def test_a_changed_block_is_a_lost_object(drive, tmp_path):
    body = expected()["folder/megabytes"]
    path, at = find_bytes(drive, body[MIB : MIB + 4096])
    flip(path, at)
    status, found, _ = fsck(drive)
    assert status == 2
    [damage] = found["damage"]
    assert damage["file"] == str(path) and damage["offset"] < at
    [lost] = found["lost"]
    assert lost["object"] == "bucket/folder/megabytes" and (lost["offset"], lost["bytes"]) == (0, len(body))
    assert found["summary"][0]["lost"] == found["summary"][0]["objects_lost"] == 1
    target = tmp_path / "out"
    status, _, errors = shale("extract", "-o", target, drive, "bucket/folder/megabytes")
    assert status == 2 and not target.exists()
    assert f"lost: bytes 0 to {len(body) - 1} " in errors
    status, _, errors = shale("extract", "--holes", "-o", target, drive, "bucket/folder/megabytes")
    assert status == 2 and target.read_bytes() == bytes(len(body))
    extract_all([drive], but=["folder/megabytes"])


@pytest.mark.parametrize("flags", [(), ("--no-metadata",)])
def test_holes_are_where_the_lost_block_was(drive, tmp_path, flags):
    body = expected()["many blocks"]
    path, at = find_bytes(drive, body[9 * MIB : 9 * MIB + 4096])
    flip(path, at)
    target = tmp_path / "out"
    status, _, errors = shale("extract", *flags, "-o", target, drive, "bucket/many blocks")
    assert status == 2 and not target.exists()
    assert f"lost: bytes 0 to {64 * MIB - 1} " in errors
    status, _, _ = shale("extract", *flags, "--holes", "-o", target, drive, "bucket/many blocks")
    assert status == 2
    assert target.read_bytes() == bytes(64 * MIB) + body[64 * MIB :]


def test_a_file_takes_its_name_when_it_is_whole(drive, tmp_path):
    status = subprocess.run([str(BINARY), "extract", str(drive), "bucket/folder/megabytes"], cwd=tmp_path).returncode
    assert status == 0
    assert (tmp_path / "megabytes").read_bytes() == expected()["folder/megabytes"]
    assert not (tmp_path / "megabytes.partial").exists()


def test_a_segment_that_is_gone_takes_its_objects_with_it(drive):
    path, _ = find_bytes(drive, expected()["many blocks"][:4096])
    path.unlink()
    status, found, _ = fsck(drive)
    assert status == 2
    assert {"bucket/many blocks", "bucket/folder/megabytes"} <= {lost["object"] for lost in found["lost"]}
    extract_all([drive], but={lost["object"].split("/", 1)[1] for lost in found["lost"]})


def test_without_metadata_the_records_say_whose_they_are(drive):
    shutil.rmtree(drive / "meta")
    status, found, _ = fsck(drive)
    assert status == 2 and "none can be read" in found["metadata"][0]["what"]
    assert found["summary"][0]["lost"] == 0 and found["summary"][0]["blocks"] >= 7
    small = ["empty", "inline", "one block"]
    extract_all([drive], but=small)
    status, out, errors = shale("extract", "-o", "-", drive, "bucket/inline")
    assert (status, out) == (2, b"") and "live in the metadata alone" in errors
    # Two writes of it are there when the first was not collected yet; the newest is not told by a clock.
    status, out, errors = shale("extract", "--list", drive, "bucket/one block")
    assert status == 0
    for line in out.decode().splitlines():
        write_id = line.split("write_id=")[1].split()[0]
        status, out, _ = shale("extract", "--write-id", write_id, "-o", "-", drive, "bucket/one block")
        assert status == 0 and out in (expected()["one block"], content(99, 100_000))


def test_a_lost_block_is_named_by_its_records_too(drive):
    shutil.rmtree(drive / "meta")
    path, at = find_bytes(drive, content(*PARTS[1])[:4096])
    flip(path, at)
    status, found, _ = fsck(drive)
    assert status == 2
    [block] = found["block"]
    assert (block["object"], block["part"], block["file"]) == ("bucket/parts/of it", 2, str(path))
    # The last record of a segment may also be one that a crash cut off.
    assert block["state"] in ("lost", "lost or never finished")


def test_the_metadata_says_what_was_deleted(drive):
    status, out, errors = shale("extract", "-o", "-", drive, "bucket/gone 4")
    assert (status, out) == (2, b"") and "no such object" in errors


def log_segments(drive):
    return sorted((drive / "meta/log").iterdir())


def test_damage_of_the_log_is_told_with_its_place(drive):
    """The store has it all, but what the log said after this place is gone."""
    path = log_segments(drive)[0]
    flip(path, 4096 + 4096 + 100)
    status, found, _ = fsck(drive)
    assert status == 2
    [damage] = found["damage"]
    assert (damage["file"], damage["offset"]) == (str(path), 8192)
    assert "damaged" in found["metadata"][0]["what"]
    extract_all([drive])


def test_a_damaged_identity_leaves_the_records(drive):
    flip(drive / "meta/identity", 20)
    status, found, _ = fsck(drive)
    assert status == 2 and found["damage"][0]["file"] == str(drive / "meta/identity")
    extract_all([drive], but=["empty", "inline", "one block"])


def test_a_damaged_store_is_damage(drive):
    [state] = (drive / "meta/state").iterdir()
    tables = sorted(state.glob("*.sst"))
    assert tables, "a stop flushes the store"
    for table in tables:
        for offset in range(100, table.stat().st_size - 1000, 2000):
            flip(table, offset)
        flip(table, 10)
    status, found, _ = fsck(drive)
    assert status == 2 and any("replica cannot be used" in damage["what"] for damage in found["damage"])


def test_a_damaged_superblock_does_not_stop_it(drive):
    for copy in range(4):
        flip(drive / "superblock", copy * 32768 + 50)
        status, found, errors = fsck(drive)
        assert status == 1, (found, errors)
        assert len(found["damage"]) == copy + 1
    extract_all([drive])


def test_nothing_stays_behind_in_the_temporary_directory(drive, tmp_path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    assert fsck("--tmp", temporary, drive)[0] == 0
    assert shale("extract", "--tmp", temporary, "--list", drive, "bucket/inline")[0] == 0
    process = subprocess.Popen([str(BINARY), "fsck", "--tmp", str(temporary), str(drive)], stdout=subprocess.DEVNULL)
    process.terminate()
    assert process.wait(60) in (0, 3, -15)  # -15: before it took the signal
    assert os.listdir(temporary) == []


def test_too_little_memory_is_said(drive):
    status, _, errors = shale("fsck", "--tmp", drive / "superblock", drive)
    assert status == 3 and "--tmp" in errors


# --- several drives ---


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    try:
        drives = make_drives(tmp_path_factory.mktemp("fsck-three"), 3, Server.stop)
    except NotStarted:
        pytest.skip("no server of three drives")
    status, found, errors = fsck("--no-metadata", *drives)
    assert status == 0, (found, errors)
    return drives


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_two_of_three_drives_have_everything(three, missing):
    rest = [drive for index, drive in enumerate(three) if index != missing]
    named = any((drive / "meta/identity").exists() for drive in rest)
    status, found, errors = fsck(*rest)
    assert status == (1 if named else 2), (found, errors)
    summary = found["summary"][0]
    assert summary["lost"] == summary["objects_lost"] == 0 and summary["degraded"] > 0
    assert found["not_given"][0]["directory"] == str(three[missing])
    if named:
        extract_all(rest)
    extract_all(rest, flags=["--no-metadata"], but=["empty", "inline", "one block"])


def test_three_drives_are_whole(three):
    status, found, errors = fsck(*three)
    assert status == 0, (found, errors)
    assert found["summary"][0]["blocks"] == found["summary"][0]["whole"]


def test_one_of_three_drives_has_lost_something(three):
    status, found, _ = fsck(three[0])
    assert status == 2 and found["summary"][0]["lost"] > 0


def test_damage_on_one_of_three_is_told_and_harmless(three, tmp_path):
    drives = [tmp_path / drive.name for drive in three]
    for source, target in zip(three, drives):
        shutil.copytree(source, target)
    for segment in (drives[1] / "segments").iterdir():
        if segment.stat().st_size > 16384:
            flip(segment, 8192 + 4096 + 10)
    status, found, errors = fsck(*drives)
    assert status == 1, (found, errors)
    assert found["damage"] and found["summary"][0]["lost"] == 0
    assert all(block["state"] == "degraded" for block in found["block"])
    extract_all(drives)
