"""Clients that break off, lie, stall and smuggle: the right error, no half-written object, nothing left behind."""

import datetime
import hashlib
import time

import pytest

import wire
from server import Server
from test_operations import delete_many, put_in_chunks
from wire import Connection, encode_path, request

MIB = 1 << 20
# Bytes of a refused body that the server still reads to keep the connection: EXCHANGE_DRAIN_BYTES_MAX and what a
# socket buffers; above it the connection must close.
DRAIN_BYTES_SURELY_TOO_MANY = 256 * MIB


class Baseline:
    """Descriptors, fibers and pool bytes of a server at rest; they must come back."""

    GAUGES = ("shale_fibers", "shale_pool_used_bytes")
    OTHER_DESCRIPTORS_MORE = 24  # files of the store and segments come and go

    def __init__(self, server):
        self.server = server
        self.before = self.now()

    def now(self):
        time.sleep(0.2)  # the connection of the last look at the metrics is no part of it
        sockets, others = self.server.descriptors()
        metrics = self.server.metrics()
        return {"sockets": sockets, "others": others} | {name: metrics[name] for name in self.GAUGES}

    def has_returned(self):
        now = self.now()
        return now["others"] <= self.before["others"] + self.OTHER_DESCRIPTORS_MORE and all(
            now[name] <= self.before[name] for name in ("sockets", *self.GAUGES)
        )

    def check(self, seconds=20):
        assert wire.eventually(self.has_returned, seconds), f"before {self.before}, now {self.now()}"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A server of its own, so that the baseline is not another test's; it must be as before at the end."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "drive").mkdir()
    server = Server(folder / "drive", folder / "server.log").start()
    assert request(server, "PUT", "bucket").status == 200
    noise = hashlib.sha256(b"noise").digest() * (4 * MIB // 32)
    assert request(server, "PUT", "bucket", "large", body=noise, payload=wire.UNSIGNED).status == 200
    assert request(server, "GET", "bucket", "large").body == noise
    baseline = Baseline(server)
    yield server
    try:
        baseline.check()
        assert request(server, "GET", "bucket", "large").body == noise
        server.stop()
    finally:
        server.kill9()


@pytest.fixture(autouse=True)
def alive_and_clean(hostile):
    """After each test the server answers, and no object of the test is visible."""
    yield
    assert hostile.process.poll() is None, "the server died"
    listed = request(hostile, "GET", "bucket", query=[("list-type", "2")])
    assert listed.all("Contents/Key") == ["large"]


def put_head(connection, length, key="k", **headers):
    names = {"content-length": str(length)} | headers
    return connection.signed_head("PUT", encode_path("bucket", key), headers=names)[0]


# Breaking off


@pytest.mark.parametrize("sent", [0, 1, 10000, 70000, 3 * MIB])
@pytest.mark.parametrize("how", ["close", "reset", "shutdown"])
def test_leaves_in_the_middle_of_a_body(hostile, how, sent):
    baseline = Baseline(hostile)
    connection = Connection(hostile)
    connection.send(put_head(connection, 5 * MIB) + bytes(sent))
    time.sleep(0.05)
    if how == "shutdown":
        connection.socket.shutdown(1)
        answer = connection.read_answer_if_any("PUT")
        assert answer is None or answer.code == "IncompleteBody", answer
        connection.close()
    elif how == "reset":
        connection.reset()
    else:
        connection.close()
    baseline.check()


def test_leaves_in_the_middle_of_a_head(hostile):
    baseline = Baseline(hostile)
    for part in (b"", b"G", b"GET / HT", b"GET / HTTP/1.1\r\nHost", b"GET / HTTP/1.1\r\nHost: x\r\n"):
        connection = Connection(hostile)
        connection.send(part)
        connection.close()
        connection = Connection(hostile)
        connection.send(part)
        connection.reset()
    baseline.check()


def test_leaves_while_an_answer_is_sent(hostile):
    baseline = Baseline(hostile)
    for read in (0, 1000, MIB):
        connection = Connection(hostile)
        connection.send(connection.signed_head("GET", encode_path("bucket", "large"))[0])
        left = read
        while left > 0:
            left -= len(connection.reader.file.read(min(left, 65536)))
        connection.reset()
    baseline.check()


def test_leaves_a_multipart_part(hostile):
    baseline = Baseline(hostile)
    upload = request(hostile, "POST", "bucket", "m", query=[("uploads", "")]).text("UploadId")
    query = [("partNumber", 1), ("uploadId", upload)]
    connection = Connection(hostile)
    head, _ = connection.signed_head("PUT", encode_path("bucket", "m"), query, {"content-length": str(5 * MIB)})
    connection.send(head + bytes(2 * MIB))
    connection.reset()
    baseline.check()
    listed = request(hostile, "GET", "bucket", "m", query=[("uploadId", upload)])
    assert listed.all("Part") == []
    assert request(hostile, "DELETE", "bucket", "m", query=[("uploadId", upload)]).status == 204


def test_many_that_leave_at_once(hostile):
    baseline = Baseline(hostile)
    connections = [Connection(hostile) for _ in range(60)]
    for connection in connections:
        connection.send(put_head(connection, MIB) + bytes(200000))
    for connection in connections:
        connection.reset()
    baseline.check()


def test_a_client_that_half_closes_is_let_go(hostile):
    """Its FIN may arrive in one event with the request: nothing comes after it, so nothing may be waited for."""
    lingering = 0
    for _ in range(20):
        with Connection(hostile) as connection:
            connection.send(connection.signed_head("GET", encode_path("bucket", "none"))[0])
            connection.socket.shutdown(1)
            assert connection.read_answer_if_any() is not None
            lingering += not connection.is_closed(2)
    assert lingering == 0, f"{lingering} of 20"


# Stalling


def test_reads_nothing_of_an_answer(hostile):
    """The server may wait for a slow reader, but must not hold more than its window for it."""
    connections = [Connection(hostile) for _ in range(8)]
    for connection in connections:
        connection.send(connection.signed_head("GET", encode_path("bucket", "large"))[0])
    time.sleep(1)
    assert request(hostile, "GET", "bucket").status == 200
    assert hostile.metrics()["shale_pool_used_bytes"] <= 8 * 4 * MIB
    for connection in connections:
        connection.reset()


def test_trickles_a_body(hostile):
    body = b"0123456789" * 4
    with Connection(hostile) as connection:
        connection.send(put_head(connection, len(body), "slow"))
        for byte in body:
            connection.send(bytes([byte]))
            time.sleep(0.02)
        assert connection.read_answer("PUT").status == 200
    assert request(hostile, "GET", "bucket", "slow").body == body
    assert request(hostile, "DELETE", "bucket", "slow").status == 204


def test_trickles_a_head(hostile):
    with Connection(hostile) as connection:
        head, _ = connection.signed_head("GET", encode_path("bucket"))
        for at in range(0, len(head), 7):
            connection.send(head[at : at + 7])
            time.sleep(0.005)
        assert connection.read_answer().status == 200


@pytest.mark.full
def test_a_head_that_never_ends_is_cut_off(hostile):
    with Connection(hostile, timeout=30) as connection:
        started = time.monotonic()
        connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        assert connection.is_closed(25)
        assert 5 < time.monotonic() - started < 20


@pytest.mark.full
def test_a_body_that_stalls_is_cut_off(hostile):
    with Connection(hostile, timeout=90) as connection:
        connection.send(put_head(connection, MIB) + bytes(1000))
        answer = connection.read_answer("PUT")
        assert (answer.status, answer.code) == (400, "RequestTimeout")
        assert connection.is_closed()


# Bodies that are not what they say


def test_sends_more_than_it_said(hostile):
    """What follows the body is the next request, and that is no HTTP."""
    with Connection(hostile) as connection:
        connection.send(put_head(connection, 4, "said") + b"body" + b"and more that is none\r\n\r\n")
        assert connection.read_answer("PUT").status == 200
        answer = connection.read_answer_if_any()
        assert answer is None or answer.status in (400, 405, 501, 505), answer
        assert connection.is_closed()
    assert request(hostile, "GET", "bucket", "said").body == b"body"
    request(hostile, "DELETE", "bucket", "said")


def test_payload_hash_is_wrong(hostile):
    for size in (4, 100000):
        body = bytes(size)
        with Connection(hostile) as connection:
            answer = connection.request("PUT", encode_path("bucket", "k"), body=body, payload="0" * 64)
            assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
            assert connection.request("GET", encode_path("bucket")).status == 200, "the connection is still good"


CRC = "x-amz-checksum-crc32"
GOOD = [(CRC, wire.checksum("CRC32", b"a" * 70000 + b"b" * 70000))]
PIECES = [b"a" * 70000, b"b" * 70000]
CHUNK_LIES = {
    "first chunk's signature": (dict(mode=wire.CHUNKS_SIGNED, spoil=0), 403, "SignatureDoesNotMatch"),
    "second chunk's signature": (dict(mode=wire.CHUNKS_SIGNED, spoil=1), 403, "SignatureDoesNotMatch"),
    "last chunk's signature": (dict(mode=wire.CHUNKS_SIGNED, spoil=2), 403, "SignatureDoesNotMatch"),
    "trailer's signature": (
        dict(mode=wire.CHUNKS_SIGNED_TRAILER, trailer=GOOD, spoil="trailer"), 403, "SignatureDoesNotMatch"),
    "decoded length too short": (dict(mode=wire.CHUNKS_SIGNED, decoded=139999), 400, "IncompleteBody"),
    "decoded length too long": (dict(mode=wire.CHUNKS_SIGNED, decoded=140001), 400, "IncompleteBody"),
    "unsigned, decoded length too short": (
        dict(mode=wire.CHUNKS_UNSIGNED_TRAILER, trailer=GOOD, decoded=1), 400, "IncompleteBody"),
    "unsigned, checksum wrong": (
        dict(mode=wire.CHUNKS_UNSIGNED_TRAILER, trailer=[(CRC, "AAAAAA==")]), 400, "BadDigest"),
    "unsigned, checksum malformed": (
        dict(mode=wire.CHUNKS_UNSIGNED_TRAILER, trailer=[(CRC, "A")]), 400, "InvalidRequest"),
}  # fmt: skip


@pytest.mark.parametrize("case", CHUNK_LIES)
def test_chunks_that_lie(hostile, case):
    named, status, code = CHUNK_LIES[case]
    answer = put_in_chunks(hostile, "bucket", "k", PIECES, **named)
    assert (answer.status, answer.code) == (status, code), answer


RAW_CHUNKS = {
    "no hexadecimal size": b"zz\r\nabc\r\n0\r\n\r\n",
    "size of 17 digits": b"00000000000000003\r\nabc\r\n0\r\n\r\n",
    "size that overflows": b"ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "no CRLF after the chunk": b"3\r\nabcXX0\r\n\r\n",
    "ends in the middle": b"5\r\nabc",
    "ends before the last chunk": b"3\r\nabc\r\n",
    "endless chunk line": b"3;" + b"x" * 5000 + b"\r\nabc\r\n0\r\n\r\n",
    "trailer that was not announced": b"3\r\nabc\r\n0\r\nx-amz-checksum-sha1:AAAA\r\n\r\n",
    "announced trailer missing": b"3\r\nabc\r\n0\r\n\r\n",
    "bytes behind the end": b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\nmore",
    "endless trailer": b"3\r\nabc\r\n0\r\n" + b"x-amz-checksum-crc32:" + b"A" * 9000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("case", RAW_CHUNKS)
def test_malformed_chunks(hostile, case):
    body = RAW_CHUNKS[case]
    headers = {"content-encoding": "aws-chunked", "x-amz-trailer": CRC, "content-length": str(len(body))}
    headers["x-amz-decoded-content-length"] = "3"
    with Connection(hostile) as connection:
        answer = connection.request(
            "PUT", encode_path("bucket", "k"), (), headers, [body], wire.CHUNKS_UNSIGNED_TRAILER
        )
        assert answer.status in (400, 403) and answer.code in (
            "InvalidChunkSizeError", "IncompleteBody", "MalformedTrailerError", "InvalidRequest", "EntityTooLarge",
            "InvalidArgument"), answer  # fmt: skip


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"-1\r\nabc\r\n0\r\n\r\n", b"5\r\nabc\r\n0\r\n\r\n", b"ffffffffffffffff1\r\n"]
)
def test_malformed_transfer_coding(hostile, body):
    headers = {"transfer-encoding": "chunked", "x-amz-trailer": CRC, "x-amz-decoded-content-length": "3"}
    with Connection(hostile) as connection:
        head, _ = connection.signed_head(
            "PUT", encode_path("bucket", "k"), (), headers, wire.CHUNKS_UNSIGNED_TRAILER
        )
        connection.send(head + body)
        connection.socket.shutdown(1)
        answer = connection.read_answer_if_any("PUT")
        assert answer is None or answer.status >= 400, answer
        assert connection.is_closed()


def test_refused_before_the_body(hostile):
    """Expect: 100-continue of a request that fails by its head gets the error at once, and no 100."""
    with Connection(hostile) as connection:
        head, _ = connection.signed_head(
            "PUT", encode_path("no-such-bucket", "k"), headers={"content-length": "1000000", "expect": "100-continue"}
        )
        connection.send(head)
        answer = connection.read_answer("PUT")
        assert (answer.status, answer.code) == (404, "NoSuchBucket")


def test_continue_is_sent_to_a_good_head(hostile):
    with Connection(hostile) as connection:
        connection.send(put_head(connection, 5, "good", expect="100-continue"))
        assert connection.reader.file.readline().startswith(b"HTTP/1.1 100")
        while connection.reader.file.readline() != b"\r\n":
            pass
        connection.send(b"hello")
        assert connection.read_answer("PUT").status == 200
    assert request(hostile, "GET", "bucket", "good").body == b"hello"
    request(hostile, "DELETE", "bucket", "good")


def test_a_small_body_of_a_refused_request_is_drained(hostile):
    with Connection(hostile) as connection:
        for _ in range(3):
            answer = connection.request("PUT", encode_path("no-such-bucket", "k"), body=bytes(100000))
            assert answer.code == "NoSuchBucket"
        assert connection.request("GET", encode_path("bucket")).status == 200


def test_a_large_body_of_a_refused_request_ends_the_connection(hostile):
    with Connection(hostile) as connection:
        head, _ = connection.signed_head(
            "PUT", encode_path("no-such-bucket", "k"), headers={"content-length": str(1 << 32)}
        )
        connection.send(head)
        sent = 0
        try:
            while sent < DRAIN_BYTES_SURELY_TOO_MANY:
                connection.send(bytes(MIB))
                sent += MIB
        except (ConnectionError, TimeoutError):
            pass
        assert sent < DRAIN_BYTES_SURELY_TOO_MANY, "it reads on for ever"


def test_bodies_where_none_belong(hostile):
    with Connection(hostile) as connection:
        for method in ("GET", "DELETE", "HEAD"):
            answer = connection.request(method, encode_path("bucket", "none"), body=b"hello" * 1000)
            assert answer.status in (404, 204, 400), answer
        assert connection.request("GET", encode_path("bucket")).status == 200


# Heads


SMUGGLING = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n",
    "two equal lengths": b"Content-Length: 5\r\nContent-Length: 5\r\n",
    "length list": b"Content-Length: 5, 5\r\n",
    "length and coding": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "coding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
    "unknown coding": b"Transfer-Encoding: gzip\r\n",
    "coding list": b"Transfer-Encoding: gzip, chunked\r\n",
    "odd coding": b"Transfer-Encoding: xchunked\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "negative length": b"Content-Length: -5\r\n",
    "hexadecimal length": b"Content-Length: 0x5\r\n",
    "signed length": b"Content-Length: +5\r\n",
    "length that overflows": b"Content-Length: 99999999999999999999\r\n",
    "empty length": b"Content-Length: \r\n",
    "space before the colon": b"Content-Length : 5\r\n",
    "name that is no token": b"Content@Length: 5\r\n",
    "two hosts": b"Host: other\r\nContent-Length: 5\r\n",
    "folded": b"Content-Length: 5\r\nX-Folded: a\r\n b\r\n",
    "NUL in a value": b"Content-Length: 5\r\nX-Nul: a\x00b\r\n",
    "two authorizations": b"Authorization: a b\r\nAuthorization: c d\r\nContent-Length: 5\r\n",
}


@pytest.mark.parametrize("case", SMUGGLING)
def test_ambiguous_heads_are_answered_and_closed(hostile, case):
    with Connection(hostile) as connection:
        head = f"PUT /bucket/k HTTP/1.1\r\nHost: {connection.host}\r\n".encode() + SMUGGLING[case] + b"\r\n"
        # Behind the head stands what a smuggler would want to be taken for a second request.
        connection.send(head + b"0\r\n\r\nGET /bucket/large HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = connection.read_answer_if_any("PUT")
        if answer is not None:
            # A folded header is legal to unfold: then the request is just an anonymous one.
            assert answer.status in (400, 501) or (case == "folded" and answer.status == 403), answer
        if case != "folded":
            rest = connection.read_rest()
            assert rest is not None, "it must close"
            assert b"AccessDenied" not in rest, "what stands behind an ambiguous head was read as a request"


@pytest.mark.parametrize("length", ["-5", "5, 5", "0x5", "", "99999999999999999999"])
def test_an_early_refusal_is_one_well_formed_answer(hostile, length):
    with Connection(hostile) as connection:
        connection.send(f"PUT /bucket/k HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        answer = connection.read_answer("PUT")
        assert (answer.status, answer.code) == (400, "InvalidRequest"), answer
        assert connection.is_closed()


@pytest.mark.parametrize(
    "head",
    [b"PUT /bucket/k HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
     b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
     b"GET no-slash HTTP/1.1\r\nHost: x\r\n\r\n",
     b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /\x01 HTTP/1.1\r\nHost: x\r\n\r\n"],
    ids=range(8),
)  # fmt: skip
def test_heads_that_are_none(hostile, head):
    with Connection(hostile) as connection:
        connection.send(head)
        answer = connection.read_answer_if_any()
        assert answer is None or answer.status >= 400, answer
        assert (answer is not None and not answer.will_close) or connection.is_closed()


@pytest.mark.parametrize("case", ["many headers", "long header", "long target", "long head"])
def test_oversized_heads(hostile, case):
    headers, query = {}, []
    if case == "many headers":
        headers = {f"x-header-{index}": "1" for index in range(200)}
    elif case == "long header":
        headers = {"x-header": "1" * 9000}
    elif case == "long target":
        query = [("x", "1" * 20000)]
    else:
        headers = {f"x-header-{index}": "1" * 1000 for index in range(60)}
    with Connection(hostile) as connection:
        try:
            answer = connection.request("GET", encode_path("bucket"), query, headers)
        except ConnectionError:
            return
        assert answer.status in (400, 414, 431), answer
        assert connection.is_closed()


# Signatures


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def test_wrong_signatures(hostile):
    cases = {
        "wrong secret": (wire.Signer(hostile.signer.access_key, "x" * 40), "SignatureDoesNotMatch"),
        "unknown key": (wire.Signer("nobody-knows-me", "x" * 40), "InvalidAccessKeyId"),
    }
    for case, (signer, code) in cases.items():
        for method, body in (("GET", b""), ("PUT", b"body"), ("PUT", bytes(100000))):
            answer = request(hostile, method, "bucket", "k", body=body, signer=signer)
            assert (answer.status, answer.code) == (403, code), case
    assert b"secret" not in answer.body.lower() or hostile.signer.secret_key.encode() not in answer.body


@pytest.mark.parametrize("minutes,status", [(-20, 403), (20, 403), (-10, 200), (10, 200)])
def test_clock_skew(hostile, minutes, status):
    answer = request(hostile, "GET", "bucket", when=now() + datetime.timedelta(minutes=minutes))
    assert answer.status == status
    if status == 403:
        assert answer.code == "RequestTimeTooSkewed"


def test_an_unsigned_amz_header_is_refused(hostile):
    for name, value in (("x-amz-copy-source", "bucket/large"), ("x-amz-meta-a", "1"), ("x-amz-acl", "private")):
        answer = request(hostile, "PUT", "bucket", "k", headers={name: value}, unsigned=(name,))
        assert (answer.status, answer.code) == (403, "AccessDenied"), name
    answer = request(hostile, "GET", "bucket", unsigned=("host",))
    assert answer.status == 403


AUTHORIZATIONS = {
    "no scheme": ("nonsense", 400),
    "unknown scheme": ("Bearer abcdef", 400),
    "version 2": ("AWS key:signature", 400),
    "no components": ("AWS4-HMAC-SHA256 ", 400),
    "no signature": ("AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/s3/aws4_request, SignedHeaders=host", 400),
    "bad scope": ("AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=00", 400),
    "another service": (
        "AWS4-HMAC-SHA256 Credential=a/DAY/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=00", 400),
}  # fmt: skip


@pytest.mark.parametrize("case", AUTHORIZATIONS)
def test_malformed_authorizations(hostile, case):
    value, status = AUTHORIZATIONS[case]
    stamp = now().strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "host": f"127.0.0.1:{hostile.port}", "x-amz-date": stamp, "x-amz-content-sha256": wire.EMPTY_SHA256,
        "authorization": value.replace("DAY", stamp[:8]),
    }  # fmt: skip
    with Connection(hostile) as connection:
        connection.send(connection.head("GET", "/bucket", headers))
        answer = connection.read_answer()
        assert answer.status == status, answer
        assert answer.code in ("AuthorizationHeaderMalformed", "InvalidArgument", "InvalidRequest"), answer


PRESIGNED = {
    "good": (dict(), None, 200),
    "expired": (dict(when=-700), "AccessDenied", 403),
    "not yet": (dict(when=1200), "AccessDenied", 403),
    "a week and a second": (dict(expires=604801), "AuthorizationQueryParametersError", 400),
    "negative": (dict(expires=-1), "AuthorizationQueryParametersError", 400),
    "no number": (dict(expires="soon"), "AuthorizationQueryParametersError", 400),
}


@pytest.mark.parametrize("case", PRESIGNED)
def test_presigned_times(hostile, case):
    named, code, status = PRESIGNED[case]
    named = named | {"when": now() + datetime.timedelta(seconds=named.get("when", 0))}
    with Connection(hostile) as connection:
        target = hostile.signer.presign("GET", connection.host, "/bucket/large", **named)
        connection.send(connection.head("GET", target, {"Host": connection.host}))
        answer = connection.read_answer()
        assert answer.status == status, answer
        if code:
            assert answer.code == code, answer


def test_presigned_for_something_else(hostile):
    with Connection(hostile) as connection:
        target = hostile.signer.presign("GET", connection.host, "/bucket/large")
        headers = {"Host": connection.host}
        for method, changed, more in (
            ("DELETE", target, {}),
            ("PUT", target, {"Content-Length": "0"}),
            ("GET", target.replace("/large", "/other"), {}),
            ("GET", target + "&versionId=null", {}),
            ("GET", target, {"x-amz-meta-a": "1"}),
            ("PUT", hostile.signer.presign("PUT", connection.host, "/bucket/k"),
             {"Content-Length": "0", "x-amz-copy-source": "bucket/large"}),
        ):  # fmt: skip
            connection.send(connection.head(method, changed, headers | more))
            answer = connection.read_answer(method)
            assert answer.status == 403, (method, changed, answer)


def test_two_ways_to_sign_at_once(hostile):
    with Connection(hostile) as connection:
        target = hostile.signer.presign("GET", connection.host, "/bucket/large")
        query = [tuple(map(wire.urllib.parse.unquote, pair.split("=", 1))) for pair in target.split("?")[1].split("&")]
        answer = connection.request("GET", "/bucket/large", query)
        assert (answer.status, answer.code) == (400, "InvalidArgument"), answer


def test_a_repeated_query_parameter(hostile):
    answer = request(hostile, "GET", "bucket", query=[("prefix", "a"), ("prefix", "b")])
    assert (answer.status, answer.code) == (400, "InvalidArgument")


# XML


ENTITIES = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
BAD_XML = {
    "DOCTYPE": b'<!DOCTYPE Delete><Delete><Object><Key>k</Key></Object></Delete>',
    "external entity": (
        b'<!DOCTYPE Delete [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b"<Delete><Object><Key>&x;</Key></Object></Delete>"),
    "billion laughs": (
        f'<!DOCTYPE Delete [<!ENTITY l0 "lol">{ENTITIES}]><Delete><Object><Key>&l9;</Key></Object></Delete>').encode(),
    "too deep": b"<Delete>" + b"<a>" * 10000 + b"</a>" * 10000 + b"</Delete>",
    "not closed": b"<Delete><Object><Key>k</Key></Object>",
    "not UTF-8": b"<Delete><Object><Key>\xff\xfe</Key></Object></Delete>",
    "binary": bytes(range(256)),
    "two roots": b"<Delete><Object><Key>k</Key></Object></Delete><Delete/>",
    "no key": b"<Delete><Object></Object></Delete>",
    "many attributes": b"<Delete " + b" ".join(b'a%d="1"' % i for i in range(20000)) + b"/>",
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_XML)
def test_bad_xml(hostile, case):
    answer = delete_many(hostile, "bucket", BAD_XML[case])
    assert (answer.status, answer.code) == (400, "MalformedXML"), answer
    assert b"root:" not in answer.body


def test_xml_that_is_too_long(hostile):
    body = b"<Delete>" + b" " * (3 * MIB) + b"</Delete>"
    answer = delete_many(hostile, "bucket", body)
    assert answer.status == 400 and answer.code in ("MaxMessageLengthExceeded", "MalformedXML"), answer


def test_xml_of_complete_with_too_many_parts(hostile):
    upload = request(hostile, "POST", "bucket", "m", query=[("uploads", "")]).text("UploadId")
    items = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{'0' * 32}</ETag></Part>" for n in range(1, 10002))
    body = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()
    answer = request(hostile, "POST", "bucket", "m", query=[("uploadId", upload)], body=body)
    assert answer.status == 400, answer
    assert answer.code in ("MalformedXML", "MaxMessageLengthExceeded", "InvalidArgument"), answer
    assert request(hostile, "DELETE", "bucket", "m", query=[("uploadId", upload)]).status == 204


# Names and numbers


def test_bodies_above_the_limit_are_refused_by_their_head(hostile):
    with Connection(hostile) as connection:
        connection.send(put_head(connection, (5 << 30) + 1, expect="100-continue"))
        answer = connection.read_answer("PUT")
        assert (answer.status, answer.code) == (400, "EntityTooLarge"), answer


@pytest.mark.parametrize(
    "target", ["/bucket/a%00b", "/bucket/%", "/bucket/%zz", "/%00", "/bucket/" + "a" * 1025, "//k"]
)
def test_bad_targets(hostile, target):
    with Connection(hostile) as connection:
        for method in ("PUT", "GET"):
            answer = connection.request(method, target)
            assert answer.status == 400, answer
            assert answer.code in ("InvalidURI", "KeyTooLongError", "InvalidBucketName"), answer


def test_errors_tell_nothing_of_the_machine(hostile):
    for target in ("/bucket/none", "/none", "/bucket?uploads&delete"):
        with Connection(hostile) as connection:
            answer = connection.request("GET", target.split("?")[0])
            for word in (str(hostile.directories[0]), "/proc", ".c:", "libmicrohttpd"):
                assert word.encode() not in answer.body and word not in str(answer.headers)


def test_pipelined_requests_are_answered_in_order(hostile):
    with Connection(hostile) as connection:
        heads = b""
        for key in ("none-1", "large", "none-2"):
            heads += connection.signed_head("GET", encode_path("bucket", key))[0]
        connection.send(heads)
        assert [connection.read_answer().status for _ in range(3)] == [404, 200, 404]


def test_idle_connections_do_not_stop_a_client(hostile):
    baseline = Baseline(hostile)
    idle = [Connection(hostile) for _ in range(400)]
    assert request(hostile, "GET", "bucket").status == 200
    for connection in idle:
        connection.close()
    baseline.check()


@pytest.mark.parametrize("count", [128, 300, 500])
def test_queries_of_many_parameters(hostile, count):
    """Within 8 KiB, but their list may not fit into the memory for one head."""
    pairs = [(f"x-{index}", "1") for index in range(count)]
    with Connection(hostile) as connection:
        connection.send(connection.signed_head("GET", encode_path("bucket"), pairs)[0])
        assert connection.read_answer().status == (200 if count <= 128 else 400)
