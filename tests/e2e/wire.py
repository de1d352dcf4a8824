"""S3 requests built by hand: what SDKs will not send, byte for byte, and a second opinion on their signatures.

Source of the signatures: S3 API Reference, "Authenticating Requests (AWS Signature Version 4)".
"""

import base64
import binascii
import datetime
import hashlib
import hmac
import http.client
import socket
import struct
import time
import urllib.parse
import xml.etree.ElementTree

UNSIGNED = "UNSIGNED-PAYLOAD"
CHUNKS_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
CHUNKS_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
CHUNKS_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def encode(text, safe="-_.~"):
    return urllib.parse.quote(text, safe=safe)


def encode_path(bucket, key=None):
    path = "/" + encode(bucket) if bucket else "/"
    return path if key is None else path + "/" + encode(key, safe="-_.~/")


def encode_query(pairs):
    return "&".join(f"{encode(str(name))}={encode(str(value))}" for name, value in pairs)


def _hmac(key, text):
    return hmac.new(key, text.encode() if isinstance(text, str) else text, hashlib.sha256).digest()


class Signer:
    """Signature version 4 of one access key."""

    def __init__(self, access_key, secret_key, region="us-east-1"):
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = region

    def _key(self, day):
        key = _hmac(b"AWS4" + self.secret_key.encode(), day)
        for word in (self.region, "s3", "aws4_request"):
            key = _hmac(key, word)
        return key

    def _scope(self, day):
        return f"{day}/{self.region}/s3/aws4_request"

    def _signature(self, stamp, canonical):
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{self._scope(stamp[:8])}\n{digest}"
        return _hmac(self._key(stamp[:8]), text).hex()

    @staticmethod
    def _canonical(method, path, query, headers, signed, payload):
        names = sorted(signed)
        lines = "".join(f"{name}:{' '.join(headers[name].split())}\n" for name in names)
        pairs = sorted((encode(str(n)), encode(str(v))) for n, v in query)
        text = "&".join(f"{n}={v}" for n, v in pairs)
        return f"{method}\n{path}\n{text}\n{lines}\n{';'.join(names)}\n{payload}"

    def sign(self, method, path, query, headers, payload, when=None, unsigned=()):
        """Headers (lower-case names, `host` among them) with x-amz-date, x-amz-content-sha256 and authorization.

        All are signed but those named in `unsigned`.
        """
        when = when or datetime.datetime.now(datetime.timezone.utc)
        headers = dict(headers)
        headers.setdefault("x-amz-date", when.strftime("%Y%m%dT%H%M%SZ"))
        headers.setdefault("x-amz-content-sha256", payload)
        stamp = headers["x-amz-date"]
        signed = [name for name in headers if name not in unsigned]
        canonical = self._canonical(method, path, query, headers, signed, headers["x-amz-content-sha256"])
        signature = self._signature(stamp, canonical)
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{self._scope(stamp[:8])}, "
            f"SignedHeaders={';'.join(sorted(signed))}, Signature={signature}"
        )
        return headers

    def presign(self, method, host, path, query=(), expires=600, when=None):
        """The target (path and query) of a presigned URL."""
        when = when or datetime.datetime.now(datetime.timezone.utc)
        stamp = when.strftime("%Y%m%dT%H%M%SZ")
        query = list(query) + [
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", f"{self.access_key}/{self._scope(stamp[:8])}"),
            ("X-Amz-Date", stamp),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", "host"),
        ]
        canonical = self._canonical(method, path, query, {"host": host}, ["host"], UNSIGNED)
        query.append(("X-Amz-Signature", self._signature(stamp, canonical)))
        return path + "?" + encode_query(query)

    def chunks(self, headers, chunks, trailer=None, spoil=None):
        """An aws-chunked body with signatures, chained on the request that `headers` (from sign) belong to.

        spoil   index of the chunk whose signature is made wrong; "trailer" for that of the trailer
        """
        stamp = headers["x-amz-date"]
        key, scope = self._key(stamp[:8]), self._scope(stamp[:8])
        previous = headers["authorization"].rsplit("Signature=", 1)[1]
        body = b""
        for index, chunk in enumerate([*chunks, b""]):
            text = (
                f"AWS4-HMAC-SHA256-PAYLOAD\n{stamp}\n{scope}\n{previous}\n{EMPTY_SHA256}\n"
                f"{hashlib.sha256(chunk).hexdigest()}"
            )
            previous = _hmac(key, text).hex()
            shown = spoiled(previous) if spoil == index else previous
            body += f"{len(chunk):x};chunk-signature={shown}\r\n".encode() + chunk
            body += b"\r\n" if chunk or trailer is None else b""
        if trailer is None:
            return body
        lines = "".join(f"{name}:{value}\n" for name, value in trailer)
        text = f"AWS4-HMAC-SHA256-TRAILER\n{stamp}\n{scope}\n{previous}\n{hashlib.sha256(lines.encode()).hexdigest()}"
        signature = _hmac(key, text).hex()
        shown = spoiled(signature) if spoil == "trailer" else signature
        body += "".join(f"{name}:{value}\r\n" for name, value in trailer).encode()
        return body + f"x-amz-trailer-signature:{shown}\r\n\r\n".encode()


def spoiled(hex_text):
    return ("0" if hex_text[0] != "0" else "1") + hex_text[1:]


def unsigned_chunks(chunks, trailer):
    body = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks) + b"0\r\n"
    return body + "".join(f"{name}:{value}\r\n" for name, value in trailer).encode() + b"\r\n"


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.body = body
        self.will_close = response.will_close

    @property
    def code(self):
        """Code of the error document; None when the body is none."""
        if not self.body.startswith(b"<"):
            return None
        return xml.etree.ElementTree.fromstring(self.body).findtext("Code")

    def text(self, path):
        """Text of the first element at `path` ("a/b"), without namespaces; None when absent."""
        found = self.all(path)
        return found[0] if found else None

    def all(self, path):
        root = xml.etree.ElementTree.fromstring(self.body)
        nodes = [root]
        for name in path.split("/"):
            nodes = [child for node in nodes for child in node if child.tag.rsplit("}", 1)[-1] == name]
        return [node.text or "" for node in nodes]

    def __repr__(self):
        return f"<{self.status} {dict(self.headers)} {self.body[:600]!r}>"


class Reader:
    """What http.client takes for a socket: all answers of a connection come from one buffer, which none may close."""

    def __init__(self, file):
        self.file = file

    def makefile(self, _mode):
        return self

    def close(self):
        pass

    def __getattr__(self, name):
        return getattr(self.file, name)


class Connection:
    """One TCP connection; requests are sent as told, answers read with http.client's parser."""

    def __init__(self, server, timeout=60):
        self.server = server
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = Reader(self.socket.makefile("rb"))
        self.host = f"127.0.0.1:{server.port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.reader.file.close()
        self.socket.close()

    def reset(self):
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def send(self, data):
        self.socket.sendall(data)

    def read_answer(self, method="GET"):
        while True:
            response = http.client.HTTPResponse(self.reader, method=method)
            response.begin()
            if response.status == 100:
                continue
            return Answer(response, response.read())

    def read_answer_if_any(self, method="GET"):
        """None when the server ends the connection without a whole answer."""
        try:
            return self.read_answer(method)
        except (ConnectionError, http.client.HTTPException):
            return None

    def read_rest(self, seconds=5):
        """All that still comes before the server ends the connection; None when it does not within that time."""
        self.socket.settimeout(seconds)
        try:
            return self.reader.file.read()
        except ConnectionResetError:
            return b""
        except TimeoutError:
            return None

    def is_closed(self, seconds=5):
        """Whether the server ends the connection, without sending anything more, within that time."""
        return self.read_rest(seconds) == b""

    def head(self, method, target, headers):
        lines = [f"{method} {target} HTTP/1.1"] + [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def signed_head(self, method, path, query=(), headers=None, payload=UNSIGNED, when=None, unsigned=(), signer=None):
        """Bytes of a signed head, and the headers it holds."""
        signer = signer or self.server.signer
        headers = {"host": self.host} | {n.lower(): v for n, v in (headers or {}).items()}
        unsigned = {"content-length", "expect", "connection", "transfer-encoding", "user-agent", *unsigned}
        headers = signer.sign(method, path, query, headers, payload, when, unsigned)
        target = path + ("?" + encode_query(query) if query else "")
        return self.head(method, target, headers), headers

    def request(self, method, path, query=(), headers=None, body=b"", payload=None, **rest):
        """One signed request and its answer. `body` is bytes, or an iterable beside a content-length header."""
        headers = {n.lower(): v for n, v in (headers or {}).items()}
        if isinstance(body, bytes):
            if (body or method in ("PUT", "POST")) and "transfer-encoding" not in headers:
                headers.setdefault("content-length", str(len(body)))
            payload = payload or hashlib.sha256(body).hexdigest()
        head, _ = self.signed_head(method, path, query, headers, payload or UNSIGNED, **rest)
        if isinstance(body, bytes):
            self.send(head + body)
        else:
            self.send(head)
            for piece in body:
                self.send(piece)
        return self.read_answer(method)


def request(server, method, bucket=None, key=None, query=(), headers=None, body=b"", **rest):
    """One signed request on a connection of its own."""
    with Connection(server) as connection:
        return connection.request(method, encode_path(bucket, key), query, headers, body, **rest)


def receive_stream(server, bucket, key, on_bytes):
    """GET without holding the body in memory; `on_bytes` gets each piece. The status."""
    with Connection(server, timeout=120) as connection:
        head, _ = connection.signed_head("GET", encode_path(bucket, key), payload=EMPTY_SHA256)
        connection.send(head)
        response = http.client.HTTPResponse(connection.reader, method="GET")
        response.begin()
        while piece := response.read(1 << 20):
            on_bytes(piece)
        return response.status


def eventually(holds, seconds=15, step=0.1):
    """Whether `holds()` is true within that time."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(step)
    return True


# Checksums, each by an implementation that is not the server's.


def _reflected_table(polynomial):
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (polynomial if value & 1 else 0)
        table.append(value)
    return table


_CRC32C = _reflected_table(0x82F63B78)
_CRC64NVME = _reflected_table(0x9A6C9329AC4BC9B5)


def _reflected(table, ones, data):
    value = ones
    for byte in data:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ ones


def crc32c(data):
    return _reflected(_CRC32C, 0xFFFFFFFF, data)


_DIGESTS = {
    "CRC32": lambda data: binascii.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: _reflected(_CRC64NVME, 0xFFFFFFFFFFFFFFFF, data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}
ALGORITHMS = tuple(_DIGESTS)


def base64_text(data):
    return base64.b64encode(data).decode()


def checksum(algorithm, data):
    return base64_text(_DIGESTS[algorithm](data))


def md5_text(data):
    return base64_text(hashlib.md5(data).digest())


def composite(algorithm, parts):
    """Checksum of checksums: S3 User Guide, "Checking object integrity", composite checksums."""
    return checksum(algorithm, b"".join(_DIGESTS[algorithm](part) for part in parts)) + f"-{len(parts)}"


def multipart_etag(parts):
    return hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest() + f"-{len(parts)}"
