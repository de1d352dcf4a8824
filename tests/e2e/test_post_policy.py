"""Browser uploads: boto3's generate_presigned_post, and forms built by hand for each condition and each error.

What is expected stands in the S3 API Reference, "Browser-Based Uploads Using POST" and "POST Object".
"""

import base64
import datetime
import hashlib
import hmac
import json
import re
import time
import urllib.request

import botocore.exceptions
import pytest

from conftest import DOMAIN
from server import ACCESS_KEY, SECRET_KEY
from wire import Answer, Connection, checksum, md5_text

MIB = 1 << 20
BOUNDARY = "----WebKitFormBoundary7MA4YWxkTrZu0gW"


def part(name, value, attributes="", headers=""):
    value = value if isinstance(value, bytes) else value.encode()
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{attributes}\r\n{headers}\r\n'
    return head.encode() + value + b"\r\n"


def file_part(content, filename="photo.jpg", name="file"):
    return part(name, content, f'; filename="{filename}"', "Content-Type: application/octet-stream\r\n")


def form(fields, content=b"hello", filename="photo.jpg"):
    pairs = fields.items() if isinstance(fields, dict) else fields
    parts = b"".join(part(name, value) for name, value in pairs)
    return parts + file_part(content, filename) + f"--{BOUNDARY}--\r\n".encode()


def send(server, bucket, body, headers=None, host=None, target=None):
    """The answer to a form, sent as a browser does: without anything of S3 in the head."""
    with Connection(server) as connection:
        headers = {
            "host": host or connection.host,
            "content-type": f"multipart/form-data; boundary={BOUNDARY}",
            "content-length": str(len(body)),
        } | (headers or {})
        headers = {name: value for name, value in headers.items() if value is not None}
        connection.send(connection.head("POST", target or f"/{bucket}", headers) + body)
        return connection.read_answer("POST")


def policy_text(conditions, expiration=None):
    moment = datetime.datetime.now(datetime.timezone.utc) + (expiration or datetime.timedelta(hours=1))
    document = {"expiration": moment.strftime("%Y-%m-%dT%H:%M:%SZ"), "conditions": conditions}
    return base64.b64encode(json.dumps(document).encode()).decode()


def sign_v4(policy, when=None, region="us-east-1", access=ACCESS_KEY, secret=SECRET_KEY):
    """Fields of version 4; `policy` is a function of the conditions that they need."""
    when = when or datetime.datetime.now(datetime.timezone.utc)
    day = when.strftime("%Y%m%d")
    fields = {
        "x-amz-algorithm": "AWS4-HMAC-SHA256",
        "x-amz-credential": f"{access}/{day}/{region}/s3/aws4_request",
        "x-amz-date": when.strftime("%Y%m%dT%H%M%SZ"),
    }
    text = policy([{name: value} for name, value in fields.items()])
    key = b"AWS4" + secret.encode()
    for word in (day, region, "s3", "aws4_request", text):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return fields | {"policy": text, "x-amz-signature": key.hex()}


def sign_v2(text):
    digest = hmac.new(SECRET_KEY.encode(), text.encode(), hashlib.sha1).digest()
    return {"AWSAccessKeyId": ACCESS_KEY, "policy": text, "signature": base64.b64encode(digest).decode()}


def signed(bucket, conditions, fields, expiration=None, **rest):
    """All fields of a form whose policy holds the bucket, the credential and `conditions`."""

    def policy(own):
        return policy_text([{"bucket": bucket}, *own, *conditions], expiration)

    return fields | sign_v4(policy, **rest)


def post(server, bucket, conditions=(), fields=None, content=b"hello", filename="photo.jpg", **rest):
    fields = {"key": "k"} | (fields or {})
    conditions = [["starts-with", "$key", ""], *conditions]
    return send(server, bucket, form(signed(bucket, conditions, fields, **rest), content, filename))


def exists(s3, bucket, key):
    try:
        s3.head_object(Bucket=bucket, Key=key)
        return True
    except botocore.exceptions.ClientError:
        return False


@pytest.mark.parametrize("version", ["s3v4", "s3", None])
def test_boto3_presigned_post(server, s3, bucket, version):
    client = server.client(signature_version=version) if version else server.client()
    made = client.generate_presigned_post(
        bucket,
        "up/${filename}",
        Fields={"Content-Type": "image/png", "success_action_status": "201"},
        Conditions=[{"Content-Type": "image/png"}, {"success_action_status": "201"}, ["content-length-range", 0, MIB]],
    )
    request = urllib.request.Request(
        made["url"],
        form(made["fields"], b"png", "a b.png"),
        {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    )
    with urllib.request.urlopen(request) as response:
        assert response.status == 201
        answer = Answer.__new__(Answer)
        answer.body = response.read()
    assert answer.text("Key") == "up/a b.png"
    assert answer.text("Bucket") == bucket
    assert answer.text("ETag") == f'"{hashlib.md5(b"png").hexdigest()}"'
    assert answer.text("Location") == f"http://127.0.0.1:{server.port}/{bucket}/up%2Fa%20b.png"
    got = s3.get_object(Bucket=bucket, Key="up/a b.png")
    assert got["Body"].read() == b"png"
    assert got["ContentType"] == "image/png"


def test_a_form_that_was_changed_is_refused(server, s3, bucket):
    made = server.client(signature_version="s3v4").generate_presigned_post(bucket, "mine")
    for name, value in [("key", "yours"), ("policy", made["fields"]["policy"][:-8] + "AAAAAAA="), ("acl", "private")]:
        answer = send(server, bucket, form(made["fields"] | {name: value}))
        assert answer.status in (400, 403), answer
        assert not exists(s3, bucket, value)
    assert send(server, bucket, form(made["fields"])).status == 204
    assert exists(s3, bucket, "mine")


def test_a_form_becomes_an_object_with_its_headers(server, s3, bucket):
    fields = {
        "Content-Type": "text/x; charset=utf-8",
        "Cache-Control": "no-cache",
        "Content-Disposition": "inline",
        "Content-Encoding": "gzip",
        "Content-Language": "de",
        "Expires": "Fri, 21 Mar 2036 00:00:00 GMT",
        "x-amz-meta-Author": "somebody",
        "x-amz-website-redirect-location": "/there",
        "x-amz-storage-class": "STANDARD",
        "acl": "private",
        "Content-MD5": md5_text(b"hello"),
        "x-amz-checksum-sha256": checksum("SHA256", b"hello"),
    }
    conditions = [["starts-with", f"${name}", ""] for name in fields]
    answer = post(server, bucket, conditions, fields | {"x-ignore-this": "1"})
    assert answer.status == 204, answer
    assert answer.headers["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert answer.headers["x-amz-checksum-sha256"] == checksum("SHA256", b"hello")
    assert answer.body == b""
    got = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["ContentType"] == "text/x; charset=utf-8"
    assert got["CacheControl"] == "no-cache"
    assert got["ContentDisposition"] == "inline"
    assert got["ContentEncoding"] == "gzip"
    assert got["ContentLanguage"] == "de"
    assert got["WebsiteRedirectLocation"] == "/there"
    assert got["Metadata"] == {"author": "somebody"}
    assert got["ChecksumSHA256"] == checksum("SHA256", b"hello")


def test_headers_and_query_of_the_request_mean_nothing(server, s3, bucket):
    headers = {"x-amz-meta-sneaked": "1", "x-amz-acl": "public-read", "cache-control": "no-store"}
    fields = signed(bucket, [{"key": "k"}], {"key": "k"})
    answer = send(server, bucket, form(fields), headers, target=f"/{bucket}?versionId=abc")
    assert answer.status == 204, answer
    got = s3.head_object(Bucket=bucket, Key="k")
    assert got["Metadata"] == {}
    assert got["ContentType"] == "binary/octet-stream"
    assert "CacheControl" not in got


def test_the_bucket_may_be_in_the_host(server, s3, bucket):
    fields = {"key": "a/b c", "success_action_status": "201"}
    fields = signed(bucket, [{name: value} for name, value in fields.items()], fields)
    answer = send(server, bucket, form(fields), host=f"{bucket}.{DOMAIN}", target="/")
    assert answer.status == 201, answer
    assert answer.text("Location") == f"http://{bucket}.{DOMAIN}/a%2Fb%20c"
    assert s3.get_object(Bucket=bucket, Key="a/b c")["Body"].read() == b"hello"


def test_success_action_redirect(server, bucket):
    etag = hashlib.md5(b"hello").hexdigest()
    for name in ("success_action_redirect", "redirect"):
        url = "http://127.0.0.1/done?a=b"
        answer = post(server, bucket, [["eq", f"${name}", url]], {name: url, "key": "d/k&"})
        assert answer.status == 303, answer
        assert answer.headers["Location"] == f"{url}&bucket={bucket}&key=d%2Fk%26&etag=%22{etag}%22"


FILE_NAMES = [
    ("photo.jpg", "photo.jpg"),
    ("C:\\Users\\me\\photo.jpg", "photo.jpg"),
    ("/home/me/photo.jpg", "photo.jpg"),
    ("sm\u00f8rrebr\u00f8d \u2603.txt", "sm\u00f8rrebr\u00f8d \u2603.txt"),
    ("a%22b", 'a"b'),
    ("", ""),
]


@pytest.mark.parametrize("sent,kept", FILE_NAMES)
def test_filename_stands_in_the_key(server, s3, bucket, sent, kept):
    key = "user/${filename}/x-${filename}"
    answer = post(server, bucket, [["starts-with", "$key", f"user/{kept}"]], {"key": key}, filename=sent)
    assert answer.status == 204, answer
    assert exists(s3, bucket, f"user/{kept}/x-{kept}")


@pytest.mark.parametrize("content", [b"", b"x", b"\r\n", b"\r\n--", f"\r\n--{BOUNDARY[:-1]}".encode(), b"-\r" * 40000])
def test_content_is_kept_byte_by_byte(server, s3, bucket, content):
    assert post(server, bucket, content=content).status == 204
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == content


def test_a_large_file(server, s3, bucket, noise):
    content = noise * 9  # more than one block
    answer = post(server, bucket, [["content-length-range", 0, len(content)]], content=content)
    assert answer.status == 204, answer
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
    assert hashlib.md5(got["Body"].read()).digest() == hashlib.md5(content).digest()


def test_pieces_of_any_size(server, s3, bucket, noise):
    body = form(signed(bucket, [{"key": "k"}], {"key": "k"}), noise[:3000])
    with Connection(server) as connection:
        headers = {
            "host": connection.host,
            "content-type": f'multipart/form-data; boundary="{BOUNDARY}"',
            "content-length": str(len(body)),
        }
        connection.send(connection.head("POST", f"/{bucket}", headers))
        for start in range(0, len(body), 211):
            connection.send(body[start : start + 211])
            time.sleep(0.001)
        assert connection.read_answer("POST").status == 204
        assert connection.request("GET", f"/{bucket}/k").body == noise[:3000]  # the connection goes on


CONDITIONS = [
    # conditions, fields, the message of the refusal or None
    ([{"x-amz-meta-a": "1"}], {"x-amz-meta-a": "1"}, None),
    ([["eq", "$x-amz-meta-a", "1"]], {"x-amz-meta-a": "1"}, None),
    ([["EQ", "$X-Amz-Meta-A", "1"]], {"x-amz-META-a": "1"}, None),
    ([["starts-with", "$x-amz-meta-a", "pre"]], {"x-amz-meta-a": "prefix"}, None),
    ([["starts-with", "$Content-Type", "image/"]], {"Content-Type": "image/png,image/jpeg"}, None),
    ([{"x-amz-meta-a": "1"}], {"x-amz-meta-a": "2"}, 'Policy Condition failed: ["eq", "$x-amz-meta-a", "1"]'),
    ([["eq", "$x-amz-meta-a", "1"]], {"x-amz-meta-a": "2"}, 'Policy Condition failed: ["eq","$x-amz-meta-a","1"]'),
    ([["eq", "$x-amz-meta-a", "1"]], {}, 'Policy Condition failed: ["eq","$x-amz-meta-a","1"]'),
    ([["starts-with", "$key", "z"]], {}, 'Policy Condition failed: ["starts-with","$key","z"]'),
    ([["starts-with", "$Content-Type", "image/"]], {"Content-Type": "image/png,text/html"},
     'Policy Condition failed: ["starts-with","$Content-Type","image/"]'),
    ([{"bucket": "another"}], {}, 'Policy Condition failed: ["eq", "$bucket", "another"]'),
    ([], {"x-amz-meta-a": "1"}, "Extra input fields: x-amz-meta-a"),
    ([], {"success_action_status": "201"}, "Extra input fields: success_action_status"),
    ([], {"x-ignore-a": "1"}, None),
]


@pytest.mark.parametrize("conditions,fields,message", CONDITIONS)
def test_conditions(server, s3, bucket, conditions, fields, message):
    answer = post(server, bucket, conditions, fields)
    if message is None:
        assert answer.status == 204, answer
    else:
        assert (answer.status, answer.code) == (403, "AccessDenied"), answer
        assert answer.text("Message") == f"Invalid according to Policy: {message}"
    assert exists(s3, bucket, "k") == (message is None)


def test_the_bucket_must_be_named_by_a_condition(server, s3, bucket):
    fields = {"key": "k"} | sign_v2(policy_text([{"key": "k"}]))
    answer = send(server, bucket, form(fields))
    assert (answer.status, answer.text("Message")) == (403, "Invalid according to Policy: Extra input fields: bucket")
    assert not exists(s3, bucket, "k")


@pytest.mark.parametrize("sent,range_,code,size", [
    (10, [0, 5], "EntityTooLarge", ("MaxSizeAllowed", "5")),
    (3 * MIB, [0, MIB], "EntityTooLarge", ("MaxSizeAllowed", str(MIB))),
    (2, [100, 1024], "EntityTooSmall", ("MinSizeAllowed", "100")),
    (0, [1, 1024], "EntityTooSmall", ("MinSizeAllowed", "1")),
    (5, [5, 5], None, None),
])
def test_content_length_range(server, s3, bucket, sent, range_, code, size):
    answer = post(server, bucket, [["content-length-range", *range_]], content=b"x" * sent)
    assert exists(s3, bucket, "k") == (code is None)
    if code is None:
        assert answer.status == 204, answer
        return
    assert (answer.status, answer.code) == (400, code), answer
    assert answer.text("ProposedSize") == str(sent)
    assert answer.text(size[0]) == size[1]


def test_a_policy_expires(server, s3, bucket):
    answer = post(server, bucket, expiration=datetime.timedelta(seconds=-5))
    assert (answer.status, answer.text("Message")) == (403, "Invalid according to Policy: Policy expired.")
    old = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=7, minutes=1)
    assert post(server, bucket, when=old).status == 403
    hours = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=30)
    assert not exists(s3, bucket, "k")
    assert post(server, bucket, when=hours).status == 204


@pytest.mark.parametrize("document,message", [
    ("", "Expecting '{' but found End-of-Input"),
    ("[]", "Invalid JSON."),
    ('{"conditions": []}', "Policy missing expiration."),
    ('{"expiration": "2099-01-01T00:00:00Z"}', "Policy missing conditions."),
    ('{"expiration": "soon", "conditions": []}', "Invalid 'expiration' value: 'soon'"),
    ('{"expiration": "2099-01-01T00:00:00Z", "conditions": [["content-length-range", 1]]}',
     "Invalid content-length-range: wrong number of arguments."),
    ("[" * 10000, "Invalid JSON."),
])
def test_a_policy_that_is_none(server, bucket, document, message):
    fields = {"key": "k"} | sign_v2(base64.b64encode(document.encode()).decode())
    answer = send(server, bucket, form(fields))
    assert (answer.status, answer.code) == (400, "InvalidPolicyDocument"), answer
    assert answer.text("Message") == f"Invalid Policy: {message}"


def test_signatures(server, s3, bucket):
    good = signed(bucket, [{"key": "k"}], {"key": "k"})
    wrong = {"x-amz-signature": "0" * 64}
    answer = send(server, bucket, form(good | wrong))
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert answer.text("StringToSign") == good["policy"]
    answer = send(server, bucket, form(signed(bucket, [{"key": "k"}], {"key": "k"}, access="nobody")))
    assert (answer.status, answer.code) == (403, "InvalidAccessKeyId")
    v2 = {"key": "k"} | sign_v2(policy_text([{"bucket": bucket}, {"key": "k"}]))
    assert send(server, bucket, form(v2 | {"signature": base64.b64encode(b"0" * 20).decode()})).status == 403
    assert send(server, bucket, form(good | v2)).status == 400
    answer = send(server, bucket, form({"key": "k"}))
    assert (answer.status, answer.code) == (403, "AccessDenied")
    for name in ("policy", "x-amz-credential", "x-amz-date", "x-amz-algorithm", "x-amz-signature", "key"):
        answer = send(server, bucket, form({n: v for n, v in good.items() if n != name}))
        assert (answer.status, answer.code) == (400, "InvalidArgument"), answer
        assert answer.text("ArgumentName") == name
    answer = send(server, bucket, form(good), {"authorization": "AWS4-HMAC-SHA256 Credential=a"})
    assert answer.status == 400
    assert not exists(s3, bucket, "k")
    assert send(server, bucket, form(v2)).status == 204


def test_forms_that_are_none(server, s3, bucket):
    fields = signed(bucket, [{"key": "k"}], {"key": "k"})
    parts = b"".join(part(name, value) for name, value in fields.items())
    close = f"--{BOUNDARY}--\r\n".encode()
    big = "x" * 21000
    for body, headers, expected in [
        (form(fields), {"content-type": "application/json"}, (412, "PreconditionFailed")),
        (form(fields), {"content-type": None}, (412, "PreconditionFailed")),
        (form(fields), {"content-type": "multipart/form-data"}, (400, "MalformedPOSTRequest")),
        (form(fields), {"content-type": "multipart/form-data; boundary=other"}, (400, "MalformedPOSTRequest")),
        (b"", {}, (400, "MalformedPOSTRequest")),
        (parts, {}, (400, "MalformedPOSTRequest")),
        (form(fields)[:-4], {}, (400, "MalformedPOSTRequest")),
        (form(fields)[: -len(close) - 2], {}, (400, "MalformedPOSTRequest")),
        (parts + close, {}, (400, "IncorrectNumberOfFilesInPostRequest")),
        (parts + file_part(b"1") + file_part(b"2") + close, {}, (400, "IncorrectNumberOfFilesInPostRequest")),
        (part("x-ignore", big) + form(fields), {}, (400, "MaxPostPreDataLengthExceededError")),
        (b"".join(part(f"x-ignore-{i}", "") for i in range(64)) + form(fields), {},
         (400, "MaxPostPreDataLengthExceededError")),
        (part("key", "k") + form(fields), {}, (400, "InvalidArgument")),
        (file_part(b"first") + parts + close, {}, (400, "InvalidArgument")),
    ]:
        answer = send(server, bucket, body, headers)
        assert (answer.status, answer.code) == expected, (body[:200], headers, answer)
    assert not exists(s3, bucket, "k")


def test_what_stands_behind_the_file_is_ignored(server, s3, bucket):
    fields = signed(bucket, [{"key": "k"}], {"key": "k"})
    whole = form(fields)
    close = f"--{BOUNDARY}--\r\n".encode()
    late = whole[: -len(close)] + part("key", "late") + part("submit", "Upload") + close
    for body in (whole + b"tail", late, whole[:-2]):
        assert send(server, bucket, body).status == 204
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello"
        s3.delete_object(Bucket=bucket, Key="k")
    assert not exists(s3, bucket, "late")


def test_tags(server, s3, bucket):
    document = "<Tagging><TagSet><Tag><Key>env</Key><Value>a b</Value></Tag></TagSet></Tagging>"
    answer = post(server, bucket, [{"tagging": document}], {"tagging": document})
    assert answer.status == 204, answer
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "env", "Value": "a b"}]


def test_refusals_of_put_object_hold_for_forms(server, s3, bucket):
    for name, value, expected in [
        ("acl", "public-read", (400, "AccessControlListNotSupported")),
        ("x-amz-storage-class", "GLACIER", (400, "InvalidStorageClass")),
        ("x-amz-website-redirect-location", "ftp://x", (400, "InvalidRedirectLocation")),
        ("Content-MD5", md5_text(b"other"), (400, "BadDigest")),
        ("Content-MD5", "short", (400, "InvalidDigest")),
        ("x-amz-checksum-crc32", checksum("CRC32", b"other"), (400, "BadDigest")),
        ("x-amz-checksum-crc32", "?", (400, "InvalidRequest")),
        ("x-amz-checksum-unheard", "AAAA", (400, "InvalidRequest")),
        ("x-amz-meta-big", "x" * 2100, (400, "MetadataTooLarge")),
        ("x-amz-meta-line", "a\r\nb", (400, "InvalidArgument")),
        ("tagging", "no xml", (400, "MalformedXML")),
        ("tagging", "<Tagging><TagSet><Tag><Key></Key><Value>v</Value></Tag></TagSet></Tagging>", (400, "InvalidTag")),
    ]:
        answer = post(server, bucket, [["starts-with", f"${name}", ""]], {name: value})
        assert (answer.status, answer.code) == expected, (name, answer)
    answer = post(server, bucket, [], {"key": "k" * 1025})
    assert (answer.status, answer.code) == (400, "KeyTooLongError")
    answer = post(server, "no-such-bucket-of-forms")
    assert (answer.status, answer.code) == (404, "NoSuchBucket")
    assert not exists(s3, bucket, "k")


def test_a_refused_form_is_drained_or_the_connection_closes(server, bucket, noise):
    fields = signed(bucket, [{"key": "other"}], {"key": "k"})
    with Connection(server) as connection:
        for content, closes in ((noise[: 4 * MIB], False), (noise * 3, True)):
            body = form(fields, content)
            headers = {
                "host": connection.host,
                "content-type": f"multipart/form-data; boundary={BOUNDARY}",
                "content-length": str(len(body)),
            }
            try:
                connection.send(connection.head("POST", f"/{bucket}", headers) + body)
            except ConnectionError:
                assert closes
            answer = connection.read_answer_if_any("POST")
            assert answer is None and closes or answer.status == 403
            assert closes or not answer.will_close


def test_secrets_of_forms_are_not_logged(server, bucket):
    fields = signed(bucket, [{"key": "k"}], {"key": "k"})
    send(server, bucket, form(fields))
    assert SECRET_KEY not in server.log()
    assert not re.search(fields["x-amz-signature"], server.log())
