"""Listings of 3000 keys against a model of what S3 documents: every way of paging gives the same keys in order."""

import itertools
import random
import threading
import urllib.parse

import pytest

from wire import Connection, encode_path, request

KEY_COUNT = 3000
PREFIXES = ["", "a", "a/", "dir/", "dir/sub", "dir/sub/", "dir//", "ü", "漢/", "zz", "no-such", "+ %", "flat-00"]
DELIMITERS = ["", "/", "b", "//", "-0", "ü", "no-such"]


def make_keys():
    generator = random.Random(3)
    folders = ["", "a/", "a/b/", "dir/", "dir/sub/", "dir/sub/x/", "dir//", "ü/", "漢/字/", "+ %/", "zz/y/", "b"]
    words = ["a", "b", "c", "ü", "漢", "🐚", "x y", "-", "~", "!", "A", "0", "&<", "b/"]
    keys = {f"flat-{index:04}" for index in range(1000)}
    while len(keys) < KEY_COUNT:
        word = "".join(generator.choices(words, k=generator.randint(1, 4)))
        keys.add(generator.choice(folders) + word)
    return sorted(keys, key=str.encode)


@pytest.fixture(scope="module")
def listed(server, s3):
    """(bucket, its keys in order)."""
    bucket, keys = "listing", make_keys()
    s3.create_bucket(Bucket=bucket)
    shuffled = random.Random(4).sample(keys, len(keys))
    failures = []

    def put(part):
        with Connection(server) as connection:
            for key in part:
                answer = connection.request("PUT", encode_path(bucket, key), body=key.encode())
                if answer.status != 200:
                    failures.append((key, answer))

    threads = [threading.Thread(target=put, args=(shuffled[index::4],)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    return bucket, keys


def model(keys, prefix="", delimiter="", after=""):
    """Keys and common prefixes, in one order, behind `after`; a prefix that `after` names is done."""
    entries = []
    for key in keys:
        if not key.startswith(prefix) or key.encode() <= after.encode():
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = (key, False) if cut < 0 else (key[: cut + len(delimiter)], True)
        if entry[1] and (entry in entries[-1:] or (after.startswith(entry[0]) and after == entry[0])):
            continue
        entries.append(entry)
    return entries


def entries_of(answer):
    """Of one page, decoded; each list must be in order by itself."""
    assert answer.status == 200, answer
    unquote = urllib.parse.unquote if answer.text("EncodingType") == "url" else str
    keys = [unquote(text) for text in answer.all("Contents/Key")]
    prefixes = [unquote(text) for text in answer.all("CommonPrefixes/Prefix")]
    assert keys == sorted(keys, key=str.encode) and prefixes == sorted(prefixes, key=str.encode)
    return sorted([(key, False) for key in keys] + [(text, True) for text in prefixes], key=lambda e: e[0].encode())


def pages_v2(connection, path, query, max_keys):
    token = []
    while True:
        answer = connection.request("GET", path, [("list-type", "2"), *query, ("max-keys", max_keys), *token])
        page = entries_of(answer)
        assert len(page) <= max_keys and int(answer.text("KeyCount")) == len(page)
        yield page
        if answer.text("IsTruncated") == "false":
            assert answer.text("NextContinuationToken") is None
            return
        assert len(page) == max_keys, "a page is cut only when it is full"
        token = [("continuation-token", answer.text("NextContinuationToken"))]


def pages_v1(connection, path, query, max_keys):
    marker = []
    while True:
        answer = connection.request("GET", path, [*query, ("max-keys", max_keys), *marker])
        page = entries_of(answer)
        assert len(page) <= max_keys
        yield page
        if answer.text("IsTruncated") == "false":
            return
        after = answer.text("NextMarker")
        unquote = urllib.parse.unquote if answer.text("EncodingType") == "url" else str
        # ListObjects: NextMarker comes with a delimiter only; without one it is the last key.
        marker = [("marker", unquote(after) if after is not None else page[-1][0])]


@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_prefix_and_delimiter(server, listed, prefix, delimiter):
    bucket, keys = listed
    expected = model(keys, prefix, delimiter)
    query = [(name, value) for name, value in (("prefix", prefix), ("delimiter", delimiter)) if value]
    with Connection(server) as connection:
        for pages, encoding in ((pages_v1, []), (pages_v2, [("encoding-type", "url")])):
            found = list(itertools.chain(*pages(connection, encode_path(bucket), query + encoding, 1000)))
            assert found == expected, pages


def test_both_encodings_in_both_versions(server, listed):
    bucket, keys = listed
    with Connection(server) as connection:
        for pages, encoding in ((pages_v1, [("encoding-type", "url")]), (pages_v2, [])):
            found = list(itertools.chain(*pages(connection, encode_path(bucket), [("delimiter", "/"), *encoding], 500)))
            assert found == model(keys, delimiter="/"), pages


@pytest.mark.parametrize("max_keys", [1, 3, 64, 999])
@pytest.mark.parametrize(
    "prefix,delimiter", [("", ""), ("", "/"), ("dir/", "/"), ("flat-00", ""), ("", "b"), ("a/", "//")]
)
def test_every_page_size(server, listed, prefix, delimiter, max_keys):
    bucket, keys = listed
    expected = model(keys, prefix, delimiter)
    if len(expected) > 100 * max_keys:
        expected = None  # too many pages: only the beginning
    query = [(name, value) for name, value in (("prefix", prefix), ("delimiter", delimiter)) if value]
    with Connection(server) as connection:
        for pages in (pages_v1, pages_v2):
            some = itertools.islice(pages(connection, encode_path(bucket), query, max_keys), 100)
            found = list(itertools.chain(*some))
            wanted = model(keys, prefix, delimiter)[: len(found)] if expected is None else expected
            assert found == wanted, pages


@pytest.mark.parametrize("delimiter", ["", "/"])
def test_every_kind_of_start(server, listed, delimiter):
    bucket, keys = listed
    starts = [keys[0], keys[1500], keys[-1], "a", "a/", "a/b/", "dir/sub/"]
    starts += ["flat-0500", "flat-05005", "~~~", "\U0010ffff"]
    with Connection(server) as connection:
        for start in starts:
            expected = model(keys, delimiter=delimiter, after=start)
            query = [("delimiter", delimiter)] if delimiter else []
            v2 = pages_v2(connection, encode_path(bucket), [*query, ("start-after", start)], 1000)
            assert list(itertools.chain(*v2)) == expected, start
            first = connection.request("GET", encode_path(bucket), [*query, ("marker", start)])
            assert entries_of(first) == expected[:1000], start


def test_versions_list_the_same_keys(server, listed):
    bucket, keys = listed
    found, markers = [], []
    with Connection(server) as connection:
        while True:
            answer = connection.request(
                "GET", encode_path(bucket), [("versions", ""), ("max-keys", 700), ("encoding-type", "url"), *markers]
            )
            found += [urllib.parse.unquote(text) for text in answer.all("Version/Key")]
            assert set(answer.all("Version/VersionId")) == {"null"}
            assert set(answer.all("Version/IsLatest")) == {"true"}
            if answer.text("IsTruncated") == "false":
                break
            markers = [("key-marker", urllib.parse.unquote(answer.text("NextKeyMarker")))]
            if (version := answer.text("NextVersionIdMarker")) is not None:
                markers.append(("version-id-marker", version))
        assert found == keys
        answer = connection.request("GET", encode_path(bucket), [("versions", ""), ("delimiter", "/")])
        found = [(key, False) for key in answer.all("Version/Key")]
        found += [(text, True) for text in answer.all("CommonPrefixes/Prefix")]
        assert sorted(found, key=lambda e: e[0].encode()) == model(keys, delimiter="/")[:1000]


def test_fields_of_an_entry(server, s3, listed):
    bucket, keys = listed
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=5, FetchOwner=True)
    assert [entry["Key"] for entry in page["Contents"]] == keys[:5]
    for entry in page["Contents"]:
        head = s3.head_object(Bucket=bucket, Key=entry["Key"])
        assert (entry["ETag"], entry["Size"]) == (head["ETag"], len(entry["Key"].encode()))
        assert entry["Owner"]["ID"] and entry["StorageClass"] == "STANDARD"
    assert (page["Name"], page["MaxKeys"], page["KeyCount"], page["IsTruncated"]) == (bucket, 5, 5, True)
    assert "Owner" not in s3.list_objects_v2(Bucket=bucket, MaxKeys=1)["Contents"][0]
    assert s3.list_objects(Bucket=bucket, MaxKeys=1)["Contents"][0]["Owner"]["ID"]


def test_no_keys_wanted(s3, listed):
    bucket, _ = listed
    for call in (s3.list_objects, s3.list_objects_v2):
        page = call(Bucket=bucket, MaxKeys=0)
        assert ("Contents" not in page, page["IsTruncated"], page["MaxKeys"]) == (True, False, 0)


def test_more_than_1000_keys_are_never_given(server, listed):
    bucket, keys = listed
    answer = request(server, "GET", bucket, query=[("list-type", "2"), ("max-keys", "5000")])
    assert len(answer.all("Contents")) == 1000 and answer.text("IsTruncated") == "true"


BAD_QUERIES = {
    "negative max-keys": [("max-keys", "-1")],
    "max-keys that is no number": [("max-keys", "ten")],
    "max-keys too large": [("max-keys", "99999999999999999999")],
    "unknown encoding": [("encoding-type", "base64")],
    "token that is none": [("list-type", "2"), ("continuation-token", "garbage")],
    "empty token": [("list-type", "2"), ("continuation-token", "")],
}


@pytest.mark.parametrize("case", BAD_QUERIES)
def test_bad_queries(server, listed, case):
    bucket, _ = listed
    answer = request(server, "GET", bucket, query=BAD_QUERIES[case])
    assert (answer.status, answer.code) == (400, "InvalidArgument"), answer


def test_a_listing_sees_every_write_before_it(server, bucket):
    with Connection(server) as connection:
        for index in range(50):
            connection.request("PUT", encode_path(bucket, f"k{index:02}"), body=b"x")
            keys = connection.request("GET", encode_path(bucket), [("list-type", "2")]).all("Contents/Key")
            assert len(keys) == index + 1
        for index in range(50):
            connection.request("DELETE", encode_path(bucket, f"k{index:02}"))
            keys = connection.request("GET", encode_path(bucket), [("list-type", "2")]).all("Contents/Key")
            assert len(keys) == 49 - index
