"""What pages of another origin do in a real browser: forms with a policy, and presigned URLs under CORS rules."""

import html
import random
import time

import pytest

from browser import Browser, BrowserError, Origin, missing
from server import Server
from test_https import Authority, HttpsServer

NAVIGATION_SECONDS_MAX = 30

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

PUT = """
const [url, text] = arguments;
const answer = await fetch(url, {method: 'PUT', body: text, headers: {'Content-Type': 'text/plain', 'x-amz-meta-color': 'red'}});
return [answer.status, answer.headers.get('ETag'), answer.headers.get('x-amz-request-id')];
"""
GET = """
const answer = await fetch(arguments[0], {cache: 'no-store'});
return [answer.status, await answer.text()];
"""
POST = """
const [url, fields, bytes] = arguments;
const form = new FormData();
for (const [name, value] of Object.entries(fields)) form.append(name, value);
const file = new Uint8Array(bytes);
for (let i = 0; i < bytes; i++) file[i] = i % 251;
form.append('file', new Blob([file]), 'upload.bin');
const answer = await fetch(url, {method: 'POST', body: form});
return [answer.status, answer.headers.get('ETag'), await answer.text()];
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def origin(browser):
    origin = Origin()
    browser.open(origin.url)
    yield origin
    origin.close()


@pytest.fixture(scope="module", params=["http", "https"])
def endpoint(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "https":
        authority = Authority(tmp_path_factory.mktemp("authority"))
        server = HttpsServer(folder, authority, authority.give("browser", 1))
    else:
        server = Server(folder / "drive", folder / "server.log")
        server.directories[0].mkdir()
    server.start()
    yield server
    try:
        server.stop()
    finally:
        server.kill9()


@pytest.fixture
def s3(endpoint):
    return endpoint.client(signature_version="s3v4")


@pytest.fixture
def bucket(s3, request):
    name = f"browser-{random.randrange(1 << 40)}"
    s3.create_bucket(Bucket=name)
    return name


def allow(s3, bucket, origin, methods, **more):
    rule = {"AllowedOrigins": [origin], "AllowedMethods": methods, "AllowedHeaders": ["*"]} | more
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": [rule]})


def presigned_put(s3, bucket, key):
    parameters = {"Bucket": bucket, "Key": key, "ContentType": "text/plain", "Metadata": {"color": "red"}}
    return s3.generate_presigned_url("put_object", Params=parameters)


def exists(s3, bucket, key):
    return s3.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"] == 1


def test_a_presigned_put_needs_a_rule(browser, origin, s3, bucket):
    url = presigned_put(s3, bucket, "key")
    with pytest.raises(BrowserError, match="Failed to fetch"):
        browser.run(PUT, url, "text")
    assert not exists(s3, bucket, "key"), "the preflight must have been refused"
    for other in ("http://example.com", origin.url.replace("127.0.0.1", "localhost")):
        allow(s3, bucket, other, ["PUT"])
        with pytest.raises(BrowserError, match="Failed to fetch"):
            browser.run(PUT, url, "text")
    allow(s3, bucket, origin.url, ["GET"])
    with pytest.raises(BrowserError, match="Failed to fetch"):
        browser.run(PUT, url, "text")
    assert not exists(s3, bucket, "key")


def test_a_presigned_put_works_under_a_rule(browser, origin, s3, bucket):
    allow(s3, bucket, origin.url, ["PUT", "GET"], ExposeHeaders=["ETag"])
    text = "ünïcödé " * 50_000
    status, etag, request_id = browser.run(PUT, presigned_put(s3, bucket, "key"), text)
    assert status == 200
    stored = s3.get_object(Bucket=bucket, Key="key")
    assert etag == stored["ETag"], "an exposed header is readable"
    assert request_id is None, "one that is not exposed is not"
    assert stored["Body"].read().decode() == text
    assert stored["Metadata"] == {"color": "red"}
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
    assert browser.run(GET, url) == [200, text]
    # Also an error of S3's can be read.
    status, body = browser.run(GET, url.replace("/key", "/other"))
    assert status == 403 and "SignatureDoesNotMatch" in body
    s3.delete_bucket_cors(Bucket=bucket)
    with pytest.raises(BrowserError, match="Failed to fetch"):
        browser.run(GET, url)


def test_a_form_sent_by_fetch(browser, origin, s3, bucket):
    size = 3_000_000
    post = s3.generate_presigned_post(bucket, "from-fetch", Conditions=[["content-length-range", 0, size]])
    # Without a rule the object is stored all the same (no preflight), but the page may not read the answer.
    with pytest.raises(BrowserError, match="Failed to fetch"):
        browser.run(POST, post["url"], post["fields"], 1000)
    allow(s3, bucket, origin.url, ["POST"], ExposeHeaders=["ETag"])
    status, etag, _ = browser.run(POST, post["url"], post["fields"], size)
    assert status == 204
    stored = s3.get_object(Bucket=bucket, Key="from-fetch")
    assert stored["ETag"] == etag
    assert stored["Body"].read() == bytes(i % 251 for i in range(size))
    status, _, body = browser.run(POST, post["url"], post["fields"], size + 1)
    assert status == 400 and "EntityTooLarge" in body


def submit(browser, origin, post, path):
    fields = "".join(
        f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
        for name, value in post["fields"].items()
    )
    origin.page = (
        '<!doctype html><meta charset="utf-8"><title>form</title>'
        f'<form action="{html.escape(post["url"])}" method="post" enctype="multipart/form-data">'
        f'{fields}<input type="file" name="file"><input type="submit"></form>'
    )
    browser.open(f"{origin.url}/form")
    browser.choose_file("input[type=file]", path)
    # After the script has returned, since the page goes away.
    browser.run("setTimeout(() => document.forms[0].requestSubmit(), 0);")


def wait_for_location(browser, part):
    until = time.monotonic() + NAVIGATION_SECONDS_MAX
    while part not in (location := browser.location):
        assert time.monotonic() < until, location
        time.sleep(0.05)
    return location


def test_a_form_that_is_submitted(browser, origin, s3, bucket, tmp_path):
    data = random.Random(6).randbytes(2_000_000)
    path = tmp_path / "photo ünï.jpg"
    path.write_bytes(data)
    done = f"{origin.url}/done"
    fields = {"success_action_redirect": done, "Content-Type": "image/jpeg", "x-amz-meta-note": "naïve"}
    conditions = [{name: value} for name, value in fields.items()]
    post = s3.generate_presigned_post(
        bucket, "up/${filename}", Fields=fields, Conditions=[["starts-with", "$key", "up/"], *conditions]
    )
    submit(browser, origin, post, path)
    location = wait_for_location(browser, "/done?")
    assert f"bucket={bucket}" in location and "etag=" in location
    stored = s3.get_object(Bucket=bucket, Key="up/photo ünï.jpg")
    assert stored["Body"].read() == data
    assert stored["ContentType"] == "image/jpeg"


def test_a_form_that_the_policy_does_not_allow(browser, origin, s3, bucket, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    post = s3.generate_presigned_post(bucket, "key", Conditions=[["content-length-range", 0, 10]])
    submit(browser, origin, post, path)
    wait_for_location(browser, bucket)
    assert "EntityTooLarge" in browser.run("return document.documentElement.textContent;")
    assert not exists(s3, bucket, "key")
