"""Clients that keep a book of what was acknowledged, and check it after a crash.

Each worker owns its keys, so what one of its keys may hold is known: the value of the last acknowledged write or
delete, or that of a request whose answer did not come. Once seen after a crash, a value is settled.
"""

import http.client
import random
import threading

from wire import UNSIGNED, Connection, encode_path

PART = 5 << 20
SIZES = [0, 1, 700, 16 << 10, (16 << 10) + 1, 100_000, 1 << 20, 3_000_000]
KEYS_PER_WORKER = 12
GONE = (OSError, http.client.HTTPException)  # of a server that was killed

_noise = random.Random(5).randbytes(12 << 20)


def content(seed, size):
    """`size` bytes that no other seed gives."""
    start = seed * 7919 % (1 << 20)
    head = f"{seed}:{size};".encode()
    return (head + _noise[start : start + size])[:size]


class Entry:
    """What a key may hold: values are (seed, size), None for no object."""

    def __init__(self):
        self.settled = None
        self.pending = []

    def allowed(self):
        return [self.settled, *self.pending]


class Upload:
    """A multipart upload that may live through crashes."""

    def __init__(self, upload_id):
        self.id = upload_id
        self.parts = {}  # number -> (ETag, seed, size), acknowledged


class Worker:
    """Puts, overwrites, deletes and completes until the server is gone or `stopping` is set."""

    def __init__(self, number, server, bucket, previous=None, multipart=True):
        self.number = number
        self.server = server
        self.bucket = bucket
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.errors = []
        self.acknowledged = previous.acknowledged if previous else 0
        self.random = previous.random if previous else random.Random(1000 + number)
        self.entries = previous.entries if previous else {self._key(i): Entry() for i in range(KEYS_PER_WORKER)}
        self.uploads = previous.uploads if previous else {}
        self.seed = previous.seed if previous else number << 32
        self.multipart = multipart
        self.tolerated = ()

    def _key(self, index):
        return f"worker-{self.number}/key {index}"

    def _next_seed(self):
        self.seed += 1
        return self.seed

    def _run(self):
        try:
            with Connection(self.server, timeout=60) as connection:
                while not self.stopping.is_set() and not self.errors:
                    self._step(connection)
        except GONE:
            pass

    def _step(self, connection):
        key = self.random.choice(list(self.entries))
        choice = self.random.random()
        if choice < 0.2:
            self._delete(connection, key)
        elif choice < 0.3 and self.multipart:
            self._multipart(connection, key)
        else:
            self._put(connection, key)

    def _expect(self, answer, *statuses):
        if answer.status in self.tolerated:
            return False
        if answer.status not in statuses or (answer.status == 200 and answer.code is not None):
            self.errors.append(answer)
            return False
        return True

    def _change(self, key, value, send):
        """One request that makes `key` hold `value`; without an answer it may or may not."""
        entry = self.entries[key]
        entry.pending.append(value)
        answer = send()
        if answer.status in self.tolerated:
            return
        if self._expect(answer, 200, 204):
            entry.settled, entry.pending = value, []
            self.acknowledged += 1

    def _put(self, connection, key):
        value = (self._next_seed(), self.random.choice(SIZES))
        path = encode_path(self.bucket, key)
        body = content(*value)
        self._change(key, value, lambda: connection.request("PUT", path, body=body, payload=UNSIGNED))

    def _delete(self, connection, key):
        self._change(key, None, lambda: connection.request("DELETE", encode_path(self.bucket, key)))

    def _multipart(self, connection, key):
        """Begin an upload, add a part to it, or complete it with two parts: one step at a time, across crashes."""
        path = encode_path(self.bucket, key)
        upload = self.uploads.get(key)
        if upload is None:
            answer = connection.request("POST", path, [("uploads", "")])
            if self._expect_upload(answer):
                self.uploads[key] = Upload(answer.text("UploadId"))
            return
        if len(upload.parts) < 2:
            number = len(upload.parts) + 1
            seed, size = self._next_seed(), PART if number == 1 else 1000
            query = [("partNumber", number), ("uploadId", upload.id)]
            answer = connection.request("PUT", path, query, body=content(seed, size), payload=UNSIGNED)
            if self._expect(answer, 200):
                upload.parts[number] = (answer.headers["ETag"], seed, size)
            return
        items = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{part[0]}</ETag></Part>"
            for number, part in upload.parts.items()
        )
        body = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()
        value = tuple(part[1:] for part in upload.parts.values())
        del self.uploads[key]
        self._change(key, value, lambda: connection.request("POST", path, [("uploadId", upload.id)], body=body))

    def _expect_upload(self, answer):
        if answer.status == 200 and answer.text("UploadId"):
            return True
        if answer.status not in self.tolerated:
            self.errors.append(answer)
        return False

    # After a crash

    def check(self):
        """Every key holds what it may, bit for bit; acknowledged parts are still there. Settles what is seen."""
        with Connection(self.server, timeout=60) as connection:
            for key, entry in self.entries.items():
                self._check_key(connection, key, entry)
            for key, upload in self.uploads.items():
                answer = connection.request("GET", encode_path(self.bucket, key), [("uploadId", upload.id)])
                assert answer.status == 200, f"the acknowledged upload of {key} is lost: {answer}"
                seen = dict(zip(map(int, answer.all("Part/PartNumber")), answer.all("Part/ETag")))
                for number, part in upload.parts.items():
                    assert seen.get(number) == part[0], f"part {number} of {key}: {seen}, acknowledged {part}"

    def _check_key(self, connection, key, entry):
        answer = connection.request("GET", encode_path(self.bucket, key))
        assert answer.status in (200, 404), f"{key}: {answer}"
        seen = None if answer.status == 404 else answer.body
        for value in entry.allowed():
            if matches(value, seen):
                entry.settled, entry.pending = value, []
                return
        shown = "no object" if seen is None else f"{len(seen)} bytes {seen[:40]!r}"
        raise AssertionError(f"{key}: {shown}, acknowledged {entry.settled}, unanswered {entry.pending}")

    def live_keys(self):
        return {key for key, entry in self.entries.items() if entry.settled is not None}


def matches(value, seen):
    if value is None or seen is None:
        return value is None and seen is None
    if value and isinstance(value[0], tuple):
        return seen == b"".join(content(*part) for part in value)
    return seen == content(*value)


class Crowd:
    """The workers of one test; their books live as long as the crowd."""

    def __init__(self, server, bucket, count, multipart=True):
        self.server = server
        self.bucket = bucket
        self.multipart = multipart
        self.tolerated = ()
        self.workers = [Worker(number, server, bucket, multipart=multipart) for number in range(count)]

    def begin(self):
        """New threads on the same books."""
        self.workers = [
            Worker(worker.number, self.server, self.bucket, worker, self.multipart) for worker in self.workers
        ]
        for worker in self.workers:
            worker.tolerated = self.tolerated
            worker.thread.start()

    def tolerate(self, *statuses):
        """Answers that say no more than silence does, from the next `begin` on."""
        self.tolerated = statuses

    def end(self):
        for worker in self.workers:
            worker.stopping.set()
        for worker in self.workers:
            worker.thread.join(90)
            assert not worker.thread.is_alive()

    @property
    def errors(self):
        return [error for worker in self.workers for error in worker.errors]

    @property
    def acknowledged(self):
        return sum(worker.acknowledged for worker in self.workers)

    def check(self):
        failures = []

        def check_one(worker):
            try:
                worker.check()
            except (AssertionError, *GONE) as error:
                failures.append(error)

        threads = [threading.Thread(target=check_one, args=(worker,)) for worker in self.workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures[0]
        self._check_listing()

    def _check_listing(self):
        with Connection(self.server) as connection:
            answer = connection.request("GET", encode_path(self.bucket), [("list-type", "2")])
        expected = set().union(*(worker.live_keys() for worker in self.workers))
        assert set(answer.all("Contents/Key")) == expected
