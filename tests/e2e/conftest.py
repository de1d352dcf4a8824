"""One shared server for all tests that do not break it; others make their own by `new_server`."""

import itertools
import random

import pytest

from server import LoopDisk, Server, loop_disks_missing

DOMAIN = "s3.shale.test"

_bucket_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    shared = Server(folder / "drive", folder / "server.log", ["--domain", DOMAIN])
    shared.directories[0].mkdir()
    shared.start()
    yield shared
    try:
        shared.stop()
    finally:
        shared.kill9()


@pytest.fixture
def new_server(tmp_path):
    """Makes servers that end with the test: new_server(directory=None, flags=())."""
    made = []

    def make(directory=None, flags=()):
        number = len(made)
        if directory is None:
            directory = tmp_path / f"drive-{number}"
            directory.mkdir()
        made.append(Server(directory, tmp_path / f"server-{number}.log", flags))
        return made[-1]

    yield make
    for one in made:
        one.kill9()


@pytest.fixture
def loop_disk(tmp_path):
    """Makes loop-mounted ext4 disks: loop_disk(size_mib)."""
    if why := loop_disks_missing():
        pytest.skip(why)
    made = []

    def make(size_mib):
        made.append(LoopDisk(tmp_path / f"disk-{len(made)}", size_mib))
        return made[-1]

    yield make
    for disk in made:
        disk.close()


@pytest.fixture(scope="session")
def s3(server):
    return server.client()


@pytest.fixture
def bucket(s3):
    name = f"bucket-{next(_bucket_numbers)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def noise():
    """8 MiB that do not compress; slices of it are test data."""
    return random.Random(1).randbytes(8 << 20)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for one in Server.made[-2:]:
            report.sections.append((f"log of {one.log_path}", one.log()[-6000:]))
