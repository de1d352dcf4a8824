"""aws-cli, boto3, s3cmd and rclone as people install them: none of their settings but endpoint and keys."""

import hashlib
import itertools
import json
import os
import random
import subprocess
import sys

import boto3
import botocore.config
import botocore.exceptions
import pytest

from server import ACCESS_KEY, SECRET_KEY
from wire import request

SIZES = {
    "empty": 0,
    "one byte": 1,
    "largest inline": 16 << 10,
    "one write": 1 << 20,
    "multipart": 20 << 20,
    "blocks": 1 << 30,
}
ODD_KEYS = [
    "with space",
    "plus+plus",
    "percent%25%zz",
    "ünïcödé/漢字 🐚",
    "/leading",
    "double//slash",
    "quote'\"&<>",
    "dots/../and/./more",
]
# rclone cleans paths before it sends them, and s3cmd cannot name these keys.
PATHS_REWRITTEN = {"/leading", "double//slash", "dots/../and/./more"}

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """{name: (path, SHA-256)} of SIZES. The large one repeats 1 MiB of noise, turned a little each time."""
    folder = tmp_path_factory.mktemp("files")
    noise = random.Random(2).randbytes(1 << 20)
    made = {}
    for name, size in SIZES.items():
        path, digest = folder / name.replace(" ", "-"), hashlib.sha256()
        with open(path, "wb") as file:
            for index in range(0, size, 1 << 20):
                turn = (index >> 20) * 4099 % len(noise)
                piece = (noise[turn:] + noise[:turn])[: size - index]
                file.write(piece)
                digest.update(piece)
        made[name] = (path, digest.hexdigest())
    return made


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def call(*command, environment=None):
    done = subprocess.run(list(map(str, command)), capture_output=True, env=environment, timeout=180)
    assert done.returncode == 0, f"{command}\n{done.stdout.decode()}\n{done.stderr.decode()}"
    return done.stdout


def curl(url, *arguments):
    """Status, and the body where no -o says otherwise."""
    out = call("curl", "-s", "-S", "-w", "\n%{http_code}", *arguments, url).decode()
    body, status = out.rsplit("\n", 1)
    return int(status), body


class Aws:
    name = "aws-cli"

    def __init__(self, server, folder):
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": server.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        } | ({"AWS_CA_BUNDLE": str(server.ca)} if server.ca else {})
        self.program = os.path.join(os.path.dirname(sys.executable), "aws")

    def run(self, *arguments):
        return call(self.program, *arguments, environment=self.environment)

    def make_bucket(self, bucket):
        self.run("s3", "mb", f"s3://{bucket}")

    def put(self, path, bucket, key):
        self.run("s3", "cp", "--no-progress", path, f"s3://{bucket}/{key}")

    def get(self, bucket, key, path):
        self.run("s3", "cp", "--no-progress", f"s3://{bucket}/{key}", path)

    def get_range(self, bucket, key, first, last, path):
        self.run("s3api", "get-object", "--bucket", bucket, "--key", key, "--range", f"bytes={first}-{last}", path)

    def keys(self, bucket):
        out = self.run("s3api", "list-objects-v2", "--bucket", bucket, "--output", "json")
        return {entry["Key"] for entry in json.loads(out or "{}").get("Contents", [])}

    def listing(self, bucket, prefix):
        lines = self.run("s3", "ls", f"s3://{bucket}/{prefix}").decode().splitlines()
        prefixes = {prefix + line.split("PRE ", 1)[1] for line in lines if line.lstrip().startswith("PRE ")}
        return {prefix + line[31:] for line in lines if not line.lstrip().startswith("PRE ")}, prefixes

    def copy(self, bucket, source, target):
        self.run("s3", "cp", "--no-progress", f"s3://{bucket}/{source}", f"s3://{bucket}/{target}")

    def delete(self, bucket, key):
        self.run("s3", "rm", f"s3://{bucket}/{key}")

    def presign_get(self, bucket, key):
        return self.run("s3", "presign", f"s3://{bucket}/{key}").decode().strip()

    def remove_bucket(self, bucket):
        self.run("s3", "rb", "--force", f"s3://{bucket}")


class Boto3:
    name = "boto3"

    def __init__(self, server, _folder):
        self.s3 = boto3.client(
            "s3",
            endpoint_url=server.url,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            verify=str(server.ca) if server.ca else None,
        )

    def make_bucket(self, bucket):
        self.s3.create_bucket(Bucket=bucket)

    def put(self, path, bucket, key):
        self.s3.upload_file(str(path), bucket, key)

    def get(self, bucket, key, path):
        self.s3.download_file(bucket, key, str(path))

    def get_range(self, bucket, key, first, last, path):
        answer = self.s3.get_object(Bucket=bucket, Key=key, Range=f"bytes={first}-{last}")
        path.write_bytes(answer["Body"].read())

    def keys(self, bucket):
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {entry["Key"] for page in pages for entry in page.get("Contents", [])}

    def listing(self, bucket, prefix):
        page = self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, Delimiter="/")
        return (
            {entry["Key"] for entry in page.get("Contents", [])},
            {entry["Prefix"] for entry in page.get("CommonPrefixes", [])},
        )

    def copy(self, bucket, source, target):
        self.s3.copy({"Bucket": bucket, "Key": source}, bucket, target)

    def delete(self, bucket, key):
        self.s3.delete_object(Bucket=bucket, Key=key)

    def presign_get(self, bucket, key):
        return self.s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": key})

    def remove_bucket(self, bucket):
        for key in self.keys(bucket):
            self.delete(bucket, key)
        self.s3.delete_bucket(Bucket=bucket)


class S3cmd:
    name = "s3cmd"

    def __init__(self, server, folder):
        self.config = folder / "s3cfg"
        endpoint = f"127.0.0.1:{server.port}"
        self.config.write_text(
            f"[default]\naccess_key = {ACCESS_KEY}\nsecret_key = {SECRET_KEY}\n"
            f"host_base = {endpoint}\nhost_bucket = {endpoint}\n"
            + (f"use_https = True\nsignurl_use_https = True\nca_certs_file = {server.ca}\n" if server.ca else "use_https = False\n")
        )

    def run(self, *arguments):
        return call("s3cmd", "-c", self.config, "--no-progress", *arguments)

    def make_bucket(self, bucket):
        self.run("mb", f"s3://{bucket}")

    def put(self, path, bucket, key):
        self.run("put", path, f"s3://{bucket}/{key}")

    def get(self, bucket, key, path):
        self.run("get", "--force", f"s3://{bucket}/{key}", path)

    def get_range(self, bucket, key, first, last, path):
        whole = path.with_suffix(".whole")
        self.get(bucket, key, whole)
        # s3cmd asks for a range only to continue a download.
        path.write_bytes(whole.read_bytes()[:first])
        self.run("get", "--continue", f"s3://{bucket}/{key}", path)
        path.write_bytes(path.read_bytes()[first : last + 1])

    def keys(self, bucket):
        lines = self.run("ls", "--recursive", f"s3://{bucket}").decode().splitlines()
        return {line.split(f"s3://{bucket}/", 1)[1] for line in lines}

    def listing(self, bucket, prefix):
        lines = self.run("ls", f"s3://{bucket}/{prefix}").decode().splitlines()
        names = [(line.split()[0] == "DIR", line.split(f"s3://{bucket}/", 1)[1]) for line in lines]
        return {name for is_prefix, name in names if not is_prefix}, {name for is_prefix, name in names if is_prefix}

    def copy(self, bucket, source, target):
        self.run("cp", f"s3://{bucket}/{source}", f"s3://{bucket}/{target}")

    def delete(self, bucket, key):
        self.run("rm", f"s3://{bucket}/{key}")

    def presign_get(self, bucket, key):
        return self.run("signurl", f"s3://{bucket}/{key}", "+600").decode().strip()

    def remove_bucket(self, bucket):
        self.run("rb", "--force", "--recursive", f"s3://{bucket}")


class Rclone:
    name = "rclone"

    def __init__(self, server, folder):
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RCLONE_CONFIG": str(folder / "no-config"),
            "RCLONE_CONFIG_SHALE_TYPE": "s3",
            "RCLONE_CONFIG_SHALE_PROVIDER": "Other",
            "RCLONE_CONFIG_SHALE_ENDPOINT": server.url,
            "RCLONE_CONFIG_SHALE_ACCESS_KEY_ID": ACCESS_KEY,
            "RCLONE_CONFIG_SHALE_SECRET_ACCESS_KEY": SECRET_KEY,
        } | ({"RCLONE_CA_CERT": str(server.ca)} if server.ca else {})

    def run(self, *arguments):
        return call("rclone", *arguments, environment=self.environment)

    def make_bucket(self, bucket):
        self.run("mkdir", f"shale:{bucket}")

    def put(self, path, bucket, key):
        self.run("copyto", path, f"shale:{bucket}/{key}")

    def get(self, bucket, key, path):
        self.run("copyto", f"shale:{bucket}/{key}", path)

    def get_range(self, bucket, key, first, last, path):
        path.write_bytes(
            self.run("cat", "--offset", first, "--count", last - first + 1, f"shale:{bucket}/{key}")
        )

    def keys(self, bucket):
        return set(self.run("lsf", "--recursive", "--files-only", f"shale:{bucket}").decode().splitlines())

    def listing(self, bucket, prefix):
        lines = self.run("lsf", f"shale:{bucket}/{prefix}").decode().splitlines()
        names = {prefix + line for line in lines}
        return {name for name in names if name[-1] != "/"}, {name for name in names if name[-1] == "/"}

    def copy(self, bucket, source, target):
        self.run("copyto", f"shale:{bucket}/{source}", f"shale:{bucket}/{target}")

    def delete(self, bucket, key):
        self.run("deletefile", f"shale:{bucket}/{key}")

    def presign_get(self, bucket, key):
        return self.run("link", "--expire", "10m", f"shale:{bucket}/{key}").decode().strip()

    def remove_bucket(self, bucket):
        self.run("purge", f"shale:{bucket}")


@pytest.fixture(params=[Aws, Boto3, S3cmd, Rclone], ids=lambda kind: kind.name)
def client(request, server, tmp_path):
    return request.param(server, tmp_path)


@pytest.fixture
def made_bucket(client):
    bucket = f"{client.name}-{next(_numbers)}"
    client.make_bucket(bucket)
    return bucket


def put_and_get(client, bucket, file, tmp_path):
    path, digest = file
    client.put(path, bucket, "folder/object")
    back = tmp_path / "back"
    client.get(bucket, "folder/object", back)
    assert sha256_of(back) == digest
    back.unlink()


def test_what_is_put_is_what_is_got(client, made_bucket, files, tmp_path):
    for name in SIZES:
        put_and_get(client, made_bucket, files[name], tmp_path)
    client.delete(made_bucket, "folder/object")
    assert client.keys(made_bucket) == set()


def test_ranges_copies_and_listings(client, made_bucket, files, tmp_path):
    path, digest = files["multipart"]
    client.put(path, made_bucket, "a/one")
    client.copy(made_bucket, "a/one", "a/b/two")
    client.put(files["one byte"][0], made_bucket, "a/b/three")
    client.put(files["empty"][0], made_bucket, "top")
    assert client.keys(made_bucket) == {"a/one", "a/b/two", "a/b/three", "top"}
    assert client.listing(made_bucket, "a/") == ({"a/one"}, {"a/b/"})

    back = tmp_path / "back"
    client.get(made_bucket, "a/b/two", back)
    assert sha256_of(back) == digest
    client.get_range(made_bucket, "a/one", 8388600, 8400000, back)
    assert back.read_bytes() == path.read_bytes()[8388600:8400001]

    client.delete(made_bucket, "a/one")
    client.get(made_bucket, "a/b/two", back)
    assert sha256_of(back) == digest, "a copy must not share the fate of its source"
    client.remove_bucket(made_bucket)


def test_odd_keys(client, made_bucket, files, tmp_path):
    path, digest = files["largest inline"]
    cannot = PATHS_REWRITTEN if client.name in ("rclone", "s3cmd") else set()
    keys = [key for key in ODD_KEYS if key not in cannot]
    for key in keys:
        client.put(path, made_bucket, key)
    assert client.keys(made_bucket) == set(keys)
    for key in keys:
        back = tmp_path / "back"
        client.get(made_bucket, key, back)
        assert sha256_of(back) == digest, key
        back.unlink()
    client.remove_bucket(made_bucket)


def test_presigned_get(client, made_bucket, files, tmp_path):
    path, digest = files["one write"]
    back = tmp_path / "back"
    for key in ("plain", "with space+plus/ü"):
        client.put(path, made_bucket, key)
        status, _ = curl(client.presign_get(made_bucket, key), "-o", back)
        assert status == 200 and sha256_of(back) == digest, key
        client.delete(made_bucket, key)


@pytest.mark.parametrize("version", [None, "s3", "s3v4"])
def test_presigned_put_and_get_of_boto3(server, bucket, files, tmp_path, version):
    config = botocore.config.Config(signature_version=version)
    s3 = boto3.client(
        "s3", endpoint_url=server.url, config=config, region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
    )
    path, digest = files["one write"]
    for key in ("plain", "with space+plus/ü%2F"):
        where = {"Bucket": bucket, "Key": key}
        url = s3.generate_presigned_url("put_object", Params=where)
        assert curl(url, "-T", path)[0] == 200
        back = tmp_path / "back"
        assert curl(s3.generate_presigned_url("get_object", Params=where), "-o", back)[0] == 200
        assert sha256_of(back) == digest
        named = s3.generate_presigned_url("get_object", Params=where | {"ResponseContentType": "text/x-e2e"})
        assert "text/x-e2e" in call("curl", "-s", "-D", "-", "-o", "/dev/null", named).decode()
        url = s3.generate_presigned_url("put_object", Params=where | {"ContentType": "text/plain"})
        assert curl(url, "-T", path, "-H", "Content-Type: text/plain")[0] == 200
        assert request(server, "HEAD", bucket, key).headers["Content-Type"] == "text/plain"
        head = s3.generate_presigned_url("head_object", Params=where)
        assert curl(head, "-I")[0] == 200
        assert curl(s3.generate_presigned_url("delete_object", Params=where), "-X", "DELETE")[0] == 204
        assert curl(s3.generate_presigned_url("get_object", Params=where))[0] == 404


def test_aws_sync_both_ways(server, bucket, tmp_path):
    aws = Aws(server, tmp_path)
    source, target = tmp_path / "source", tmp_path / "target"
    for index in range(20):
        path = source / f"d{index % 3}" / f"file {index}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(index).randbytes(index * 1000))
    aws.run("s3", "sync", "--no-progress", source, f"s3://{bucket}/tree")
    aws.run("s3", "sync", "--no-progress", f"s3://{bucket}/tree", target)
    assert call("diff", "-r", source, target) == b""
    aws.run("s3", "rm", "--recursive", f"s3://{bucket}/tree")
    assert aws.keys(bucket) == set()
    aws.run("s3", "rb", f"s3://{bucket}")


def test_rclone_sees_nothing_to_do_after_a_sync(server, bucket, tmp_path):
    rclone = Rclone(server, tmp_path)
    source = tmp_path / "source"
    source.mkdir()
    for index in range(10):
        (source / f"file {index}").write_bytes(random.Random(index).randbytes(index * 1000))
    rclone.run("sync", source, f"shale:{bucket}")
    rclone.run("check", source, f"shale:{bucket}")
    again = call("rclone", "sync", "-v", "--dry-run", source, f"shale:{bucket}", environment=rclone.environment)
    assert b"Skipped" not in again


def test_boto3_retries_are_not_needed(server, bucket):
    """A hundred small operations at one attempt each."""
    s3 = server.client()
    for index in range(50):
        s3.put_object(Bucket=bucket, Key=f"k{index}", Body=b"x" * index)
        assert s3.get_object(Bucket=bucket, Key=f"k{index}")["Body"].read() == b"x" * index
    with pytest.raises(botocore.exceptions.ClientError):
        s3.get_object(Bucket=bucket, Key="missing")
