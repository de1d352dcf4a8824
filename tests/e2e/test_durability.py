"""What the device saw: a flush behind each step of an acknowledged write, and nothing lost when the power goes."""

import random
import time

import pytest

from ledger import Crowd
from server import Server
from wire import Connection, encode_path, request

DISK_MIB = 4096


@pytest.fixture
def standing(loop_disk, tmp_path):
    """(disk, server on it)."""
    disk = loop_disk(DISK_MIB)
    drive = disk.mount_point / "drive"
    drive.mkdir()
    server = Server(drive, tmp_path / "server.log")
    yield disk, server
    server.kill9()


def quiet_flushes(disk):
    """The counter once background writing has come to rest."""
    before = disk.flushes()
    for _ in range(50):
        time.sleep(0.2)
        now = disk.flushes()
        if now == before:
            return now
        before = now
    return before


@pytest.mark.parametrize(
    "size,flushes_min", [(100, 1), (16 << 10, 1), ((16 << 10) + 1, 2), (1 << 20, 2), (70 << 20, 3)]
)
def test_an_acknowledged_put_was_flushed(standing, size, flushes_min):
    disk, server = standing
    server.start()
    assert request(server, "PUT", "bucket").status == 200
    body = random.Random(8).randbytes(size)
    with Connection(server, timeout=120) as connection:
        connection.request("PUT", encode_path("bucket", "warm"), body=body)
        for index in range(5):
            before = quiet_flushes(disk) if index == 0 else disk.flushes()
            assert connection.request("PUT", encode_path("bucket", f"k{index}"), body=body).status == 200
            seen = disk.flushes() - before
            assert seen >= flushes_min, f"put {index} of {size} bytes: {seen} flushes"
        before = disk.flushes()
        assert connection.request("DELETE", encode_path("bucket", "k0")).status == 204
        assert disk.flushes() - before >= 1, "an acknowledged delete"


def cut_and_check(disk, server, crowd, load_seconds):
    crowd.begin()
    time.sleep(load_seconds)
    disk.cut_power()
    time.sleep(0.2)  # requests that fail now are no acknowledgements
    server.kill9()
    crowd.end()
    disk.unmount()
    disk.mount()
    server.start()
    crowd.check()
    return crowd.acknowledged


def cut_many_times(disk, server, cycles):
    server.start()
    assert request(server, "PUT", "power").status == 200
    crowd = Crowd(server, "power", 8)
    moments = random.Random(9)
    for _ in range(cycles):
        cut_and_check(disk, server, crowd, moments.uniform(0.2, 1.5))
    assert crowd.acknowledged > 10 * cycles, "too little was written to show anything"
    server.stop()


def test_three_power_cuts(standing):
    cut_many_times(*standing, 3)


@pytest.mark.full
def test_fifty_power_cuts(standing):
    cut_many_times(*standing, 50)


def test_a_device_that_fails_is_not_written_on(standing):
    """After the first failed write: no more acknowledgements, until a restart on a device that works."""
    disk, server = standing
    server.start()
    assert request(server, "PUT", "bucket").status == 200
    assert request(server, "PUT", "bucket", "before", body=b"x" * 100000).status == 200
    disk.cut_power()
    for size in (100, 100000):
        answer = request(server, "PUT", "bucket", f"after-{size}", body=b"y" * size)
        assert answer.status in (500, 503), answer
    assert request(server, "PUT", "bucket", "after-all", body=b"y").status in (500, 503)
    server.kill9()
    disk.unmount()
    disk.mount()
    server.start()
    assert request(server, "GET", "bucket", "before").body == b"x" * 100000
    # Not acknowledged: either there, whole, or not.
    for size in (100, 100000):
        answer = request(server, "GET", "bucket", f"after-{size}")
        assert answer.status == 404 or answer.body == b"y" * size
    server.stop()
