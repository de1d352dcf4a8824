"""Every operation, its documented errors, and the headers that change what it does.

What is expected stands in the S3 API Reference, on the page of the operation that a test names.
"""

import datetime
import email.header
import email.utils
import hashlib
import http.client
import time

import botocore.exceptions
import pytest

import wire
from conftest import DOMAIN
from wire import ALGORITHMS, Connection, checksum, encode_path, request

MIB = 1 << 20
PART = 5 * MIB


def error_of(call, *arguments, **named):
    """(status, code) of the ClientError that the call must raise."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(*arguments, **named)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def text_date(moment):
    return email.utils.format_datetime(moment.astimezone(datetime.timezone.utc), usegmt=True)


def body_of(s3, bucket, key, **named):
    return s3.get_object(Bucket=bucket, Key=key, **named)["Body"].read()


# Buckets


def test_bucket_life(s3):
    s3.create_bucket(Bucket="life-of-a-bucket")
    assert s3.head_bucket(Bucket="life-of-a-bucket")["ResponseMetadata"]["HTTPStatusCode"] == 200
    listed = s3.list_buckets()
    entry = next(entry for entry in listed["Buckets"] if entry["Name"] == "life-of-a-bucket")
    age = datetime.datetime.now(datetime.timezone.utc) - entry["CreationDate"]
    assert abs(age.total_seconds()) < 60
    assert listed["Owner"]["ID"]
    assert s3.get_bucket_location(Bucket="life-of-a-bucket").get("LocationConstraint") is None
    s3.put_object(Bucket="life-of-a-bucket", Key="k", Body=b"x")
    assert error_of(s3.delete_bucket, Bucket="life-of-a-bucket") == (409, "BucketNotEmpty")
    s3.delete_object(Bucket="life-of-a-bucket", Key="k")
    assert s3.delete_bucket(Bucket="life-of-a-bucket")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert error_of(s3.head_bucket, Bucket="life-of-a-bucket") == (404, "404")
    s3.create_bucket(Bucket="life-of-a-bucket")
    assert "Contents" not in s3.list_objects_v2(Bucket="life-of-a-bucket")
    s3.delete_bucket(Bucket="life-of-a-bucket")


def test_own_bucket_again(s3, bucket):
    assert error_of(s3.create_bucket, Bucket=bucket) == (409, "BucketAlreadyOwnedByYou")


def test_any_location_constraint_is_accepted(s3):
    s3.create_bucket(
        Bucket="somewhere-in-europe", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    assert s3.get_bucket_location(Bucket="somewhere-in-europe")["LocationConstraint"] in (None, "eu-central-1")
    s3.delete_bucket(Bucket="somewhere-in-europe")


@pytest.mark.parametrize(
    "name",
    ["ab", "a" * 64, "Upper-Case", "under_score", "-dash-first", "dash-last-", "two..dots", "192.168.5.4",
     ".dot-first", "xn--prefix", "suffix-s3alias", "sthree-x"],
)  # fmt: skip
def test_bad_bucket_names(server, name):
    answer = request(server, "PUT", name)
    assert (answer.status, answer.code) == (400, "InvalidBucketName")


def test_list_buckets_pages_by_prefix(s3):
    names = [f"paged-{index:02}" for index in range(7)]
    for name in names:
        s3.create_bucket(Bucket=name)
    found, token = [], {}
    for _ in range(10):
        page = s3.list_buckets(Prefix="paged-", MaxBuckets=3, **token)
        assert len(page["Buckets"]) <= 3
        found += [entry["Name"] for entry in page["Buckets"]]
        if "ContinuationToken" not in page:
            break
        token = {"ContinuationToken": page["ContinuationToken"]}
    assert found == names
    for name in names:
        s3.delete_bucket(Bucket=name)


NO_SUCH_BUCKET = {
    "ListObjects": lambda s3, b: s3.list_objects(Bucket=b),
    "ListObjectsV2": lambda s3, b: s3.list_objects_v2(Bucket=b),
    "ListObjectVersions": lambda s3, b: s3.list_object_versions(Bucket=b),
    "ListMultipartUploads": lambda s3, b: s3.list_multipart_uploads(Bucket=b),
    "GetBucketLocation": lambda s3, b: s3.get_bucket_location(Bucket=b),
    "GetBucketVersioning": lambda s3, b: s3.get_bucket_versioning(Bucket=b),
    "GetBucketAcl": lambda s3, b: s3.get_bucket_acl(Bucket=b),
    "GetBucketPolicy": lambda s3, b: s3.get_bucket_policy(Bucket=b),
    "DeleteBucket": lambda s3, b: s3.delete_bucket(Bucket=b),
    "PutObject": lambda s3, b: s3.put_object(Bucket=b, Key="k", Body=b"x"),
    "PutObject of blocks": lambda s3, b: s3.put_object(Bucket=b, Key="k", Body=bytes(MIB)),
    "GetObject": lambda s3, b: s3.get_object(Bucket=b, Key="k"),
    "DeleteObject": lambda s3, b: s3.delete_object(Bucket=b, Key="k"),
    "DeleteObjects": lambda s3, b: s3.delete_objects(Bucket=b, Delete={"Objects": [{"Key": "k"}]}),
    "CopyObject": lambda s3, b: s3.copy_object(Bucket=b, Key="k", CopySource=f"{b}/x"),
    "CreateMultipartUpload": lambda s3, b: s3.create_multipart_upload(Bucket=b, Key="k"),
    "GetObjectAttributes": lambda s3, b: s3.get_object_attributes(Bucket=b, Key="k", ObjectAttributes=["ETag"]),
    "GetObjectTagging": lambda s3, b: s3.get_object_tagging(Bucket=b, Key="k"),
    "PutObjectTagging": lambda s3, b: s3.put_object_tagging(Bucket=b, Key="k", Tagging={"TagSet": []}),
    "DeleteObjectTagging": lambda s3, b: s3.delete_object_tagging(Bucket=b, Key="k"),
    "GetBucketTagging": lambda s3, b: s3.get_bucket_tagging(Bucket=b),
    "PutBucketTagging": lambda s3, b: s3.put_bucket_tagging(Bucket=b, Tagging={"TagSet": []}),
    "DeleteBucketTagging": lambda s3, b: s3.delete_bucket_tagging(Bucket=b),
    "GetBucketCors": lambda s3, b: s3.get_bucket_cors(Bucket=b),
    "PutBucketCors": lambda s3, b: s3.put_bucket_cors(
        Bucket=b, CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}),
    "DeleteBucketCors": lambda s3, b: s3.delete_bucket_cors(Bucket=b),
    "GetObjectAcl": lambda s3, b: s3.get_object_acl(Bucket=b, Key="k"),
}


@pytest.mark.parametrize("operation", NO_SUCH_BUCKET)
def test_no_such_bucket(s3, operation):
    assert error_of(NO_SUCH_BUCKET[operation], s3, "no-such-bucket") == (404, "NoSuchBucket")


NO_SUCH_KEY = {
    "GetObject": lambda s3, b: s3.get_object(Bucket=b, Key="none"),
    "CopyObject": lambda s3, b: s3.copy_object(Bucket=b, Key="k", CopySource=f"{b}/none"),
    "GetObjectAttributes": lambda s3, b: s3.get_object_attributes(Bucket=b, Key="none", ObjectAttributes=["ETag"]),
    "GetObjectTagging": lambda s3, b: s3.get_object_tagging(Bucket=b, Key="none"),
    "PutObjectTagging": lambda s3, b: s3.put_object_tagging(Bucket=b, Key="none", Tagging={"TagSet": []}),
    "DeleteObjectTagging": lambda s3, b: s3.delete_object_tagging(Bucket=b, Key="none"),
    "GetObjectAcl": lambda s3, b: s3.get_object_acl(Bucket=b, Key="none"),
    "PutObject with If-Match": lambda s3, b: s3.put_object(Bucket=b, Key="none", Body=b"", IfMatch='"0"'),
}


@pytest.mark.parametrize("operation", NO_SUCH_KEY)
def test_no_such_key(s3, bucket, operation):
    assert error_of(NO_SUCH_KEY[operation], s3, bucket) == (404, "NoSuchKey")


def test_head_of_a_missing_key_has_no_body(server, bucket):
    with Connection(server) as connection:
        answer = connection.request("HEAD", encode_path(bucket, "none"))
        assert (answer.status, answer.body) == (404, b"")
        assert connection.request("HEAD", encode_path(bucket)).status == 200


def test_every_answer_names_its_request(server, bucket):
    ids = set()
    for path, status in ((encode_path(bucket), 200), (encode_path(bucket, "none"), 404), ("/", 200)):
        with Connection(server) as connection:
            answer = connection.request("GET", path)
        assert answer.status == status
        assert answer.headers["x-amz-request-id"] and answer.headers["x-amz-id-2"]
        if status == 404:
            assert answer.text("RequestId") == answer.headers["x-amz-request-id"]
            assert (answer.text("Code"), answer.text("Key")) == ("NoSuchKey", "none")
            assert answer.headers["Content-Type"] == "application/xml"
        ids.add(answer.headers["x-amz-request-id"])
    assert len(ids) == 3


# Objects


@pytest.mark.parametrize("size", [0, 1, 4096, 16383, 16384, 16385, 65536, 65537, MIB, 5 * MIB + 1])
def test_put_get_head_delete(s3, bucket, noise, size):
    body = noise[:size]
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    head = s3.head_object(Bucket=bucket, Key="k")
    for answer in (got, head):
        assert (answer["ContentLength"], answer["ETag"]) == (size, put["ETag"])
        assert answer["ContentType"] == "binary/octet-stream"
        assert answer["AcceptRanges"] == "bytes"
        age = datetime.datetime.now(datetime.timezone.utc) - answer["LastModified"]
        assert abs(age.total_seconds()) < 60
    assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert error_of(s3.get_object, Bucket=bucket, Key="k") == (404, "NoSuchKey")
    assert s3.delete_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_an_overwrite_replaces_all(s3, bucket, noise):
    s3.put_object(Bucket=bucket, Key="k", Body=noise[:MIB], Metadata={"a": "1"}, ContentType="text/a")
    s3.put_object(Bucket=bucket, Key="k", Body=b"short")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"short", {}, "binary/octet-stream")


STANDARD_HEADERS = {
    "CacheControl": "max-age=60, private",
    "ContentDisposition": 'attachment; filename="u.txt"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "de, en",
    "ContentType": "text/plain; charset=utf-8",
}


def test_standard_headers_and_metadata_come_back(s3, bucket):
    headers = STANDARD_HEADERS
    metadata = {"plain": "value", "inner-space": "a  b", "mixed-case": "CamelValue", "empty": ""}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata, WebsiteRedirectLocation="/other", **headers)
    for answer in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in headers} == headers
        assert {n: " ".join(v.split()) for n, v in answer["Metadata"].items()} == {
            n: " ".join(v.split()) for n, v in metadata.items()
        }
        assert answer["WebsiteRedirectLocation"] == "/other"


def test_expires_comes_back_as_sent(server, bucket):
    sent = "Wed, 21 Oct 2037 07:28:00 GMT"
    assert request(server, "PUT", bucket, "k", headers={"Expires": sent}).status == 200
    assert request(server, "HEAD", bucket, "k").headers["Expires"] == sent


def test_metadata_in_utf8_comes_back(server, bucket):
    """Raw UTF-8 goes in; S3 gives it back in RFC 2047 or as it was, and both mean the same text."""
    text = "grün-漢"
    path = encode_path(bucket, "k")
    headers = {"host": f"127.0.0.1:{server.port}", "x-amz-meta-word": text}
    headers = server.signer.sign("PUT", path, (), headers, wire.EMPTY_SHA256) | {"content-length": "0"}
    with Connection(server) as connection:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.send(f"PUT {path} HTTP/1.1\r\n{lines}\r\n".encode())
        assert connection.read_answer("PUT").status == 200
        back = connection.request("HEAD", path).headers["x-amz-meta-word"]
    if back.startswith("=?"):
        back = str(email.header.make_header(email.header.decode_header(back)))
    else:
        back = back.encode("latin-1").decode()
    assert back == text


def test_metadata_too_large(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"m": "x" * 2047})
    assert error_of(s3.put_object, Bucket=bucket, Key="k", Body=b"", Metadata={"m": "x" * 2048}) == (
        400, "MetadataTooLarge")  # fmt: skip


def test_response_overrides(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain", CacheControl="no-cache")
    moment = datetime.datetime(2037, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    answer = s3.get_object(
        Bucket=bucket, Key="k", ResponseContentType="a/b", ResponseContentLanguage="fr",
        ResponseContentDisposition="inline", ResponseContentEncoding="br", ResponseCacheControl="max-age=1",
        ResponseExpires=moment,
    )  # fmt: skip
    assert (answer["ContentType"], answer["ContentLanguage"], answer["ContentDisposition"]) == ("a/b", "fr", "inline")
    assert (answer["ContentEncoding"], answer["CacheControl"]) == ("br", "max-age=1")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["expires"] == text_date(moment)


def test_aws_chunked_is_no_content_encoding(server, bucket):
    with Connection(server) as connection:
        path = encode_path(bucket, "k")
        headers = {"content-encoding": "aws-chunked,gzip", "x-amz-decoded-content-length": "3"}
        body = b"3\r\nabc\r\n0\r\nx-amz-checksum-crc32:" + checksum("CRC32", b"abc").encode() + b"\r\n\r\n"
        headers |= {"x-amz-trailer": "x-amz-checksum-crc32", "content-length": str(len(body))}
        assert connection.request("PUT", path, (), headers, [body], wire.CHUNKS_UNSIGNED_TRAILER).status == 200
        answer = connection.request("GET", path)
        assert (answer.body, answer.headers["Content-Encoding"]) == (b"abc", "gzip")


def test_a_body_without_length_is_refused(server, bucket):
    with Connection(server) as connection:
        answer = connection.request(
            "PUT", encode_path(bucket, "k"), headers={"transfer-encoding": "chunked"},
            body=[b"3\r\nabc\r\n0\r\n\r\n"], payload=wire.UNSIGNED,
        )  # fmt: skip
    assert (answer.status, answer.code) == (411, "MissingContentLength")
    assert request(server, "HEAD", bucket, "k").status == 404


REFUSED_ON_PUT = {
    "x-amz-acl: public-read": ({"x-amz-acl": "public-read"}, 400, "AccessControlListNotSupported"),
    "x-amz-grant-read": ({"x-amz-grant-read": "id=1"}, 400, "AccessControlListNotSupported"),
    "x-amz-storage-class: GLACIER": ({"x-amz-storage-class": "GLACIER"}, 400, "InvalidStorageClass"),
    "SSE-S3": ({"x-amz-server-side-encryption": "AES256"}, 501, "NotImplemented"),
    "SSE-KMS": ({"x-amz-server-side-encryption": "aws:kms"}, 501, "NotImplemented"),
    "object lock": ({"x-amz-object-lock-mode": "GOVERNANCE"}, 501, "NotImplemented"),
    "another owner": ({"x-amz-expected-bucket-owner": "111122223333"}, 403, "AccessDenied"),
    "bad redirect": ({"x-amz-website-redirect-location": "nowhere"}, 400, "InvalidRedirectLocation"),
    "bad Content-MD5": ({"content-md5": "no base64!"}, 400, "InvalidDigest"),
    "short Content-MD5": ({"content-md5": "YWJj"}, 400, "InvalidDigest"),
    "wrong Content-MD5": ({"content-md5": wire.md5_text(b"other")}, 400, "BadDigest"),
    "two checksums": (
        {"x-amz-checksum-crc32": checksum("CRC32", b"body"), "x-amz-checksum-sha1": checksum("SHA1", b"body")},
        400, "InvalidRequest"),
    "malformed checksum": ({"x-amz-checksum-crc32": "AAAA"}, 400, "InvalidRequest"),
    "unknown algorithm": ({"x-amz-sdk-checksum-algorithm": "CRC99"}, 400, "InvalidRequest"),
    "algorithm without value": ({"x-amz-sdk-checksum-algorithm": "CRC32"}, 400, "InvalidRequest"),
    "If-None-Match of an ETag": ({"if-none-match": '"abc"'}, 501, "NotImplemented"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_ON_PUT)
def test_refused_headers_on_put(server, bucket, case):
    headers, status, code = REFUSED_ON_PUT[case]
    answer = request(server, "PUT", bucket, "k", headers=headers, body=b"body")
    assert (answer.status, answer.code) == (status, code), answer
    assert request(server, "HEAD", bucket, "k").status == 404


@pytest.mark.parametrize(
    "headers",
    [{"x-amz-acl": "private"}, {"x-amz-acl": "bucket-owner-full-control"}, {"x-amz-storage-class": "STANDARD"},
     {"content-md5": wire.md5_text(b"body")}],
    ids=str,
)  # fmt: skip
def test_accepted_headers_on_put(server, bucket, headers):
    assert request(server, "PUT", bucket, "k", headers=headers, body=b"body").status == 200


def test_unknown_query_of_a_client_is_ignored(server, bucket):
    assert request(server, "PUT", bucket, "k", query=[("x-id", "PutObject")], body=b"body").status == 200
    assert request(server, "GET", bucket, "k", query=[("x-id", "GetObject"), ("mine", "1")]).body == b"body"


# Checksums


@pytest.mark.parametrize("size", [4, 300000])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksum_by_header(server, bucket, noise, algorithm, size):
    body, name = noise[:size], f"x-amz-checksum-{algorithm.lower()}"
    answer = request(server, "PUT", bucket, "k", headers={name: checksum(algorithm, body)}, body=body)
    assert (answer.status, answer.headers[name]) == (200, checksum(algorithm, body))
    answer = request(server, "GET", bucket, "k", headers={"x-amz-checksum-mode": "ENABLED"})
    assert (answer.body, answer.headers[name]) == (body, checksum(algorithm, body))
    assert answer.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    assert request(server, "HEAD", bucket, "k").headers[name] is None
    wrong = {name: checksum(algorithm, body + b"x")}
    answer = request(server, "PUT", bucket, "wrong", headers=wrong, body=body)
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert request(server, "HEAD", bucket, "wrong").status == 404


@pytest.mark.parametrize("size", [4, 300000])
@pytest.mark.parametrize("mode", [wire.CHUNKS_UNSIGNED_TRAILER, wire.CHUNKS_SIGNED_TRAILER])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checksum_by_trailer(server, bucket, noise, algorithm, mode, size):
    body, name = noise[:size], f"x-amz-checksum-{algorithm.lower()}"
    pieces = [body[at : at + 65536] for at in range(0, size, 65536)]
    for key, value, status in (("k", checksum(algorithm, body), 200), ("wrong", checksum(algorithm, b"no"), 400)):
        answer = put_in_chunks(server, bucket, key, pieces, mode, [(name, value)])
        assert answer.status == status, answer
        if status == 200:
            assert answer.headers[name] == value
            assert request(server, "GET", bucket, key).body == body
        else:
            assert answer.code == "BadDigest"
            assert request(server, "HEAD", bucket, key).status == 404


def put_in_chunks(server, bucket, key, pieces, mode, trailer=None, decoded=True, spoil=None, query=()):
    """One PUT in an aws-chunked mode. `decoded`: what x-amz-decoded-content-length says, None: it is not sent."""
    headers = {"content-encoding": "aws-chunked"}
    if decoded is not None:
        headers["x-amz-decoded-content-length"] = str(sum(map(len, pieces)) if decoded is True else decoded)
    if trailer is not None:
        headers["x-amz-trailer"] = ",".join(name for name, _ in trailer)
    path = encode_path(bucket, key)
    with Connection(server) as connection:
        headers = {"host": connection.host} | headers
        headers = server.signer.sign("PUT", path, query, headers, mode)
        if mode == wire.CHUNKS_UNSIGNED_TRAILER:
            body = wire.unsigned_chunks(pieces, trailer)
        else:
            body = server.signer.chunks(headers, pieces, trailer, spoil)
        target = path + ("?" + wire.encode_query(query) if query else "")
        connection.send(connection.head("PUT", target, headers | {"content-length": str(len(body))}) + body)
        return connection.read_answer("PUT")


@pytest.mark.parametrize("size", [0, 5, 70000, 300000])
def test_signed_chunks(server, bucket, noise, size):
    pieces = [noise[at : min(at + 65536, size)] for at in range(0, size, 65536)]
    answer = put_in_chunks(server, bucket, "k", pieces, wire.CHUNKS_SIGNED)
    assert answer.status == 200, answer
    assert request(server, "GET", bucket, "k").body == noise[:size]


@pytest.mark.parametrize("mode", [wire.CHUNKS_SIGNED, wire.CHUNKS_UNSIGNED_TRAILER])
def test_chunks_have_a_decoded_length_and_a_least_size(server, bucket, noise, mode):
    trailer = [("x-amz-checksum-crc32", checksum("CRC32", noise[:9000]))]
    trailer = trailer if mode == wire.CHUNKS_UNSIGNED_TRAILER else None
    answer = put_in_chunks(server, bucket, "k", [noise[:9000]], mode, trailer, decoded=None)
    assert (answer.status, answer.code) == (411, "MissingContentLength")
    answer = put_in_chunks(server, bucket, "k", [noise[:8191], noise[8191:9000]], mode, trailer)
    assert (answer.status, answer.code) == (400, "InvalidChunkSizeError")
    answer = put_in_chunks(server, bucket, "k", [noise[:8192], noise[8192:9000]], mode, trailer)
    assert answer.status == 200, answer


def test_javascript_sdk_form(server, bucket, noise):
    """Unsigned trailer, Transfer-Encoding: chunked and no Content-Length."""
    body = noise[:100000]
    trailer = [("x-amz-checksum-crc32", checksum("CRC32", body))]
    inner = wire.unsigned_chunks([body[at : at + 8192] for at in range(0, len(body), 8192)], trailer)
    pieces = [inner[at : at + 7777] for at in range(0, len(inner), 7777)]
    outer = [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces] + [b"0\r\n\r\n"]
    headers = {
        "content-encoding": "aws-chunked", "transfer-encoding": "chunked", "x-amz-trailer": trailer[0][0],
        "x-amz-decoded-content-length": str(len(body)),
    }  # fmt: skip
    with Connection(server) as connection:
        answer = connection.request(
            "PUT", encode_path(bucket, "k"), (), headers, outer, wire.CHUNKS_UNSIGNED_TRAILER
        )
    assert answer.status == 200, answer
    assert request(server, "GET", bucket, "k").body == body


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_boto3_checksums(s3, bucket, noise, algorithm):
    put = s3.put_object(Bucket=bucket, Key="k", Body=noise[:MIB], ChecksumAlgorithm=algorithm)
    assert put[f"Checksum{algorithm}"] == checksum(algorithm, noise[:MIB])
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == noise[:MIB]
    assert got[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]


# Ranges and parts


RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=0-": (0, None),
    "bytes=10-19": (10, 20),
    "bytes=65530-65545": (65530, 65546),
    "bytes=199999-": (199999, 200000),
    "bytes=-1": (199999, 200000),
    "bytes=-300000": (0, 200000),
    "bytes=100000-999999": (100000, 200000),
    "BYTES=5-6": (5, 7),
}


IN_INLINE_OBJECTS = ("bytes=0-0", "bytes=0-", "bytes=10-19", "bytes=-300000", "BYTES=5-6")


@pytest.mark.parametrize(
    "text,size", [(text, 200000) for text in RANGES] + [(text, 12000) for text in IN_INLINE_OBJECTS]
)
def test_ranges(server, bucket, noise, text, size):
    body = noise[:size]
    request(server, "PUT", bucket, "k", body=body)
    first, end = RANGES[text]
    end = size if end is None else min(end, size)
    for method in ("GET", "HEAD"):
        answer = request(server, method, bucket, "k", headers={"Range": text})
        assert answer.status == 206, answer
        assert answer.headers["Content-Range"] == f"bytes {first}-{end - 1}/{size}"
        assert answer.headers["Content-Length"] == str(end - first)
        if method == "GET":
            assert answer.body == body[first:end]


@pytest.mark.parametrize("text", ["bytes=200000-", "bytes=200001-200010", "bytes=-0", "bytes=99999999999999999999-"])
def test_unsatisfiable_ranges(server, bucket, noise, text):
    request(server, "PUT", bucket, "k", body=noise[:200000])
    answer = request(server, "GET", bucket, "k", headers={"Range": text})
    assert (answer.status, answer.code) == (416, "InvalidRange")
    assert answer.headers["Content-Range"] == "bytes */200000"
    assert (answer.text("ActualObjectSize"), answer.text("RangeRequested")) == ("200000", text)


@pytest.mark.parametrize(
    "text", ["bytes=5-4", "bytes=a-b", "bytes=-", "bytes", "items=0-1", "bytes=0-1,5-6", "bytes=0x1-2"]
)
def test_ranges_that_are_none_are_ignored(server, bucket, noise, text):
    request(server, "PUT", bucket, "k", body=noise[:1000])
    answer = request(server, "GET", bucket, "k", headers={"Range": text})
    assert (answer.status, answer.body) == (200, noise[:1000])


def test_if_range(server, bucket, noise):
    put = request(server, "PUT", bucket, "k", body=noise[:1000])
    modified = request(server, "HEAD", bucket, "k").headers["Last-Modified"]
    for value, status in ((put.headers["ETag"], 206), ('"other"', 200), (modified, 206)):
        answer = request(server, "GET", bucket, "k", headers={"Range": "bytes=0-9", "If-Range": value})
        assert answer.status == status, value


def test_part_number(server, s3, bucket, noise):
    parts = [noise[:PART], noise[PART : PART + 1000]]
    upload_parts(s3, bucket, "m", parts)
    s3.put_object(Bucket=bucket, Key="plain", Body=b"whole")
    offset = 0
    for number, part in enumerate(parts, 1):
        answer = request(server, "GET", bucket, "m", query=[("partNumber", number)])
        assert (answer.status, answer.body) == (206, part)
        assert answer.headers["Content-Range"] == f"bytes {offset}-{offset + len(part) - 1}/{PART + 1000}"
        assert answer.headers["x-amz-mp-parts-count"] == "2"
        offset += len(part)
    head = s3.head_object(Bucket=bucket, Key="m", PartNumber=2)
    assert (head["ContentLength"], head["PartsCount"]) == (1000, 2)
    answer = request(server, "GET", bucket, "plain", query=[("partNumber", 1)])
    assert (answer.status, answer.body) == (206, b"whole")
    for key, number, expected in (
        ("m", 3, (416, "InvalidPartNumber")), ("plain", 2, (416, "InvalidPartNumber")),
        ("m", 0, (400, "InvalidArgument")), ("m", 10001, (400, "InvalidArgument")),
        ("m", "x", (400, "InvalidArgument")),
    ):  # fmt: skip
        answer = request(server, "GET", bucket, key, query=[("partNumber", number)])
        assert (answer.status, answer.code) == expected, (key, number)
    answer = request(server, "GET", bucket, "m", query=[("partNumber", 1)], headers={"Range": "bytes=0-1"})
    assert (answer.status, answer.code) == (400, "InvalidRequest")


# Conditions


READ_CONDITIONS = {
    "If-Match, same": ({"If-Match": "ETAG"}, 200),
    "If-Match, other": ({"If-Match": '"other"'}, 412),
    "If-Match *": ({"If-Match": "*"}, 200),
    "If-Match, list": ({"If-Match": '"other", ETAG'}, 200),
    "If-None-Match, same": ({"If-None-Match": "ETAG"}, 304),
    "If-None-Match, other": ({"If-None-Match": '"other"'}, 200),
    "If-None-Match *": ({"If-None-Match": "*"}, 304),
    "If-Modified-Since, past": ({"If-Modified-Since": "PAST"}, 200),
    "If-Modified-Since, now": ({"If-Modified-Since": "FUTURE"}, 304),
    "If-Unmodified-Since, past": ({"If-Unmodified-Since": "PAST"}, 412),
    "If-Unmodified-Since, now": ({"If-Unmodified-Since": "FUTURE"}, 200),
    "true If-Match beats If-Unmodified-Since": ({"If-Match": "ETAG", "If-Unmodified-Since": "PAST"}, 200),
    "false If-None-Match beats If-Modified-Since": ({"If-None-Match": "ETAG", "If-Modified-Since": "PAST"}, 304),
    "a date that is none": ({"If-Modified-Since": "yesterday"}, 200),
}


def condition_values(etag):
    now = datetime.datetime.now(datetime.timezone.utc)
    # A minute, not a year: dates in the future of the server may be ignored, RFC 9110 §13.1.3.
    return {
        "ETAG": etag,
        "PAST": text_date(now - datetime.timedelta(days=1)),
        "FUTURE": text_date(now + datetime.timedelta(minutes=1)),
    }


def filled(headers, values):
    for word, value in values.items():
        headers = {name: text.replace(word, value) for name, text in headers.items()}
    return headers


@pytest.mark.parametrize("case", READ_CONDITIONS)
def test_conditions_of_reads(server, bucket, case):
    etag = request(server, "PUT", bucket, "k", body=b"body", headers={"cache-control": "max-age=9"}).headers["ETag"]
    headers, status = READ_CONDITIONS[case]
    for method in ("GET", "HEAD"):
        answer = request(server, method, bucket, "k", headers=filled(headers, condition_values(etag)))
        assert answer.status == status, answer
        if status == 304:
            assert (answer.body, answer.headers["ETag"], answer.headers["Cache-Control"]) == (b"", etag, "max-age=9")
        if (method, status) == ("GET", 412):
            assert (answer.code, bool(answer.text("Condition"))) == ("PreconditionFailed", True)


WRITE_CONDITIONS = {
    "If-None-Match *, absent": ({"If-None-Match": "*"}, False, 200, None),
    "If-None-Match *, present": ({"If-None-Match": "*"}, True, 412, "PreconditionFailed"),
    "If-Match, same": ({"If-Match": "ETAG"}, True, 200, None),
    "If-Match, other": ({"If-Match": '"' + "0" * 32 + '"'}, True, 412, "PreconditionFailed"),
    "If-Match, absent": ({"If-Match": '"' + "0" * 32 + '"'}, False, 404, "NoSuchKey"),
    "both": ({"If-Match": "ETAG", "If-None-Match": "*"}, True, 501, "NotImplemented"),
}


@pytest.mark.parametrize("size", [4, 100000])
@pytest.mark.parametrize("case", WRITE_CONDITIONS)
def test_conditions_of_puts(server, bucket, noise, case, size):
    headers, present, status, code = WRITE_CONDITIONS[case]
    etag = request(server, "PUT", bucket, "k", body=b"old").headers["ETag"]
    if not present:
        request(server, "DELETE", bucket, "k")
    answer = request(server, "PUT", bucket, "k", headers=filled(headers, {"ETAG": etag}), body=noise[:size])
    assert (answer.status, answer.code) == (status, code)
    after = request(server, "GET", bucket, "k")
    if status == 200:
        assert after.body == noise[:size]
    else:
        assert after.status == 404 if not present else after.body == b"old"


@pytest.mark.parametrize("case", WRITE_CONDITIONS)
def test_conditions_of_complete(server, s3, bucket, case):
    headers, present, status, code = WRITE_CONDITIONS[case]
    etag = request(server, "PUT", bucket, "k", body=b"old").headers["ETag"]
    if not present:
        request(server, "DELETE", bucket, "k")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"new")["ETag"]
    answer = request(
        server, "POST", bucket, "k", query=[("uploadId", upload)], headers=filled(headers, {"ETAG": etag}),
        body=complete_body([(1, part)]),
    )  # fmt: skip
    if answer.status == 200:  # an error may come in a body that began as success: CompleteMultipartUpload
        code_seen = answer.code
        assert (200 if code_seen is None else code_seen) == (200 if code is None else code)
    else:
        assert (answer.status, answer.code) == (status, code)
    after = request(server, "GET", bucket, "k")
    if status == 200:
        assert after.body == b"new"
    else:
        assert after.status == 404 if not present else after.body == b"old"


def test_conditions_of_copies(server, bucket):
    etag = request(server, "PUT", bucket, "source", body=b"body").headers["ETag"]
    values = condition_values(etag)
    for name, value, status in (
        ("if-match", "ETAG", 200), ("if-match", '"other"', 412), ("if-none-match", "ETAG", 412),
        ("if-none-match", '"other"', 200), ("if-modified-since", "PAST", 200), ("if-modified-since", "FUTURE", 412),
        ("if-unmodified-since", "PAST", 412), ("if-unmodified-since", "FUTURE", 200),
    ):  # fmt: skip
        headers = filled({f"x-amz-copy-source-{name}": value}, values) | {"x-amz-copy-source": f"{bucket}/source"}
        answer = request(server, "PUT", bucket, "target", headers=headers)
        assert answer.status == status, (name, value, answer)
    request(server, "PUT", bucket, "target", body=b"there")
    headers = {"x-amz-copy-source": f"{bucket}/source", "if-none-match": "*"}
    answer = request(server, "PUT", bucket, "target", headers=headers)
    assert (answer.status, answer.code) == (412, "PreconditionFailed")


def test_conditions_of_deletes(server, bucket):
    etag = request(server, "PUT", bucket, "k", body=b"body").headers["ETag"]
    answer = request(server, "DELETE", bucket, "k", headers={"If-Match": '"' + "0" * 32 + '"'})
    assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert request(server, "HEAD", bucket, "k").status == 200
    assert request(server, "DELETE", bucket, "k", headers={"If-Match": etag}).status == 204
    assert request(server, "HEAD", bucket, "k").status == 404
    answer = request(server, "DELETE", bucket, "k", headers={"If-Match": etag})
    assert (answer.status, answer.code) in ((404, "NoSuchKey"), (412, "PreconditionFailed"))


def test_only_one_of_many_creators_wins(server, bucket):
    """If-None-Match: * is decided at the commit, not before the body."""
    connections = [Connection(server) for _ in range(16)]
    path = encode_path(bucket, "k")
    bodies = [str(index).encode() * 20000 for index in range(16)]
    for connection, body in zip(connections, bodies):
        headers = {"if-none-match": "*", "content-length": str(len(body))}
        head, _ = connection.signed_head("PUT", path, headers=headers)
        connection.send(head + body[:-1])
    for connection, body in zip(connections, bodies):
        connection.send(body[-1:])
    answers = [connection.read_answer("PUT") for connection in connections]
    winners = [index for index, answer in enumerate(answers) if answer.status == 200]
    assert len(winners) == 1, answers
    assert {answer.status for answer in answers} == {200, 412}
    assert request(server, "GET", bucket, "k").body == bodies[winners[0]]
    for connection in connections:
        connection.close()


# DeleteObjects


def delete_body(entries, quiet=False):
    items = "".join(f"<Object><Key>{key}</Key></Object>" for key in entries)
    return f"<Delete>{'<Quiet>true</Quiet>' if quiet else ''}{items}</Delete>".encode()


def delete_many(server, bucket, body, headers=None):
    headers = {"content-md5": wire.md5_text(body)} if headers is None else headers
    return request(server, "POST", bucket, query=[("delete", "")], headers=headers, body=body)


def test_delete_objects(s3, bucket, noise):
    keys = ["a", "b/c", "späce and ü", "&<>"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=noise[:20000])
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in [*keys, "missing"]]})
    assert {entry["Key"] for entry in answer["Deleted"]} == {*keys, "missing"}
    assert "Errors" not in answer
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_delete_objects_quiet_and_limits(server, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = delete_many(server, bucket, delete_body(["k"], quiet=True))
    assert (answer.status, answer.all("Deleted")) == (200, [])
    assert request(server, "HEAD", bucket, "k").status == 404
    assert delete_many(server, bucket, delete_body([f"k{i}" for i in range(1000)])).status == 200
    for case, body, code in (
        ("1001 keys", delete_body([f"k{i}" for i in range(1001)]), "MalformedXML"),
        ("none", b"<Delete></Delete>", "MalformedXML"),
        ("no XML", b"hello", "MalformedXML"),
        ("another root", b"<Remove><Object><Key>k</Key></Object></Remove>", "MalformedXML"),
    ):
        answer = delete_many(server, bucket, body)
        assert (answer.status, answer.code) == (400, code), case


def test_delete_objects_wants_an_integrity_header(server, bucket):
    """DeleteObjects: "The Content-MD5 request header is required ... or a checksum"."""
    answer = delete_many(server, bucket, delete_body(["k"]), headers={})
    assert (answer.status, answer.code) in ((400, "InvalidRequest"), (200, None))
    answer = delete_many(server, bucket, delete_body(["k"]), headers={"content-md5": wire.md5_text(b"other")})
    assert (answer.status, answer.code) == (400, "BadDigest")


def test_delete_objects_judges_each_key(server, s3, bucket):
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    s3.put_object(Bucket=bucket, Key="stays", Body=b"x")
    body = (
        f"<Delete><Object><Key>k</Key><ETag>{etag.strip(chr(34))}</ETag></Object>"
        f"<Object><Key>stays</Key><ETag>{'0' * 32}</ETag></Object></Delete>"
    ).encode()
    answer = delete_many(server, bucket, body)
    assert (answer.status, answer.all("Deleted/Key")) == (200, ["k"])
    assert (answer.all("Error/Key"), answer.all("Error/Code")) == (["stays"], ["PreconditionFailed"])
    assert request(server, "HEAD", bucket, "stays").status == 200


# CopyObject


def test_copy_keeps_or_replaces(s3, bucket, noise):
    for size in (100, 300000):
        s3.put_object(Bucket=bucket, Key="src", Body=noise[:size], Metadata={"a": "1"}, ContentType="text/a")
        copied = s3.copy_object(Bucket=bucket, Key="kept", CopySource={"Bucket": bucket, "Key": "src"})
        assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(noise[:size]).hexdigest()}"'
        kept = s3.get_object(Bucket=bucket, Key="kept")
        assert (kept["Body"].read(), kept["Metadata"], kept["ContentType"]) == (noise[:size], {"a": "1"}, "text/a")
        s3.copy_object(
            Bucket=bucket, Key="new", CopySource={"Bucket": bucket, "Key": "src"}, MetadataDirective="REPLACE",
            Metadata={"b": "2"}, ContentType="text/b",
        )  # fmt: skip
        s3.delete_object(Bucket=bucket, Key="src")
        new = s3.get_object(Bucket=bucket, Key="new")
        assert (new["Body"].read(), new["Metadata"], new["ContentType"]) == (noise[:size], {"b": "2"}, "text/b")


def test_copy_onto_itself(s3, bucket, noise):
    s3.put_object(Bucket=bucket, Key="k", Body=noise[:100000], Metadata={"a": "1"})
    source = {"Bucket": bucket, "Key": "k"}
    assert error_of(s3.copy_object, Bucket=bucket, Key="k", CopySource=source) == (400, "InvalidRequest")
    s3.copy_object(Bucket=bucket, Key="k", CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"})
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"]) == (noise[:100000], {"b": "2"})


def test_copy_with_another_checksum(s3, bucket, noise):
    s3.put_object(Bucket=bucket, Key="k", Body=noise[:100000], ChecksumAlgorithm="CRC32")
    result = s3.copy_object(
        Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "k"}, ChecksumAlgorithm="SHA256"
    )["CopyObjectResult"]
    assert result["ChecksumSHA256"] == checksum("SHA256", noise[:100000])


def test_copy_between_buckets_and_odd_names(s3, bucket):
    s3.create_bucket(Bucket=bucket + "-2")
    for key in ("plus+ and space", "ü/漢", "a?b=c&d", "percent%41", "/lead//double"):
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
        s3.copy_object(Bucket=bucket + "-2", Key=key, CopySource={"Bucket": bucket, "Key": key})
        assert body_of(s3, bucket + "-2", key) == key.encode()


COPY_ERRORS = {
    "no slash": ("nothing", 400, "InvalidArgument"),
    "missing bucket": ("no-such-bucket/k", 404, "NoSuchBucket"),
    "missing key": ("BUCKET/none", 404, "NoSuchKey"),
    "bad version": ("BUCKET/k?versionId=1", 400, "InvalidArgument"),
    "bad directive": ("BUCKET/k", 400, "InvalidArgument"),
}


@pytest.mark.parametrize("case", COPY_ERRORS)
def test_copy_errors(server, bucket, case):
    source, status, code = COPY_ERRORS[case]
    request(server, "PUT", bucket, "k", body=b"x")
    headers = {"x-amz-copy-source": source.replace("BUCKET", bucket)}
    if case == "bad directive":
        headers["x-amz-metadata-directive"] = "MOVE"
    answer = request(server, "PUT", bucket, "t", headers=headers)
    if case == "bad version":
        assert answer.status in (400, 404), answer
    else:
        assert (answer.status, answer.code) == (status, code), answer


# GetObjectAttributes


def test_attributes(s3, bucket, noise):
    everything = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
    s3.put_object(Bucket=bucket, Key="k", Body=noise[:1000], ChecksumAlgorithm="SHA1")
    answer = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=everything)
    assert answer["ETag"] == hashlib.md5(noise[:1000]).hexdigest()
    assert answer["Checksum"]["ChecksumSHA1"] == checksum("SHA1", noise[:1000])
    assert (answer["ObjectSize"], answer["StorageClass"]) == (1000, "STANDARD")
    assert "ObjectParts" not in answer
    parts = [noise[:PART], noise[:PART], noise[:77]]
    upload_parts(s3, bucket, "m", parts, ChecksumAlgorithm="CRC32")
    answer = s3.get_object_attributes(Bucket=bucket, Key="m", ObjectAttributes=everything, MaxParts=2)
    listed = answer["ObjectParts"]
    assert (answer["ObjectSize"], listed["TotalPartsCount"], listed["IsTruncated"]) == (2 * PART + 77, 3, True)
    assert [(part["PartNumber"], part["Size"]) for part in listed["Parts"]] == [(1, PART), (2, PART)]
    assert listed["Parts"][0]["ChecksumCRC32"] == checksum("CRC32", parts[0])
    answer = s3.get_object_attributes(
        Bucket=bucket, Key="m", ObjectAttributes=["ObjectParts"], PartNumberMarker=listed["NextPartNumberMarker"]
    )
    assert [part["PartNumber"] for part in answer["ObjectParts"]["Parts"]] == [3]
    assert error_of(s3.get_object_attributes, Bucket=bucket, Key="m", ObjectAttributes=["Nonsense"]) == (
        400, "InvalidArgument")  # fmt: skip


# Multipart uploads


def complete_body(parts):
    items = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts)
    return f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()


def upload_parts(s3, bucket, key, parts, **created):
    """A whole multipart upload; the answer of Complete."""
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **created)["UploadId"]
    algorithm = created.get("ChecksumAlgorithm")
    done = []
    for number, part in enumerate(parts, 1):
        named = {"ChecksumAlgorithm": algorithm} if algorithm else {}
        answer = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=part, **named)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
        if algorithm:
            done[-1][f"Checksum{algorithm}"] = answer[f"Checksum{algorithm}"]
    return s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done})


def test_multipart_life(s3, bucket, noise):
    parts = [noise[:PART], noise[1 : PART + 2], noise[:1]]
    created = s3.create_multipart_upload(
        Bucket=bucket, Key="m", Metadata={"a": "1"}, ContentType="text/m", CacheControl="no-store"
    )
    assert (created["Bucket"], created["Key"]) == (bucket, "m")
    upload = {"Bucket": bucket, "Key": "m", "UploadId": created["UploadId"]}
    etags = {}
    for number in (3, 1, 2):  # any order
        etags[number] = s3.upload_part(PartNumber=number, Body=parts[number - 1], **upload)["ETag"]
        assert etags[number] == f'"{hashlib.md5(parts[number - 1]).hexdigest()}"'
    assert error_of(s3.get_object, Bucket=bucket, Key="m") == (404, "NoSuchKey")
    listed = s3.list_parts(**upload)
    assert [(part["PartNumber"], part["Size"], part["ETag"]) for part in listed["Parts"]] == [
        (number, len(parts[number - 1]), etags[number]) for number in (1, 2, 3)
    ]
    assert [entry["Key"] for entry in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["m"]
    named = {"Parts": [{"PartNumber": number, "ETag": etags[number]} for number in (1, 2, 3)]}
    done = s3.complete_multipart_upload(MultipartUpload=named, **upload)
    assert done["ETag"] == f'"{wire.multipart_etag(parts)}"'
    assert done["Bucket"] == bucket and done["Key"] == "m" and done["Location"]
    got = s3.get_object(Bucket=bucket, Key="m")
    assert got["Body"].read() == b"".join(parts)
    assert (got["Metadata"], got["ContentType"], got["CacheControl"]) == ({"a": "1"}, "text/m", "no-store")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    again = s3.complete_multipart_upload(MultipartUpload=named, **upload)  # the answer was lost
    assert again["ETag"] == done["ETag"]
    assert error_of(s3.list_parts, **upload) == (404, "NoSuchUpload")
    edge = s3.get_object(Bucket=bucket, Key="m", Range=f"bytes={PART - 10}-{PART + 10}")["Body"].read()
    assert edge == b"".join(parts)[PART - 10 : PART + 11]


def test_parts_left_out_or_overwritten(s3, bucket, noise):
    upload = {"Bucket": bucket, "Key": "m"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    old = s3.upload_part(PartNumber=2, Body=noise[:PART], **upload)["ETag"]
    first = s3.upload_part(PartNumber=2, Body=noise[7 : PART + 7], **upload)["ETag"]
    s3.upload_part(PartNumber=5, Body=noise[:100], **upload)
    last = s3.upload_part(PartNumber=9, Body=noise[:9], **upload)["ETag"]
    wrong = {"Parts": [{"PartNumber": 2, "ETag": old}, {"PartNumber": 9, "ETag": last}]}
    assert error_of(s3.complete_multipart_upload, MultipartUpload=wrong, **upload) == (400, "InvalidPart")
    right = {"Parts": [{"PartNumber": 2, "ETag": first}, {"PartNumber": 9, "ETag": last}]}
    s3.complete_multipart_upload(MultipartUpload=right, **upload)
    assert body_of(s3, bucket, "m") == noise[7 : PART + 7] + noise[:9]


def test_complete_errors(server, s3, bucket, noise):
    upload = {"Bucket": bucket, "Key": "m"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    big = s3.upload_part(PartNumber=1, Body=noise[:PART], **upload)["ETag"]
    small = s3.upload_part(PartNumber=2, Body=noise[:10], **upload)["ETag"]
    last = s3.upload_part(PartNumber=3, Body=noise[:11], **upload)["ETag"]
    query = [("uploadId", upload["UploadId"])]
    for case, body, code in (
        ("small part in the middle", complete_body([(1, big), (2, small), (3, last)]), "EntityTooSmall"),
        ("missing part", complete_body([(1, big), (4, last)]), "InvalidPart"),
        ("wrong ETag", complete_body([(1, small)]), "InvalidPart"),
        ("wrong order", complete_body([(3, last), (1, big)]), "InvalidPartOrder"),
        ("twice", complete_body([(1, big), (1, big)]), "InvalidPartOrder"),
        ("no parts", complete_body([]), "MalformedXML"),
        ("part 0", complete_body([(0, big)]), "MalformedXML InvalidArgument InvalidPart"),
        ("part 10001", complete_body([(10001, big)]), "MalformedXML InvalidArgument InvalidPart"),
        ("no XML", b"{}", "MalformedXML"),
        ("empty", b"", "MalformedXML InvalidRequest MissingRequestBodyError"),
    ):
        answer = request(server, "POST", bucket, "m", query=query, body=body)
        assert answer.status == 400 and answer.code in code.split(), (case, answer)
    assert len(s3.list_parts(**upload)["Parts"]) == 3, "a refused Complete changes nothing"
    s3.abort_multipart_upload(**upload)


NO_SUCH_UPLOAD = {
    "UploadPart": lambda s3, u: s3.upload_part(PartNumber=1, Body=b"x", **u),
    "UploadPart of blocks": lambda s3, u: s3.upload_part(PartNumber=1, Body=bytes(MIB), **u),
    "UploadPartCopy": lambda s3, u: s3.upload_part_copy(PartNumber=1, CopySource=f"{u['Bucket']}/source", **u),
    "ListParts": lambda s3, u: s3.list_parts(**u),
    "CompleteMultipartUpload": lambda s3, u: s3.complete_multipart_upload(
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": "0" * 32}]}, **u
    ),
    "AbortMultipartUpload": lambda s3, u: s3.abort_multipart_upload(**u),
}


@pytest.mark.parametrize("operation", NO_SUCH_UPLOAD)
@pytest.mark.parametrize("kind", ["garbage", "aborted", "another key"])
def test_no_such_upload(s3, bucket, operation, kind):
    s3.put_object(Bucket=bucket, Key="source", Body=b"x")
    upload = {"Bucket": bucket, "Key": "m", "UploadId": "no-such-upload"}
    if kind != "garbage":
        upload["UploadId"] = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    if kind == "aborted":
        assert s3.abort_multipart_upload(**upload)["ResponseMetadata"]["HTTPStatusCode"] == 204
    if kind == "another key":
        upload["Key"] = "other"
    assert error_of(NO_SUCH_UPLOAD[operation], s3, upload) == (404, "NoSuchUpload")


@pytest.mark.parametrize("number", ["0", "10001", "-1", "x", ""])
def test_bad_part_numbers(server, s3, bucket, number):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    answer = request(server, "PUT", bucket, "m", query=[("partNumber", number), ("uploadId", upload)], body=b"x")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256", "CRC32C"])
def test_composite_checksums(server, bucket, noise, algorithm):
    parts = [noise[:PART], noise[:1000]]
    if algorithm == "CRC32C":  # slow in Python
        parts = [noise[:3000]]
    name, element = f"x-amz-checksum-{algorithm.lower()}", f"Checksum{algorithm}"
    answer = request(
        server, "POST", bucket, "m", query=[("uploads", "")], headers={"x-amz-checksum-algorithm": algorithm}
    )
    assert answer.headers["x-amz-checksum-algorithm"] == algorithm
    assert answer.headers["x-amz-checksum-type"] == "COMPOSITE"
    upload, items = answer.text("UploadId"), ""
    for number, part in enumerate(parts, 1):
        query = [("partNumber", number), ("uploadId", upload)]
        value = checksum(algorithm, part)
        etag = request(server, "PUT", bucket, "m", query=query, headers={name: value}, body=part).headers["ETag"]
        items += f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><{element}>{value}</{element}></Part>"
    listed = request(server, "GET", bucket, "m", query=[("uploadId", upload)])
    assert listed.all(f"Part/{element}") == [checksum(algorithm, part) for part in parts]
    body = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>"
    wrong = body.replace(checksum(algorithm, parts[0]), checksum(algorithm, b"other"))
    answer = request(server, "POST", bucket, "m", query=[("uploadId", upload)], body=wrong.encode())
    assert (answer.status, answer.code) in ((400, "InvalidPart"), (400, "BadDigest"))
    headers = {name: wire.composite(algorithm, [b"other"])}
    answer = request(server, "POST", bucket, "m", query=[("uploadId", upload)], headers=headers, body=body.encode())
    assert (answer.status, answer.code) in ((400, "BadDigest"), (400, "InvalidRequest"))
    whole = wire.composite(algorithm, parts)
    answer = request(
        server, "POST", bucket, "m", query=[("uploadId", upload)], headers={name: whole}, body=body.encode()
    )
    assert (answer.status, answer.text(element), answer.text("ChecksumType")) == (200, whole, "COMPOSITE")
    head = request(server, "HEAD", bucket, "m", headers={"x-amz-checksum-mode": "ENABLED"})
    assert (head.headers[name], head.headers["x-amz-checksum-type"]) == (whole, "COMPOSITE")


def test_full_object_checksum_of_parts(server, s3, bucket, noise):
    parts = [noise[:PART], noise[3:2003]]
    for algorithm in ("CRC32", "CRC64NVME"):
        created = s3.create_multipart_upload(
            Bucket=bucket, Key="m", ChecksumAlgorithm=algorithm, ChecksumType="FULL_OBJECT"
        )
        assert created["ChecksumType"] == "FULL_OBJECT"
        etags = [
            request(server, "PUT", bucket, "m", query=[("partNumber", n), ("uploadId", created["UploadId"])], body=part)
            .headers["ETag"]
            for n, part in enumerate(parts, 1)
        ]  # fmt: skip
        answer = request(
            server, "POST", bucket, "m", query=[("uploadId", created["UploadId"])],
            body=complete_body(enumerate(etags, 1)),
        )  # fmt: skip
        assert answer.text(f"Checksum{algorithm}") == checksum(algorithm, b"".join(parts)), answer
        assert answer.text("ChecksumType") == "FULL_OBJECT"
    answer = request(
        server, "POST", bucket, "m", query=[("uploads", "")],
        headers={"x-amz-checksum-algorithm": "SHA256", "x-amz-checksum-type": "FULL_OBJECT"},
    )  # fmt: skip
    assert (answer.status, answer.code) == (400, "InvalidRequest")


def test_declared_size_of_a_multipart_object(server, s3, bucket, noise):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="m", UploadId=upload, PartNumber=1, Body=noise[:100])["ETag"]
    for size, status in (("99", 400), ("100", 200)):
        answer = request(
            server, "POST", bucket, "m", query=[("uploadId", upload)], headers={"x-amz-mp-object-size": size},
            body=complete_body([(1, etag)]),
        )  # fmt: skip
        assert answer.status == status, answer


def test_upload_part_copy(s3, bucket, noise):
    s3.put_object(Bucket=bucket, Key="src", Body=noise[: 6 * MIB])
    upload = {"Bucket": bucket, "Key": "m"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    source = {"Bucket": bucket, "Key": "src"}
    one = s3.upload_part_copy(PartNumber=1, CopySource=source, CopySourceRange=f"bytes=100-{PART + 99}", **upload)
    two = s3.upload_part_copy(PartNumber=2, CopySource=source, **upload)
    assert one["CopyPartResult"]["ETag"] == f'"{hashlib.md5(noise[100 : PART + 100]).hexdigest()}"'
    parts = [{"PartNumber": n, "ETag": p["CopyPartResult"]["ETag"]} for n, p in ((1, one), (2, two))]
    for text in ("bytes=0-", "bytes=-5", "0-5", f"bytes=0-{6 * MIB}", "bytes=9-8"):
        assert error_of(
            s3.upload_part_copy, PartNumber=3, CopySource=source, CopySourceRange=text, **upload
        ) == (400, "InvalidArgument"), text
    s3.delete_object(Bucket=bucket, Key="src")
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
    assert body_of(s3, bucket, "m") == noise[100 : PART + 100] + noise[: 6 * MIB]


def test_list_parts_pages(s3, bucket):
    upload = {"Bucket": bucket, "Key": "m"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    numbers = [1, 2, 3, 10, 11, 500, 10000]
    for number in numbers:
        s3.upload_part(PartNumber=number, Body=b"x" * number, **upload)
    found, marker = [], 0
    for _ in range(10):
        page = s3.list_parts(MaxParts=3, PartNumberMarker=marker, **upload)
        assert len(page["Parts"]) <= 3 and page["MaxParts"] == 3
        found += [part["PartNumber"] for part in page["Parts"]]
        if not page["IsTruncated"]:
            break
        marker = page["NextPartNumberMarker"]
    assert found == numbers
    s3.abort_multipart_upload(**upload)


def test_list_uploads_pages(s3, bucket):
    uploads = []
    for key in ("a", "b", "b", "b/x", "b/y", "c ü"):
        uploads.append((key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]))
    for size in (1, 2, 3, 100):
        found, markers = [], {}
        for _ in range(20):
            page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=size, **markers)
            found += [(entry["Key"], entry["UploadId"]) for entry in page.get("Uploads", [])]
            if not page["IsTruncated"]:
                break
            markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
        assert [key for key, _ in found] == [key for key, _ in uploads]
        assert sorted(found) == sorted(uploads)
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [entry["Key"] for entry in page["Uploads"]] == ["a", "b", "b", "c ü"]
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["b/"]
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="b/")
    assert [entry["Key"] for entry in page["Uploads"]] == ["b/x", "b/y"]
    page = s3.list_multipart_uploads(Bucket=bucket, KeyMarker="b")
    assert [entry["Key"] for entry in page["Uploads"]] == ["b/x", "b/y", "c ü"]
    for key, upload in uploads:
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    s3.delete_bucket(Bucket=bucket)


def test_an_upload_in_progress_does_not_hold_its_bucket(s3, bucket):
    """DeleteBucket needs all objects gone; S3 does not count uploads in progress, but may refuse for them."""
    s3.create_multipart_upload(Bucket=bucket, Key="m")
    try:
        s3.delete_bucket(Bucket=bucket)
    except botocore.exceptions.ClientError as error:
        assert error.response["Error"]["Code"] == "BucketNotEmpty"
    else:
        s3.create_bucket(Bucket=bucket)
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


# ACL, tagging, settings that are not made


def test_acl_of_buckets_and_objects(server, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for named in ({"call": s3.get_bucket_acl}, {"call": s3.get_object_acl, "Key": "k"}):
        answer = named.pop("call")(Bucket=bucket, **named)
        grant = answer["Grants"][0]
        assert (len(answer["Grants"]), grant["Permission"]) == (1, "FULL_CONTROL")
        assert grant["Grantee"]["ID"] == answer["Owner"]["ID"]
    s3.put_bucket_acl(Bucket=bucket, ACL="private")
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="bucket-owner-full-control")
    refused = (400, "AccessControlListNotSupported")
    assert error_of(s3.put_bucket_acl, Bucket=bucket, ACL="public-read") == refused
    assert error_of(s3.put_object_acl, Bucket=bucket, Key="k", ACL="public-read") == refused


NOT_CONFIGURED = {
    "policy": (404, "NoSuchBucketPolicy"),
    "policyStatus": (404, "NoSuchBucketPolicy"),
    "lifecycle": (404, "NoSuchLifecycleConfiguration"),
    "encryption": (404, "ServerSideEncryptionConfigurationNotFoundError"),
    "cors": (404, "NoSuchCORSConfiguration"),
    "tagging": (404, "NoSuchTagSet"),
    "object-lock": (404, "ObjectLockConfigurationNotFoundError"),
    "website": (404, "NoSuchWebsiteConfiguration"),
    "replication": (404, "ReplicationConfigurationNotFoundError"),
    "publicAccessBlock": (404, "NoSuchPublicAccessBlockConfiguration"),
    "versioning": (200, None),
    "notification": (200, None),
    "logging": (200, None),
    "requestPayment": (200, None),
    "accelerate": (200, None),
}


@pytest.mark.parametrize("setting", NOT_CONFIGURED)
def test_settings_that_were_never_made(server, bucket, setting):
    status, code = NOT_CONFIGURED[setting]
    answer = request(server, "GET", bucket, query=[(setting, "")])
    assert (answer.status, answer.code) == (status, code), answer
    if setting == "requestPayment":
        assert answer.text("Payer") == "BucketOwner"


def test_object_settings_that_were_never_made(server, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    for setting in ("retention", "legal-hold"):
        answer = request(server, "GET", bucket, "k", query=[(setting, "")])
        assert answer.status in (400, 404) and answer.code in (
            "NoSuchObjectLockConfiguration", "InvalidRequest"), answer  # fmt: skip


NOT_IMPLEMENTED = [
    ("PUT", "policy"), ("PUT", "lifecycle"), ("PUT", "versioning"), ("PUT", "encryption"),
    ("PUT", "website"), ("PUT", "replication"), ("PUT", "notification"), ("PUT", "object-lock"),
    ("PUT", "logging"), ("PUT", "publicAccessBlock"), ("GET", "inventory"), ("GET", "metrics"), ("GET", "analytics"),
    ("PUT", "unheard-of"), ("GET", "unheard-of"),
]  # fmt: skip


@pytest.mark.parametrize("method,setting", NOT_IMPLEMENTED)
def test_the_rest_is_501_on_buckets(server, bucket, method, setting):
    query = [(setting, "")] if setting else []
    answer = request(server, method, bucket, query=query, body=b"<x/>" if method == "PUT" else b"")
    assert (answer.status, answer.code) == (501, "NotImplemented"), answer


@pytest.mark.parametrize(
    "method,setting",
    [("PUT", "retention"), ("PUT", "legal-hold"), ("POST", "restore"),
     ("POST", "select"), ("GET", "torrent"), ("PUT", "renameObject"), ("PUT", "unheard-of"), ("DELETE", "unheard-of")],
)  # fmt: skip
def test_the_rest_is_501_on_objects(server, bucket, method, setting):
    request(server, "PUT", bucket, "k", body=b"stays")
    answer = request(server, method, bucket, "k", query=[(setting, "")], body=b"<x/>" if method != "GET" else b"")
    assert (answer.status, answer.code) == (501, "NotImplemented"), answer
    assert request(server, "GET", bucket, "k").body == b"stays", "a false PUT or DELETE"


def test_versions_of_an_unversioned_bucket(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    listed = s3.list_object_versions(Bucket=bucket)
    assert [(v["Key"], v["VersionId"], v["IsLatest"]) for v in listed["Versions"]] == [("k", "null", True)]
    assert "DeleteMarkers" not in listed
    assert s3.get_object(Bucket=bucket, Key="k", VersionId="null")["Body"].read() == b"x"
    status, code = error_of(s3.get_object, Bucket=bucket, Key="k", VersionId="3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrH")
    assert code in ("NoSuchVersion", "InvalidArgument") and status in (404, 400)
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert "Versions" not in s3.list_object_versions(Bucket=bucket)


# Who asks, and how


def test_anonymous_requests_are_denied(server, bucket):
    request(server, "PUT", bucket, "k", body=b"x")
    for method, path in (
        ("GET", "/"), ("GET", f"/{bucket}"), ("GET", f"/{bucket}/k"), ("PUT", f"/{bucket}/new"),
        ("DELETE", f"/{bucket}/k"), ("GET", f"/{bucket}/none"), ("PUT", "/new-bucket-here"), ("GET", "/no-such-bucket"),
    ):  # fmt: skip
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request(method, path)
        response = connection.getresponse()
        assert response.status == 403 and b"<Code>AccessDenied</Code>" in response.read(), (method, path)
        connection.close()
    assert request(server, "GET", bucket, "k").body == b"x"


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-3", "anything-1"])
def test_any_region_of_the_signature_is_accepted(server, bucket, region):
    signer = wire.Signer(server.signer.access_key, server.signer.secret_key, region)
    assert request(server, "GET", bucket, signer=signer).status == 200


def test_virtual_host_style(server, bucket):
    port = server.port
    with Connection(server) as connection:
        connection.host = f"{bucket}.{DOMAIN}:{port}"
        assert connection.request("PUT", "/folder/k", body=b"body").status == 200
        assert connection.request("GET", "/folder/k").body == b"body"
        assert connection.request("GET", "/", [("list-type", "2")]).all("Contents/Key") == ["folder/k"]
        assert connection.request("HEAD", "/").status == 200
        connection.host = f"{DOMAIN}:{port}"
        assert connection.request("GET", f"/{bucket}/folder/k").body == b"body"
        assert bucket in connection.request("GET", "/").all("Buckets/Bucket/Name")
        connection.host = f"no-such-bucket.{DOMAIN}:{port}"
        assert connection.request("GET", "/k").code == "NoSuchBucket"
    assert request(server, "GET", bucket, "folder/k").body == b"body"


def test_region_flag(new_server):
    server = new_server(flags=["--region", "eu-central-1"]).start()
    right = wire.Signer(server.signer.access_key, server.signer.secret_key, "eu-central-1")
    assert request(server, "GET", signer=right).status == 200
    answer = request(server, "GET")
    assert (answer.status, answer.code) == (400, "AuthorizationHeaderMalformed")
    assert answer.text("Region") == "eu-central-1"


def test_unsigned_payload_flag(new_server):
    server = new_server(flags=["--refuse-unsigned-payload"]).start()
    assert request(server, "PUT", "bucket").status == 200
    answer = request(server, "PUT", "bucket", "k", body=b"x", payload=wire.UNSIGNED)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert request(server, "PUT", "bucket", "k", body=b"x").status == 200


# Keys


@pytest.mark.parametrize(
    "key",
    ["/", "//", "/leading", "trailing/", "a//b", ".", "..", "../up", "a/./b", "a/../b", " ", " a ", "+", "%",
     "%00x", "%2F", "a%2Fb", "?", "#", "a?b#c", "&=;", "ü", "漢字", "🐚", "\t", "\x01\x1f", "\x7f", "~-_.!*'()", "a" * 1024,
     "ü" * 512, "null", "<&>\"'"],
)  # fmt: skip
def test_keys_are_opaque(server, bucket, key):
    body = key.encode()
    assert request(server, "PUT", bucket, key, body=body).status == 200
    assert request(server, "GET", bucket, key).body == body
    listed = request(server, "GET", bucket, query=[("list-type", "2"), ("encoding-type", "url")])
    assert [wire.urllib.parse.unquote(text) for text in listed.all("Contents/Key")] == [key]
    assert request(server, "DELETE", bucket, key).status == 204
    assert request(server, "GET", bucket, query=[("list-type", "2")]).all("Contents/Key") == []


BAD_KEYS = {
    "1025 bytes": ("a" * 1025, "KeyTooLongError"),
    "NUL": ("a%00b", "InvalidURI"),
    "not UTF-8": ("a%FF%FEb", "InvalidURI"),
    "half a surrogate": ("%ED%A0%80", "InvalidURI"),
    "bad escape": ("a%zzb", "InvalidURI"),
    "cut escape": ("a%2", "InvalidURI"),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_bad_keys(server, bucket, case):
    raw, code = BAD_KEYS[case]
    with Connection(server) as connection:
        for method in ("PUT", "GET", "DELETE"):
            answer = connection.request(method, f"/{bucket}/{raw}")
            assert (answer.status, answer.code) == (400, code), method
    assert request(server, "GET", bucket, query=[("list-type", "2")]).all("Contents/Key") == []


def test_last_modified_is_when_it_was_written(s3, bucket):
    before = int(time.time())
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    after = time.time() + 1
    shown = s3.head_object(Bucket=bucket, Key="k")["LastModified"].timestamp()
    assert before <= shown <= after
    entry = s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert int(entry["LastModified"].timestamp()) == int(shown)
    assert (entry["Size"], entry["StorageClass"]) == (1, "STANDARD")
