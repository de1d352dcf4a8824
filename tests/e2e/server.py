"""One `shale server` process of the release build, and the disks it may stand on."""

import contextlib
import fcntl
import os
import pathlib
import re
import signal
import struct
import subprocess
import time
import urllib.error
import urllib.request

import boto3
import botocore.config

import wire

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SHALE_BINARY", ROOT / "build/release/shale"))
ACCESS_KEY = "e2e-access-key"
SECRET_KEY = "e2e-secret-key-0123456789"
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 40


class NotStarted(Exception):
    """The process ended before it was ready; the text is its log."""


class Server:
    """Life: start -> (stop | kill9) -> start again on the same directory and ports."""

    made = []  # all of this process, for the report of a failure

    def __init__(self, directory, log, flags=()):
        self.directories = [directory] if isinstance(directory, (str, pathlib.Path)) else list(directory)
        self.log_path = pathlib.Path(log)
        self.flags = list(flags)
        self.scheme = "http"
        self.ca = None  # the certificate that clients trust, with HTTPS
        self.port = 0
        self.admin_port = 0
        self.process = None
        self.exit_status = None
        self.signer = wire.Signer(ACCESS_KEY, SECRET_KEY)
        Server.made.append(self)

    def start(self, ready=True):
        """Returns when /health/ready says so; without `ready`, when the S3 port is open. NotStarted: it ended by itself."""
        assert self.process is None
        command = [str(BINARY), "server", *map(str, self.directories)]
        command += ["--address", f"127.0.0.1:{self.port}", "--admin-address", f"127.0.0.1:{self.admin_port}"]
        environment = {n: v for n, v in os.environ.items() if not n.startswith("SHALE_")}
        environment |= {"SHALE_ROOT_USER": ACCESS_KEY, "SHALE_ROOT_PASSWORD": SECRET_KEY}
        out_path = self.log_path.with_suffix(".out")
        with open(self.log_path, "ab") as log, open(out_path, "wb") as out:
            self.process = subprocess.Popen(command + self.flags, stdout=out, stderr=log, env=environment)
        try:
            self._wait_for_lines(out_path, ready)
        except BaseException:
            self.kill9()
            raise
        return self

    def _wait_for_lines(self, out_path, ready):
        until = time.monotonic() + START_SECONDS_MAX
        while "ready\n" not in (text := out_path.read_text()):
            if (status := self.process.poll()) is not None:
                self.exit_status = status
                self.process = None
                raise NotStarted(f"exit status {status}\n{self.log()[-4000:]}")
            if time.monotonic() > until:
                raise TimeoutError(f"not ready after {START_SECONDS_MAX} s:\n{text}\n{self.log()[-4000:]}")
            time.sleep(0.005)
        self.scheme, port = re.search(r"^s3: (https?)://127\.0\.0\.1:(\d+)$", text, re.M).groups()
        self.port = int(port)
        self.admin_port = int(re.search(r"^admin: http://127\.0\.0\.1:(\d+)$", text, re.M)[1])
        while ready and not self.is_ready():
            assert time.monotonic() < until, "printed ready, but /health/ready does not say so"
            time.sleep(0.005)

    def stop(self):
        """SIGTERM: it must drain and end with 0."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(STOP_SECONDS_MAX)
        self.process = None
        assert status == 0, f"exit status {status} after SIGTERM\n{self.log()[-4000:]}"

    def kill9(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self):
        self.stop()
        return self.start()

    @property
    def pid(self):
        return self.process.pid

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def admin(self, path, method="GET"):
        """Status and text of the admin listener."""
        call = urllib.request.Request(f"http://127.0.0.1:{self.admin_port}{path}", method=method)
        try:
            with urllib.request.urlopen(call, timeout=10) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def is_ready(self):
        try:
            return self.admin("/health/ready")[0] == 200
        except OSError:
            return False

    def metrics(self):
        """{name, with labels as printed: value}."""
        lines = self.admin("/metrics")[1].splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and line[0] != "#"}

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def status_kib(self, field):
        """A line of /proc/PID/status in KiB, such as VmHWM."""
        text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(rf"^{field}:\s+(\d+) kB$", text, re.M)[1])

    def descriptors(self):
        """(sockets, other descriptors) that the process has open."""
        sockets = others = 0
        for entry in pathlib.Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(entry).startswith("socket:"):
                    sockets += 1
                else:
                    others += 1
        return sockets, others

    def client(self, **config):
        """boto3 at its defaults; retries off, so that an error is seen and not repeated away."""
        config = {"retries": {"total_max_attempts": 1}, "read_timeout": 120} | config
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=botocore.config.Config(**config),
            verify=None if self.ca is None else str(self.ca),
        )


class LoopDisk:
    """A file system of its own in a file: for full disks, power cuts and the device's flush counter. Needs root."""

    EXT4_IOC_SHUTDOWN = 0x8004587D
    NO_LOG_FLUSH = 2

    def __init__(self, folder, size_mib):
        self.image = pathlib.Path(folder) / "disk.img"
        self.mount_point = pathlib.Path(folder) / "mnt"
        self.mount_point.mkdir(parents=True)
        with open(self.image, "wb") as image:
            image.truncate(size_mib << 20)
        self.device = None
        run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image)
        self.device = run("losetup", "--find", "--show", self.image)
        self.mount()

    def mount(self):
        run("mount", "-t", "ext4", self.device, self.mount_point)

    def unmount(self):
        # A process that was just killed may keep it busy for a moment.
        assert wire.eventually(lambda: try_run("umount", self.mount_point), seconds=20), "umount"

    def close(self):
        with contextlib.suppress(Exception):
            self.unmount()
        if self.device is not None:
            try_run("losetup", "--detach", self.device)
        self.image.unlink(missing_ok=True)

    def flushes(self):
        """Flush requests completed (Documentation/block/stat.rst, the 16th field)."""
        name = pathlib.Path(self.device).name
        return int(pathlib.Path(f"/sys/block/{name}/stat").read_text().split()[15])

    def cut_power(self):
        """From here on nothing reaches the device, not even the file system's own log."""
        descriptor = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, self.EXT4_IOC_SHUTDOWN, struct.pack("I", self.NO_LOG_FLUSH))
        finally:
            os.close(descriptor)


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def try_run(*command):
    return subprocess.run(list(map(str, command)), capture_output=True).returncode == 0


def loop_disks_missing():
    """Why a LoopDisk cannot be made here; None when it can."""
    if os.geteuid() != 0:
        return "loop mounts need root"
    if not os.path.exists("/dev/loop-control"):
        return "no loop devices"
    return None
