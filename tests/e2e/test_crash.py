"""kill -9 at random moments under load: what was acknowledged is there, the rest is old or new, never else."""

import random
import subprocess
import time

import pytest

from ledger import Crowd
from server import BINARY
from wire import request

WORKER_COUNT = 8


def crash_and_check(server, crowd, load_seconds):
    before = crowd.acknowledged
    crowd.begin()
    time.sleep(load_seconds)
    server.kill9()
    crowd.end()
    assert not crowd.errors, crowd.errors[0]
    server.start()
    crowd.check()
    return crowd.acknowledged - before


def crash_many_times(server, cycles):
    server.start()
    assert request(server, "PUT", "crash").status == 200
    crowd = Crowd(server, "crash", WORKER_COUNT)
    moments = random.Random(6)
    for _ in range(cycles):
        crash_and_check(server, crowd, moments.uniform(0.05, 0.6))
    assert crowd.acknowledged > 10 * cycles, "too little was written to show anything"
    server.restart()
    crowd.check()
    server.stop()


def test_twenty_crashes_in_a_row(new_server):
    crash_many_times(new_server(), 20)


@pytest.mark.full
def test_two_hundred_crashes_in_a_row(new_server):
    crash_many_times(new_server(), 200)


def test_killed_while_it_starts(new_server):
    """A start that is cut off leaves a directory that the next one completes."""
    server = new_server()
    moments = random.Random(7)
    for _ in range(8):
        process = subprocess.Popen(
            [BINARY, "server", server.directories[0], "--address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.wait()
    server.start()
    assert request(server, "PUT", "bucket").status == 200
    assert request(server, "PUT", "bucket", "k", body=b"x" * 100000).status == 200
    server.kill9()
    server.start()
    assert request(server, "GET", "bucket", "k").body == b"x" * 100000
    server.stop()


def test_space_of_unfinished_writes_comes_back(new_server):
    """Blocks that no entry names are collected after the restart; what is named stays."""
    server = new_server().start()
    assert request(server, "PUT", "bucket").status == 200
    crowd = Crowd(server, "bucket", 4)
    crash_and_check(server, crowd, 1.0)
    crowd.begin()
    time.sleep(1)
    crowd.end()
    assert not crowd.errors, crowd.errors[0]
    crowd.check()
    server.stop()
