"""Flipped bits in the files of a stopped server: an error that names the file, or the right bytes; never others."""

import pathlib
import random
import shutil
import subprocess

import pytest

from ledger import GONE, content
from server import NotStarted, Server
from wire import Connection, encode_path, multipart_etag, request

# Text for people, locks and the copy of the credentials: nothing is read from them.
IGNORED_NAMES = ("LOG", "LOCK", "root-credentials")
OBJECTS = {f"object {index}": (index + 1, size) for index, size in enumerate(
    [0, 1, 100, 5000, 16 << 10, (16 << 10) + 1, 65536, 200_000, 1 << 20, 5_000_000]
)}  # fmt: skip
MULTIPART = [(100, 5 << 20), (101, 12345)]
FLIPS_PER_KIND = {"default": 3, "full": 60}


def expected_objects():
    objects = {key: content(*value) for key, value in OBJECTS.items()}
    objects["multipart"] = b"".join(content(*part) for part in MULTIPART)
    return objects


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A stopped server's directory; it was restarted and written to in between, so that every kind of file exists."""
    folder = tmp_path_factory.mktemp("damage")
    drive = folder / "drive"
    drive.mkdir()
    server = Server(drive, folder / "server.log")
    try:
        fill(server)
        server.stop()
    finally:
        server.kill9()
    return drive


def fill(server):
    server.start()
    assert request(server, "PUT", "bucket").status == 200
    objects = list(expected_objects().items())
    with Connection(server) as connection:
        for key, body in objects[:6]:
            assert connection.request("PUT", encode_path("bucket", key), body=body).status == 200
    server.restart()
    with Connection(server) as connection:
        for key, body in objects[6:-1]:
            assert connection.request("PUT", encode_path("bucket", key), body=body).status == 200
        for index in range(20):
            path = encode_path("bucket", f"gone {index}")
            assert connection.request("PUT", path, body=content(500 + index, 3000 * index)).status == 200
            assert connection.request("DELETE", path).status == 204
    put_multipart(server)


def put_multipart(server):
    parts = [content(*part) for part in MULTIPART]
    upload = request(server, "POST", "bucket", "multipart", query=[("uploads", "")]).text("UploadId")
    items = ""
    for number, part in enumerate(parts, 1):
        query = [("partNumber", number), ("uploadId", upload)]
        etag = request(server, "PUT", "bucket", "multipart", query=query, body=part).headers["ETag"]
        items += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()
    answer = request(server, "POST", "bucket", "multipart", query=[("uploadId", upload)], body=body)
    assert answer.text("ETag").strip('"') == multipart_etag(parts)


def kind_of(path):
    """What a file is, by its place: one kind gets the same number of flips as another."""
    if path.suffix in (".sst", ".blob", ".log") or path.name.startswith(("MANIFEST", "CURRENT", "OPTIONS", "IDENTITY")):
        return f"{path.parent.name}/{path.suffix or path.name.split('-')[0]}"
    return path.parent.name if path.parent.name in ("segments", "log") else path.name


def files_by_kind(drive):
    kinds = {}
    for path in sorted(drive.rglob("*")):
        if path.is_file() and path.stat().st_blocks > 0 and not path.name.startswith(IGNORED_NAMES):
            kinds.setdefault(kind_of(path.relative_to(drive)), []).append(path.relative_to(drive))
    return kinds


def written_blocks(path):
    """Offsets of the 4 KiB blocks that hold anything."""
    blocks, zeros = [], bytes(4096)
    with open(path, "rb") as file:
        offset = 0
        while block := file.read(1 << 20):
            for at in range(0, len(block), 4096):
                if block[at : at + 4096] != zeros[: len(block) - at]:
                    blocks.append(offset + at)
            offset += len(block)
    return blocks


def damage(path, generator):
    """Change one byte, or a whole block, of what was written. What was done; None when nothing was written."""
    blocks = written_blocks(path)
    if not blocks:
        return None
    offset = generator.choice(blocks)
    with open(path, "r+b") as file:
        file.seek(offset)
        block = bytearray(file.read(4096))
        if generator.random() < 0.75:
            at = generator.randrange(len(block))
            block[at] ^= 1 << generator.randrange(8)
            what = f"bit flipped at offset {offset + at}"
        else:
            block = bytearray(generator.randbytes(len(block)))
            what = f"block overwritten at offset {offset}"
        file.seek(offset)
        file.write(block)
    return what


def names_damage(log, relative):
    """Whether the log tells which file it is: by its path, or a segment by its number. RocksDB does not say which of
    its files fails a checksum: then the store's folder."""
    if is_rocksdb(relative):
        return f"{relative.parent} " in log or str(relative) in log
    if relative.suffix == ".seg":
        return f"segment={int(relative.stem)}" in log or str(relative) in log
    return str(relative) in log


def is_rocksdb(relative):
    return relative.parent.parent.name in ("index", "state")


def check_reads(server, relative):
    """Each object is right or refused with the file's name in the log; none is missing or other."""
    refused = []
    with Connection(server) as connection:
        listed = connection.request("GET", encode_path("bucket"), [("list-type", "2")])
    if listed.status == 200:
        assert set(listed.all("Contents/Key")) == set(expected_objects()), "the listing changed in silence"
    else:
        refused.append(listed)
    for key, body in expected_objects().items():
        try:
            answer = request(server, "GET", "bucket", key)
        except GONE as error:  # cut off in the middle: a short body that cannot be taken for a whole one
            refused.append(error)
            continue
        if answer.status == 200:
            assert answer.body == body, f"wrong bytes of {key}"
        else:
            assert answer.status in (500, 503), f"{key}: {answer}"
            refused.append(answer)
    if refused:
        assert names_damage(server.log(), relative), f"no line of the log names {relative}: {refused[0]}"


def try_damaged(original, tmp_path, relative, generator):
    drive = tmp_path / "drive"
    shutil.rmtree(drive, ignore_errors=True)
    subprocess.run(["cp", "-a", "--sparse=always", original, drive], check=True)
    what = damage(drive / relative, generator)
    if what is None:
        return
    log = tmp_path / "damaged.log"
    log.unlink(missing_ok=True)
    server = Server(drive, log)
    try:
        try:
            server.start()
        except NotStarted as error:
            assert server.exit_status == 1, f"died: {error}"
            assert names_damage(server.log(), relative), f"no line of the log names {relative}"
            return
        check_reads(server, relative)
    except AssertionError as error:
        text = str(error).split("\n", 1)[0]
        raise AssertionError(f"{relative}, {what}: {text[:400]}\n{server.log()[-1000:]}") from None
    finally:
        server.kill9()


def damage_all(original, tmp_path, count, seed):
    generator = random.Random(seed)
    failures = []
    for files in files_by_kind(original).values():
        for _ in range(count):
            try:
                try_damaged(original, tmp_path, generator.choice(files), generator)
            except AssertionError as error:
                failures.append(str(error))
    assert not failures, f"{len(failures)} failures:\n" + "\n\n".join(failures[:20])


def test_the_undamaged_copy_is_whole(original, tmp_path):
    drive = tmp_path / "drive"
    subprocess.run(["cp", "-a", "--sparse=always", original, drive], check=True)
    server = Server(drive, tmp_path / "server.log").start()
    try:
        check_reads(server, pathlib.Path("no/file/at all"))
    finally:
        server.stop()


def test_flips_in_every_kind_of_file(original, tmp_path):
    kinds = files_by_kind(original)
    assert "segments" in kinds and "log" in kinds, kinds
    damage_all(original, tmp_path, FLIPS_PER_KIND["default"], 10)


@pytest.mark.full
def test_many_flips_in_every_kind_of_file(original, tmp_path):
    damage_all(original, tmp_path, FLIPS_PER_KIND["full"], 11)


@pytest.mark.parametrize("missing", ["meta", "segments"])
def test_missing_folders_are_not_taken_for_empty_ones(original, tmp_path, missing):
    drive = tmp_path / "drive"
    subprocess.run(["cp", "-a", "--sparse=always", original, drive], check=True)
    found = [path for path in pathlib.Path(drive).rglob(missing) if path.is_dir()]
    assert found, f"no folder {missing}"
    shutil.rmtree(found[0])
    server = Server(drive, tmp_path / "server.log")
    try:
        try:
            server.start()
        except NotStarted:
            assert missing in server.log()
            return
        check_reads(server, pathlib.Path("segments/0000000000000001.seg"))
    finally:
        server.kill9()
