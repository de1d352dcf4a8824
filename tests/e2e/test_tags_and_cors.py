"""Tags of objects and buckets, and pages of other origins: each operation, its documented errors, and what they do to
other operations.

What is expected stands in the S3 API Reference, on the page of the operation that a test names, and in the S3 User
Guide: "Categorizing your objects using tags", "Using cross-origin resource sharing".
"""

import http.client
import json
import os
import subprocess
import sys

import pytest

from test_operations import error_of
from wire import Connection, request

PART = 5 << 20
VARY = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method"


def tag_set(tags):
    return {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}


def tags_of(s3, bucket, key):
    return {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]}


def bucket_tags_of(s3, bucket):
    return {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}


def aws(server, *arguments):
    """aws-cli at its defaults; its answer as JSON, None when it says nothing."""
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": server.signer.access_key,
        "AWS_SECRET_ACCESS_KEY": server.signer.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    program = os.path.join(os.path.dirname(sys.executable), "aws")
    command = [program, "--endpoint-url", f"http://127.0.0.1:{server.port}", "--output", "json", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


# Tags of objects

GOOD_TAGS = {
    "none": {},
    "one": {"a": "1"},
    "empty value": {"a": ""},
    "order and case": {"b": "2", "a": "1", "A": "3"},
    "ten": {f"key-{index}": str(index) for index in range(10)},
    "every ASCII character allowed": {"aZ09 +-=._:/@": "@/:_.=-+ 90Za"},
    "longest, in characters": {"ü" * 128: "漢" * 256},
    "aws without a colon": {"aws": "x", "awsome:x": "y"},
}


@pytest.mark.parametrize("case", GOOD_TAGS)
def test_put_and_get_object_tagging(s3, bucket, case):
    tags = GOOD_TAGS[case]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    put = s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tag_set(tags))
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert list(tags_of(s3, bucket, "k").items()) == list(tags.items())


BAD_TAGS = {
    "eleven": ({f"key-{index}": "" for index in range(11)}, "BadRequest"),
    "129 characters": ({"ü" * 129: "x"}, "InvalidTag"),
    "257 characters": ({"x": "ü" * 257}, "InvalidTag"),
    "a comma": ({"a,b": "x"}, "InvalidTag"),
    "a tab": ({"x": "a\tb"}, "InvalidTag"),
    "aws:": ({"aws:x": "y"}, "InvalidTag"),
    "AWS:": ({"AWS:x": "y"}, "InvalidTag"),
}


@pytest.mark.parametrize("case", BAD_TAGS)
def test_tags_that_s3_refuses(s3, bucket, case):
    tags, code = BAD_TAGS[case]
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="kept=1")
    assert error_of(s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=tag_set(tags)) == (400, code)
    assert tags_of(s3, bucket, "k") == {"kept": "1"}


MALFORMED = {
    "no body": b"",
    "not XML": b"tags",
    "another root": b"<Tags/>",
    "no set": b"<Tagging/>",
    "no value": b"<Tagging><TagSet><Tag><Key>a</Key></Tag></TagSet></Tagging>",
    "cut": b"<Tagging><TagSet>",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_tagging(server, bucket, case):
    request(server, "PUT", bucket, "k", body=b"x")
    for key in ("k", None):
        answer = request(server, "PUT", bucket, key, query=[("tagging", "")], body=MALFORMED[case])
        assert (answer.status, answer.code) == (400, "MalformedXML"), answer


@pytest.mark.parametrize("keys", [["a", "a"], [""]], ids=["repeated", "empty"])
def test_keys_that_no_client_sends(server, bucket, keys):
    tags = "".join(f"<Tag><Key>{key}</Key><Value>1</Value></Tag>" for key in keys)
    body = f"<Tagging><TagSet>{tags}</TagSet></Tagging>".encode()
    request(server, "PUT", bucket, "k", body=b"x")
    for key in ("k", None):
        answer = request(server, "PUT", bucket, key, query=[("tagging", "")], body=body)
        assert (answer.status, answer.code, answer.text("TagKey")) == (400, "InvalidTag", keys[0]), answer


@pytest.mark.parametrize("size", [5, 300000])
def test_tagging_changes_nothing_else(s3, bucket, noise, size):
    s3.put_object(Bucket=bucket, Key="k", Body=noise[:size], Metadata={"m": "1"}, ContentType="text/x")
    before = s3.head_object(Bucket=bucket, Key="k")
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tag_set({"a": "1", "b": "2"}))
    after = s3.get_object(Bucket=bucket, Key="k", IfMatch=before["ETag"], IfUnmodifiedSince=before["LastModified"])
    assert after["Body"].read() == noise[:size]
    for name in ("ETag", "LastModified", "Metadata", "ContentType", "ContentLength"):
        assert after[name] == before[name]
    assert "TagCount" not in before and after["TagCount"] == 2
    assert s3.head_object(Bucket=bucket, Key="k")["ResponseMetadata"]["HTTPHeaders"]["x-amz-tagging-count"] == "2"
    deleted = s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert tags_of(s3, bucket, "k") == {}
    assert "TagCount" not in s3.get_object(Bucket=bucket, Key="k")
    s3.delete_object_tagging(Bucket=bucket, Key="k")


def test_an_overwrite_drops_the_tags(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=1")
    s3.put_object(Bucket=bucket, Key="k", Body=b"y")
    assert tags_of(s3, bucket, "k") == {}


GOOD_HEADERS = {
    "a=1": {"a": "1"},
    "a=1&b=": {"a": "1", "b": ""},
    "a": {"a": ""},
    "&": {},
    "a+b=%2B%20c": {"a b": "+ c"},
    "%C3%BC=%E6%BC%A2": {"ü": "漢"},
}


@pytest.mark.parametrize("header", GOOD_HEADERS)
def test_x_amz_tagging_on_put(server, s3, bucket, header):
    assert request(server, "PUT", bucket, "k", headers={"x-amz-tagging": header}, body=b"x").status == 200
    assert tags_of(s3, bucket, "k") == GOOD_HEADERS[header]


BAD_HEADERS = {
    "=1": "InvalidArgument",
    "a=1&a=2": "InvalidArgument",
    "a=%zz": "InvalidArgument",
    "a=%FF": "InvalidArgument",
    "a=*": "InvalidTag",
    "aws:a=1": "InvalidTag",
    "a=" + "x" * 257: "InvalidTag",
    "&".join(f"k{index}=" for index in range(11)): "BadRequest",
}


@pytest.mark.parametrize("header", BAD_HEADERS, ids=lambda text: text[:20])
def test_x_amz_tagging_that_s3_refuses(server, bucket, header):
    request(server, "PUT", bucket, "source", body=b"x")
    headers = {"x-amz-tagging": header}
    source = {"x-amz-copy-source": f"{bucket}/source", "x-amz-tagging-directive": "REPLACE"}
    for answer in (
        request(server, "PUT", bucket, "k", headers=headers, body=b"body"),
        request(server, "PUT", bucket, "k", headers=headers | source),
        request(server, "POST", bucket, "k", query=[("uploads", "")], headers=headers),
    ):
        assert (answer.status, answer.code) == (400, BAD_HEADERS[header]), answer
    assert request(server, "HEAD", bucket, "k").status == 404


COPIES = {
    "default": ({}, {"a": "1"}),
    "COPY": ({"TaggingDirective": "COPY"}, {"a": "1"}),
    "COPY ignores the header": ({"TaggingDirective": "COPY", "Tagging": "c=3"}, {"a": "1"}),
    "REPLACE": ({"TaggingDirective": "REPLACE", "Tagging": "c=3"}, {"c": "3"}),
    "REPLACE by none": ({"TaggingDirective": "REPLACE"}, {}),
    "metadata replaced, tags copied": ({"MetadataDirective": "REPLACE"}, {"a": "1"}),
}


@pytest.mark.parametrize("case", COPIES)
def test_copies_bring_tags(s3, bucket, case):
    named, expected = COPIES[case]
    s3.put_object(Bucket=bucket, Key="source", Body=b"x", Tagging="a=1")
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/source", **named)
    assert tags_of(s3, bucket, "copy") == expected
    assert tags_of(s3, bucket, "source") == {"a": "1"}


def test_unknown_tagging_directive(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    call = {"Bucket": bucket, "Key": "copy", "CopySource": f"{bucket}/k", "TaggingDirective": "MOVE"}
    assert error_of(s3.copy_object, **call) == (400, "InvalidArgument")


def test_an_upload_brings_its_tags(s3, bucket, noise):
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", Tagging="a=1&b=2")["UploadId"]
    etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=noise[:PART])["ETag"]
    s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
    )
    assert tags_of(s3, bucket, "k") == {"a": "1", "b": "2"}
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging=tag_set({"c": "3"}))
    assert s3.get_object(Bucket=bucket, Key="k", PartNumber=1)["TagCount"] == 1


def test_tagging_of_versions(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.put_object_tagging(Bucket=bucket, Key="k", VersionId="null", Tagging=tag_set({"a": "1"}))
    assert s3.get_object_tagging(Bucket=bucket, Key="k", VersionId="null")["TagSet"] == [{"Key": "a", "Value": "1"}]
    other = {"Bucket": bucket, "Key": "k", "VersionId": "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrH"}
    for call, named in (
        (s3.put_object_tagging, {"Tagging": tag_set({})}),
        (s3.get_object_tagging, {}),
        (s3.delete_object_tagging, {}),
    ):
        assert error_of(call, **other, **named) == (404, "NoSuchVersion")
    assert tags_of(s3, bucket, "k") == {"a": "1"}


def test_tags_outlive_a_kill(new_server):
    server = new_server().start()
    s3 = server.client()
    s3.create_bucket(Bucket="bucket")
    s3.put_bucket_tagging(Bucket="bucket", Tagging=tag_set({"b": "2"}))
    s3.put_object(Bucket="bucket", Key="k", Body=b"x" * 100000)
    s3.put_object_tagging(Bucket="bucket", Key="k", Tagging=tag_set({"a": "1"}))
    server.kill9()
    server.start()
    s3 = server.client()
    assert tags_of(s3, "bucket", "k") == {"a": "1"}
    assert bucket_tags_of(s3, "bucket") == {"b": "2"}
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b"x" * 100000


# Tags of buckets


def test_bucket_tagging(s3, bucket):
    none = (404, "NoSuchTagSet")
    assert error_of(s3.get_bucket_tagging, Bucket=bucket) == none
    put = s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set({"b": "2", "a": "1"}))
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert list(bucket_tags_of(s3, bucket).items()) == [("b", "2"), ("a", "1")]
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set({}))
    assert error_of(s3.get_bucket_tagging, Bucket=bucket) == none
    fifty = {f"key-{index}": "v" * 256 for index in range(50)}
    s3.put_bucket_tagging(Bucket=bucket, Tagging=tag_set(fifty))
    assert bucket_tags_of(s3, bucket) == fifty
    for tags, code in (({f"k{i}": "" for i in range(51)}, "BadRequest"), ({"a!": ""}, "InvalidTag")):
        assert error_of(s3.put_bucket_tagging, Bucket=bucket, Tagging=tag_set(tags)) == (400, code)
    assert bucket_tags_of(s3, bucket) == fifty
    assert s3.delete_bucket_tagging(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert error_of(s3.get_bucket_tagging, Bucket=bucket) == none


def test_settings_end_with_their_bucket(s3):
    rules = {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}
    tags = [{"Key": "a", "Value": "1"}]
    s3.create_bucket(Bucket="tagged-at-birth")
    s3.put_bucket_tagging(Bucket="tagged-at-birth", Tagging={"TagSet": tags})
    s3.put_bucket_cors(Bucket="tagged-at-birth", CORSConfiguration=rules)
    s3.delete_bucket(Bucket="tagged-at-birth")
    s3.create_bucket(Bucket="tagged-at-birth")
    assert error_of(s3.get_bucket_tagging, Bucket="tagged-at-birth") == (404, "NoSuchTagSet")
    assert error_of(s3.get_bucket_cors, Bucket="tagged-at-birth") == (404, "NoSuchCORSConfiguration")
    s3.delete_bucket(Bucket="tagged-at-birth")


def test_create_bucket_with_tags(server, s3):
    def create(key):
        tags = f"<Tags><Tag><Key>{key}</Key><Value>1</Value></Tag></Tags>"
        body = f"<CreateBucketConfiguration>{tags}</CreateBucketConfiguration>".encode()
        return request(server, "PUT", "born-with-tags", body=body)

    answer = create("!")
    assert (answer.status, answer.code) == (400, "InvalidTag")
    assert create("a").status == 200
    assert bucket_tags_of(s3, "born-with-tags") == {"a": "1"}
    s3.delete_bucket(Bucket="born-with-tags")


# Rules for other origins

FULL_RULE = {
    "ID": "all of it",
    "AllowedHeaders": ["x-amz-*", "Content-Type"],
    "AllowedMethods": ["PUT", "GET", "HEAD", "POST", "DELETE"],
    "AllowedOrigins": ["http://one.example", "https://*.example.org"],
    "ExposeHeaders": ["ETag", "x-amz-request-id"],
    "MaxAgeSeconds": 3000,
}


def rule(**changes):
    return {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]} | changes


def test_put_get_and_delete_bucket_cors(s3, bucket):
    none = (404, "NoSuchCORSConfiguration")
    assert error_of(s3.get_bucket_cors, Bucket=bucket) == none
    rules = [FULL_RULE, rule(), rule(ID="2", MaxAgeSeconds=-1)]
    put = s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    assert s3.delete_bucket_cors(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert error_of(s3.get_bucket_cors, Bucket=bucket) == none
    s3.delete_bucket_cors(Bucket=bucket)
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule(ID=str(i)) for i in range(100)]})
    assert len(s3.get_bucket_cors(Bucket=bucket)["CORSRules"]) == 100


BAD_RULES = {
    "no rule": ([], "MalformedXML"),
    "no method": ([rule(AllowedMethods=[])], "MalformedXML"),
    "no origin": ([rule(AllowedOrigins=[])], "MalformedXML"),
    "another method": ([rule(AllowedMethods=["GET", "PATCH"])], "InvalidRequest"),
    "a method in lower case": ([rule(AllowedMethods=["get"])], "InvalidRequest"),
    "two wildcards of an origin": ([rule(AllowedOrigins=["http://*.*"])], "InvalidRequest"),
    "two wildcards of a header": ([rule(AllowedHeaders=["*-*"])], "InvalidRequest"),
    "a header that cannot be": ([rule(AllowedHeaders=["a b"])], "InvalidRequest"),
    "an exposed wildcard": ([rule(ExposeHeaders=["*"])], "InvalidRequest"),
    "256 characters": ([rule(ID="x" * 256)], "InvalidRequest"),
    "an id twice": ([rule(ID="x"), rule(ID="x")], "InvalidRequest"),
    "101 rules": ([rule()] * 101, "InvalidRequest"),
}


@pytest.mark.parametrize("case", BAD_RULES)
def test_rules_that_s3_refuses(s3, bucket, case):
    rules, code = BAD_RULES[case]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [FULL_RULE]})
    assert error_of(s3.put_bucket_cors, Bucket=bucket, CORSConfiguration={"CORSRules": rules}) == (400, code)
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == [FULL_RULE]


def test_malformed_and_long_rules(server, bucket):
    inside = "<AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin>"
    for extra, code in (
        ("<MaxAgeSeconds>soon</MaxAgeSeconds>", "MalformedXML"),
        ("<ID>a</ID><ID>b</ID>", "MalformedXML"),
        ("<!--" + "x" * (64 << 10) + "-->", "MaxMessageLengthExceeded"),
    ):
        body = f"<CORSConfiguration><CORSRule>{inside}{extra}</CORSRule></CORSConfiguration>".encode()
        answer = request(server, "PUT", bucket, query=[("cors", "")], body=body)
        assert (answer.status, answer.code) == (400, code), answer


def plain(server, method, path, headers):
    """Unsigned, as browsers send it."""
    with Connection(server) as connection:
        head = {"host": connection.host, "content-length": "0"} | headers
        connection.send(connection.head(method, path, head))
        return connection.read_answer(method)


def preflight(server, path, origin=None, method=None, headers=None):
    sent = {
        "origin": origin, "access-control-request-method": method, "access-control-request-headers": headers,
    }  # fmt: skip
    return plain(server, "OPTIONS", path, {name: value for name, value in sent.items() if value is not None})


def cors_headers(answer):
    names = ("origin", "methods", "headers", "credentials")
    found = {name: answer.headers.get(f"access-control-allow-{name}") for name in names}
    found["max-age"] = answer.headers.get("access-control-max-age")
    found["expose"] = answer.headers.get("access-control-expose-headers")
    return {name: value for name, value in found.items() if value is not None}


RULES = [
    {
        "AllowedOrigins": ["http://one.example", "https://*.example.org"], "AllowedMethods": ["GET", "HEAD"],
        "AllowedHeaders": ["x-amz-*", "Range"], "ExposeHeaders": ["ETag", "x-amz-meta-m"], "MaxAgeSeconds": 100,
    },
    {"AllowedOrigins": ["http://one.example"], "AllowedMethods": ["PUT"], "AllowedHeaders": ["*"]},
    {"AllowedOrigins": ["*"], "AllowedMethods": ["GET"]},
]  # fmt: skip
FIRST = {"methods": "GET, HEAD", "credentials": "true", "max-age": "100", "expose": "ETag, x-amz-meta-m"}
SECOND = {"origin": "http://one.example", "methods": "PUT", "credentials": "true"}
THIRD = {"origin": "*", "methods": "GET"}

GRANTED = {
    "exact origin": (("http://one.example", "GET"), FIRST | {"origin": "http://one.example"}),
    "wildcard in the origin": (("https://a.b.example.org", "HEAD"), FIRST | {"origin": "https://a.b.example.org"}),
    "headers": (
        ("http://one.example", "GET", "X-Amz-Date, range"),
        FIRST | {"origin": "http://one.example", "headers": "x-amz-date, range"}),
    "any header": (("http://one.example", "PUT", "Content-Type,Authorization"),
                   SECOND | {"headers": "content-type, authorization"}),
    "any origin": (("http://else.example", "GET"), THIRD),
    "the scheme is part of the origin": (("https://one.example", "GET"), THIRD),
    "nothing before the wildcard's dot": (("https://example.org", "GET"), THIRD),
}  # fmt: skip


@pytest.mark.parametrize("case", GRANTED)
def test_preflight_is_granted(server, s3, bucket, case):
    asked, expected = GRANTED[case]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    for path in (f"/{bucket}/no/such-key", f"/{bucket}", f"/{bucket}/k?uploads", f"/{bucket}/k?partNumber=1&uploadId=2"):
        answer = preflight(server, path, *asked)
        assert (answer.status, answer.body) == (200, b""), answer
        assert cors_headers(answer) == expected
        assert answer.headers["vary"] == VARY


NOT_ALLOWED = {
    "method": ("http://one.example", "DELETE"),
    "method of another origin": ("http://else.example", "PUT"),
    "header": ("http://one.example", "GET", "authorization"),
    "one of the headers": ("http://one.example", "GET", "x-amz-date,authorization"),
    "header of the rule without any": ("http://else.example", "GET", "range"),
}


@pytest.mark.parametrize("case", NOT_ALLOWED)
def test_preflight_is_not_allowed(server, s3, bucket, case):
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    for path, resource in ((f"/{bucket}/k", "OBJECT"), (f"/{bucket}", "BUCKET")):
        answer = preflight(server, path, *NOT_ALLOWED[case])
        assert (answer.status, answer.code) == (403, "AccessForbidden")
        assert answer.text("Message").startswith("CORSResponse: This CORS request is not allowed.")
        assert (answer.text("Method"), answer.text("ResourceType")) == (NOT_ALLOWED[case][1], resource)
        assert cors_headers(answer) == {}


def test_preflight_without_rules_or_bucket_or_reason(server, bucket):
    answer = preflight(server, f"/{bucket}/k", "http://a", "GET")
    assert (answer.status, answer.code) == (403, "AccessForbidden")
    assert answer.text("Message") == "CORSResponse: CORS is not enabled for this bucket."
    for path in ("/no-such-bucket/k", "/"):
        answer = preflight(server, path, "http://a", "GET")
        assert (answer.status, answer.code) == (403, "AccessForbidden")
        assert answer.text("Message") == "CORSResponse: Bucket not found"
    answer = preflight(server, f"/{bucket}/k", None, "GET")
    assert (answer.status, answer.code) == (400, "BadRequest")
    assert answer.text("Message") == "Insufficient information. Origin request header needed."
    for method in (None, "get", "PATCH", "OPTIONS"):
        answer = preflight(server, f"/{bucket}/k", "http://a", method)
        assert (answer.status, answer.code) == (400, "BadRequest")
        assert answer.text("Message") == f"Invalid Access-Control-Request-Method: {method or 'null'}"
    for headers in ("a b", "x,,y", "a:b", "bad/name"):
        answer = preflight(server, f"/{bucket}/k", "http://a", "GET", headers)
        assert (answer.status, answer.code) == (400, "BadRequest")


def test_a_preflight_of_a_presigned_url(server, s3, bucket):
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    target = server.signer.presign("PUT", f"127.0.0.1:{server.port}", f"/{bucket}/k")
    answer = preflight(server, target, "http://one.example", "PUT", "content-type")
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "http://one.example")
    answer = plain(server, "PUT", target, {"origin": "http://one.example"})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, "http://one.example")


def test_answers_to_other_origins(server, s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789", Metadata={"m": "1"})
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    one = {"origin": "http://one.example"}
    first = FIRST | one

    def signed(method, key="k", origin="http://one.example", status=200, **rest):
        headers = rest.pop("headers", {}) | ({"origin": origin} if origin else {})
        answer = request(server, method, bucket, key, headers=headers, **rest)
        assert answer.status == status, answer
        return answer

    for answer in (
        signed("GET"),
        signed("HEAD"),
        signed("GET", headers={"range": "bytes=2-3"}, status=206),
        signed("GET", headers={"range": "bytes=20-"}, status=416),
        signed("GET", headers={"if-none-match": "*"}, status=304),
        signed("GET", headers={"if-match": '"0"'}, status=412),
        signed("GET", key="none", status=404),
        signed("GET", query=[("torrent", "")], status=501),
        signed("GET", key=None),
        plain(server, "GET", f"/{bucket}/k", one),
        plain(server, "GET", f"/{bucket}/k", one | {"authorization": "AWS4-HMAC-SHA256 Credential=a/b/c"}),
    ):
        # A head whose signature cannot even be read is refused before the bucket is known.
        if answer.status != 400:
            assert cors_headers(answer) == first, answer
            assert answer.headers["vary"] == VARY
    assert cors_headers(signed("PUT", body=b"x")) == SECOND
    assert cors_headers(signed("GET", origin="http://else.example")) == THIRD
    # Allowed to the signer, but to no page: the browser keeps it to itself.
    answer = signed("PUT", origin="http://else.example", body=b"y")
    assert cors_headers(answer) == {} and answer.headers["vary"] == VARY
    answer = signed("GET", origin=None)
    assert cors_headers(answer) == {} and "vary" not in answer.headers
    s3.delete_bucket_cors(Bucket=bucket)
    answer = signed("GET")
    assert cors_headers(answer) == {} and "vary" not in answer.headers


def test_rules_count_from_the_next_request_on(server, s3, bucket):
    for origin in ("http://first.example", "http://second.example", "http://third.example"):
        s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule(AllowedOrigins=[origin])]})
        assert preflight(server, f"/{bucket}/k", origin, "GET").status == 200
        assert preflight(server, f"/{bucket}/k", "http://former.example", "GET").status == 403


# At the defaults of aws-cli


def test_aws_cli_tags_and_rules(server, s3, bucket, tmp_path):
    (tmp_path / "k").write_bytes(b"body")
    aws(server, "s3api", "put-object", "--bucket", bucket, "--key", "k", "--body", str(tmp_path / "k"),
        "--tagging", "a=1&b=2")  # fmt: skip
    where = ("--bucket", bucket, "--key", "k")
    assert tags_of(s3, bucket, "k") == {"a": "1", "b": "2"}
    aws(server, "s3api", "put-object-tagging", *where, "--tagging", "TagSet=[{Key=c,Value=3}]")
    assert aws(server, "s3api", "get-object-tagging", *where)["TagSet"] == [{"Key": "c", "Value": "3"}]
    aws(server, "s3api", "put-bucket-tagging", "--bucket", bucket, "--tagging", "TagSet=[{Key=d,Value=4}]")
    assert bucket_tags_of(s3, bucket) == {"d": "4"}
    rules = {"CORSRules": [FULL_RULE]}
    aws(server, "s3api", "put-bucket-cors", "--bucket", bucket, "--cors-configuration", json.dumps(rules))
    assert aws(server, "s3api", "get-bucket-cors", "--bucket", bucket) == rules
