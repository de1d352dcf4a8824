"""HTTPS with a private CA: the usual clients, the certificate replaced under load, and hostile handshakes."""

import contextlib
import hashlib
import os
import random
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest
import urllib3

from server import NotStarted, Server
from test_clients import Aws, Boto3, Rclone, S3cmd, curl, sha256_of

HEAD_SECONDS = 10  # the deadline of a handshake and the head behind it
RELOAD_SECONDS_MAX = 10
SIZES = [0, 1, 16384, 16385, 100_000, (1 << 20) - 1, 1 << 20, (5 << 20) + 1, (8 << 20), 20 << 20]


def openssl(*arguments):
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


class Authority:
    """A private CA and the certificates it gives."""

    def __init__(self, folder):
        self.folder = folder
        self.certificate = folder / "ca.pem"
        self.key = folder / "ca-key.pem"
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"),
            *("-subj", "/CN=Test CA", "-keyout", self.key, "-out", self.certificate),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"),
        )

    def give(self, name, serial, kind="ec", days=1):
        """(certificate, key) for 127.0.0.1."""
        certificate, key, request = (self.folder / f"{name}{end}" for end in (".pem", "-key.pem", ".csr"))
        kinds = {"ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "rsa": ["rsa:2048"]}
        extensions = self.folder / "extensions"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n")
        openssl(
            *("req", "-newkey", *kinds[kind], "-nodes", "-subj", "/CN=localhost"),
            *("-keyout", key, "-out", request),
        )
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key, "-days", days),
            *("-set_serial", serial, "-extfile", extensions, "-out", certificate),
        )
        return certificate, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


class HttpsServer(Server):
    """Its files of certificate and key are copies, to be replaced."""

    def __init__(self, folder, authority, pair, flags=()):
        (folder / "drive").mkdir()
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        super().__init__(
            folder / "drive",
            folder / "server.log",
            ["--tls-cert", str(self.certificate), "--tls-key", str(self.key), *flags],
        )
        self.ca = authority.certificate
        self.replace(pair)

    def replace(self, pair):
        for source, target in zip(pair, (self.certificate, self.key)):
            new = target.with_suffix(".new")
            new.write_bytes(source.read_bytes())
            os.replace(new, target)

    def hang_up(self):
        self.process.send_signal(signal.SIGHUP)

    def context(self):
        return ssl.create_default_context(cafile=self.ca)

    def connect(self):
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        return self.context().wrap_socket(plain, server_hostname="127.0.0.1")

    def serial(self):
        with self.connect() as connection:
            return int(connection.getpeercert()["serialNumber"], 16)

    def wait_for_serial(self, serial):
        until = time.monotonic() + RELOAD_SECONDS_MAX
        while self.serial() != serial:
            assert time.monotonic() < until, f"still the old certificate\n{self.log()[-2000:]}"
            time.sleep(0.05)

    def reloads(self, result):
        return self.metrics()[f'shale_tls_reloads_total{{server="s3",result="{result}"}}']

    def wait_for_refusals(self, count):
        until = time.monotonic() + RELOAD_SECONDS_MAX
        while self.reloads("refused") < count:
            assert time.monotonic() < until, self.log()[-2000:]
            time.sleep(0.05)


@pytest.fixture(scope="module")
def https(tmp_path_factory, authority):
    server = HttpsServer(tmp_path_factory.mktemp("https"), authority, authority.give("shared", 1))
    server.start()
    yield server
    try:
        server.stop()
    finally:
        server.kill9()


@pytest.fixture
def new_https(tmp_path, authority):
    made = []

    def make(pair, flags=()):
        made.append(HttpsServer(tmp_path, authority, pair, flags))
        return made[-1]

    yield make
    for one in made:
        one.kill9()


@pytest.mark.parametrize("kind", [Aws, Boto3, S3cmd, Rclone], ids=lambda kind: kind.name)
def test_clients_get_what_they_put_at_all_sizes(kind, https, tmp_path):
    client = kind(https, tmp_path)
    bucket = f"https-{client.name}"
    client.make_bucket(bucket)
    noise = random.Random(3).randbytes(20 << 20)
    # The programs start anew for each call, so they get some of the sizes.
    sizes = SIZES if kind is Boto3 else [0, 16385, 20 << 20]
    for size in sizes:
        path, back = tmp_path / "object", tmp_path / "back"
        path.write_bytes(noise[:size])
        client.put(path, bucket, f"folder/{size}")
        client.get(bucket, f"folder/{size}", back)
        assert sha256_of(back) == hashlib.sha256(noise[:size]).hexdigest(), size
    assert client.keys(bucket) == {f"folder/{size}" for size in sizes}
    url = client.presign_get(bucket, "folder/16385")
    assert url.startswith("https://")
    status, _ = curl(url, "--cacert", https.ca, "-o", tmp_path / "presigned")
    assert status == 200
    assert (tmp_path / "presigned").read_bytes() == noise[:16385]
    client.remove_bucket(bucket)


def test_presigned_put_multipart_and_ranges(https, tmp_path):
    s3 = https.client()
    s3.create_bucket(Bucket="direct")
    noise = random.Random(4).randbytes(11 << 20)
    (tmp_path / "file").write_bytes(noise)
    url = s3.generate_presigned_url("put_object", Params={"Bucket": "direct", "Key": "put"})
    assert curl(url, "--cacert", https.ca, "-T", tmp_path / "file")[0] == 200
    assert s3.get_object(Bucket="direct", Key="put")["Body"].read() == noise
    upload = {"Bucket": "direct", "Key": "parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    parts = []
    for number, start in enumerate(range(0, len(noise), 5 << 20), 1):
        part = s3.upload_part(**upload, PartNumber=number, Body=noise[start : start + (5 << 20)])
        parts.append({"PartNumber": number, "ETag": part["ETag"]})
    done = s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    assert done["Location"].startswith(f"https://127.0.0.1:{https.port}/")
    assert s3.get_object(Bucket="direct", Key="parts")["Body"].read() == noise
    ranged = s3.get_object(Bucket="direct", Key="parts", Range="bytes=5242870-9000000")
    assert ranged["Body"].read() == noise[5242870:9000001]


def test_boto3_sends_an_unsigned_trailer(https):
    s3 = https.client()
    s3.create_bucket(Bucket="trailer")
    sent = []
    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_: sent.append(dict(request.headers)))
    s3.put_object(Bucket="trailer", Key="key", Body=b"x" * 100_000)
    assert sent[0]["X-Amz-Content-SHA256"] in (b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
    assert s3.get_object(Bucket="trailer", Key="key")["Body"].read() == b"x" * 100_000


class Load:
    """Threads that put and get, half of them over connections of their own for each request."""

    def __init__(self, server, threads):
        self.server = server
        self.count = 0
        self.errors = []
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]

    def _run(self, number):
        try:
            s3 = self.server.client()
            body = random.Random(number).randbytes(200_000)
            while not self.ending.is_set():
                if number % 2:
                    s3.close()
                    s3 = self.server.client()
                s3.put_object(Bucket="load", Key=f"key-{number}", Body=body)
                assert s3.get_object(Bucket="load", Key=f"key-{number}")["Body"].read() == body
                self.count += 1
        except Exception as error:  # whatever it is, the request failed
            self.errors.append(repr(error))

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join()


def test_the_certificate_is_replaced_under_load(new_https, authority):
    pairs = {serial: authority.give(f"load-{serial}", serial, "rsa" if serial % 2 else "ec") for serial in range(2, 8)}
    server = new_https(pairs[2]).start()
    server.client().create_bucket(Bucket="load")
    context = server.context()
    pool = urllib3.HTTPSConnectionPool("127.0.0.1", server.port, maxsize=1, ssl_context=context, retries=False)
    pool.request("GET", "/")
    with server.connect() as kept, Load(server, 6) as load:
        for serial in range(3, 8):
            before = load.count
            server.replace(pairs[serial])
            if serial % 2:
                server.hang_up()
            server.wait_for_serial(serial)
            pool.request("GET", "/")
            while load.count < before + 12 and not load.errors:
                time.sleep(0.01)
        kept.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 403 ")
    assert load.errors == []
    assert pool.num_connections == 1, "the open connection must go on"
    assert server.reloads("taken") == 5
    server.stop()


def test_a_bad_pair_keeps_the_old_one(new_https, authority):
    one, two, three = (authority.give(f"bad-{serial}", serial) for serial in (21, 22, 23))
    encrypted = authority.folder / "encrypted-key.pem"
    openssl("pkey", "-in", two[1], "-aes128", "-passout", "pass:secret", "-out", encrypted)
    garbage = authority.folder / "garbage.pem"
    garbage.write_text("garbage")
    server = new_https(one).start()
    bad = [(two[0], one[1]), (two[0], encrypted), (garbage, two[1]), (two[0], garbage)]
    for count, pair in enumerate(bad, 1):
        server.replace(pair)
        if count % 2:
            server.hang_up()
        server.wait_for_refusals(count)
        assert server.serial() == 21
    server.key.unlink()
    server.wait_for_refusals(len(bad) + 1)
    assert server.serial() == 21
    log = server.log()
    for reason in ("does not belong to the certificate", "is encrypted", "holds no chain", "holds no private key"):
        assert reason in log
    server.replace(three)
    server.wait_for_serial(23)
    expiry = server.metrics()['shale_tls_certificate_expiry_seconds{server="s3"}']
    assert 0 < expiry - time.time() <= 24 * 3600
    server.stop()


def test_a_bad_start_says_why(tmp_path, authority):
    good = authority.give("start", 31)
    other = authority.give("other", 32)
    (tmp_path / "drive").mkdir()
    cases = [
        (["--tls-cert", good[0]], "go together"),
        (["--tls-cert", good[0], "--tls-key", other[1]], "does not belong"),
        (["--tls-cert", good[0], "--tls-key", tmp_path / "missing"], "cannot be read"),
        (["--tls-cert", tmp_path, "--tls-key", good[1]], "cannot be read"),
    ]
    for flags, reason in cases:
        server = Server(tmp_path / "drive", tmp_path / "server.log", list(map(str, flags)))
        with pytest.raises(NotStarted):
            server.start()
        assert reason in server.log(), flags
        assert server.exit_status in (1, 2)


def test_an_expired_certificate_warns(new_https, authority):
    server = new_https(authority.give("expired", 41, days=-1)).start()
    assert "the certificate has expired" in server.log()
    with pytest.raises(ssl.SSLCertVerificationError):
        server.connect()
    server.stop()


def test_plain_http_is_told_and_closed(https):
    for text in (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PUT /b/k HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789"):
        with socket.create_connection(("127.0.0.1", https.port), timeout=30) as plain:
            plain.sendall(text)
            answer = b"".join(iter(lambda: plain.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 400 ") and b"HTTPS only" in answer
    with socket.create_connection(("127.0.0.1", https.port), timeout=30) as plain:
        plain.sendall(os.urandom(500).replace(b"\x16", b"\x17"))
        with contextlib.suppress(ConnectionResetError):
            while plain.recv(65536):
                pass
    assert https.is_ready()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_old_versions_are_refused(https):
    for version, name in ((ssl.TLSVersion.TLSv1_1, None), (ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        context = https.context()
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with socket.create_connection(("127.0.0.1", https.port), timeout=30) as plain:
            if name is None:
                with pytest.raises((ssl.SSLError, ConnectionResetError)):
                    context.wrap_socket(plain, server_hostname="127.0.0.1")
                continue
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                assert connection.selected_alpn_protocol() == "http/1.1"
                assert connection.version() == name


def processor_seconds(server):
    user, system = open(f"/proc/{server.pid}/stat").read().rsplit(") ", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def test_slow_handshakes_end_at_the_deadline_and_disturb_nobody(https):
    hello = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = https.context().wrap_bio(*hello, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        handshake.do_handshake()
    text = hello[1].read()
    start = time.monotonic()
    halves = []
    for index in range(60):
        half = socket.create_connection(("127.0.0.1", https.port), timeout=30)
        # Nothing, a part of the ClientHello, all of it and no answer to the server's part.
        half.sendall(text[: [0, 7, 100, len(text)][index % 4]])
        halves.append(half)
    s3 = https.client()
    s3.list_buckets()
    worst = 0
    before = processor_seconds(https)
    for _ in range(20):
        began = time.monotonic()
        s3.list_buckets()
        worst = max(worst, time.monotonic() - began)
        time.sleep(0.1)
    busy = processor_seconds(https) - before
    assert worst < 2, f"a request took {worst:.2f} s beside stalled handshakes"
    assert busy < 1, f"{busy:.2f} s of processor time in 2 s with nothing to do"
    halves[1].sendall(text[7:8])  # a trickle gains no time
    for half in halves:
        with contextlib.suppress(ConnectionResetError):
            while half.recv(65536):
                pass
        half.close()
    took = time.monotonic() - start
    assert HEAD_SECONDS - 1 < took < HEAD_SECONDS + 8


def test_stopping_drains_what_runs(new_https, authority):
    server = new_https(authority.give("drain", 51)).start()
    s3 = server.client()
    s3.create_bucket(Bucket="drain")
    body = random.Random(5).randbytes(20 << 20)
    s3.put_object(Bucket="drain", Key="key", Body=body)
    stream = s3.get_object(Bucket="drain", Key="key")["Body"]
    first = stream.read(1 << 20)
    with server.connect() as idle:
        expected = threading.Thread(target=server.stop)
        expected.start()
        time.sleep(0.3)
        assert first + stream.read() == body
        with contextlib.suppress(ConnectionResetError, ssl.SSLError):
            assert idle.recv(1) == b""
        expected.join()
    assert server.process is None


def test_memory_per_connection_is_bounded(https):
    https.client().list_buckets()
    before = https.status_kib("VmRSS")
    connections = [https.connect() for _ in range(300)]
    for connection in connections:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for connection in connections:
        assert connection.recv(12) == b"HTTP/1.1 403"
    used = (https.status_kib("VmRSS") - before) / 300
    for connection in connections:
        connection.close()
    assert used < 160, f"{used:.0f} KiB a connection"
