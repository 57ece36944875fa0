"""A Google Cloud Storage of one bucket, in memory, on the loopback.

The smallest part of the JSON API that the three clients of a run ask for: gcsfs (below
Orbax), TensorStore, and google-cloud-storage. It is ours because the emulators on the
package index have no generation preconditions, on which the lease of a run folder
rests, and because a test needs faults: see `Server.fault`.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import google_crc32c

BUCKET = "bucket"
OBJECTS = r"(?:/download)?/storage/v1/b/([^/]+)/o"


@dataclass(frozen=True)
class Object:
    """What an object holds, and its version."""

    content: bytes
    generation: int
    updated: str

    @property
    def crc32c(self) -> str:
        sum_ = google_crc32c.value(self.content).to_bytes(4, "big")
        return base64.b64encode(sum_).decode()

    def described(self, name: str) -> dict[str, Any]:
        """The object's resource in the JSON API."""
        md5 = hashlib.md5(self.content).digest()
        return {
            "kind": "storage#object",
            "id": f"{BUCKET}/{name}/{self.generation}",
            "name": name,
            "bucket": BUCKET,
            "generation": str(self.generation),
            "metageneration": "1",
            "size": str(len(self.content)),
            "timeCreated": self.updated,
            "updated": self.updated,
            "crc32c": self.crc32c,
            "md5Hash": base64.b64encode(md5).decode(),
            "contentType": "application/octet-stream",
            "storageClass": "STANDARD",
        }


@dataclass
class Server:
    """The bucket, and what goes wrong with it.

    fault: (method, path and query) -> the HTTP status to answer with in the place of
        doing it, 0 to break the connection, -1 to do it and then break it, None to do
        it.
    asked: each request, "GET /storage/v1/b/bucket/o?prefix=run", oldest first.
    """

    objects: dict[str, Object] = field(default_factory=dict)
    uploads: dict[str, tuple[str, str | None, bytearray]] = field(default_factory=dict)
    fault: Callable[[str, str], int | None] = lambda method, target: None
    asked: list[str] = field(default_factory=list)
    url: str = ""
    _last: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    def names(self, prefix: str = "") -> list[str]:
        """The objects below a prefix."""
        with self.lock:
            return sorted(name for name in self.objects if name.startswith(prefix))

    def read(self, name: str) -> bytes:
        """What an object holds."""
        return self.objects[name].content

    def put(self, name: str, content: bytes) -> Object:
        """Writes an object, as another machine would."""
        with self.lock:
            self._last = max(self._last + 1, time.time_ns() // 1000)
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            made = self.objects[name] = Object(bytes(content), self._last, now)
            return made

    def environment(self) -> dict[str, str]:
        """What makes the clients of a process talk to this server."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",
            # or gcsfs asks Google what kind of bucket this is
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
            "GOOGLE_CLOUD_PROJECT": "none",
        }


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A server with an empty bucket named `BUCKET`, until the block ends."""
    server = Server()

    class Handler(_Handler):
        store = server

    class Listener(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that was killed

    listener = Listener(("localhost", 0), Handler)
    server.url = f"http://localhost:{listener.server_address[1]}"
    thread = threading.Thread(
        target=listener.serve_forever, args=(0.05,), name="storage", daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


class _Refused(Exception):
    def __init__(self, status: int, reason: str = "refused by the test"):
        super().__init__(reason)
        self.status, self.reason = status, reason


class _Handler(BaseHTTPRequestHandler):
    store: Server
    is_lost = False
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        split = urlsplit(self.path)
        self.query = {
            name: values[-1] for name, values in parse_qs(split.query).items()
        }
        self.store.asked.append(f"{self.command} {unquote(self.path)}")
        try:
            status = self.store.fault(self.command, unquote(self.path))
            if status == 0:
                self.close_connection = True
                return
            self.is_lost = status == -1
            if status is not None and not self.is_lost:
                raise _Refused(status)
            self.route(split.path, body)
        except _Refused as refused:
            said = {"code": refused.status, "message": refused.reason}
            self.answer_json({"error": said}, refused.status)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = do

    def route(self, path: str, body: bytes) -> None:
        if match := re.search(r"/b/([^/]+)", path):
            if match[1] != BUCKET:
                raise _Refused(404, "The specified bucket does not exist.")
        if re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path):
            self.upload(body)
        elif match := re.fullmatch(rf"{OBJECTS}/(.+)/rewriteTo/b/[^/]+/o/(.+)", path):
            self.copy(unquote(match[2]), unquote(match[3]))
        elif match := re.fullmatch(rf"{OBJECTS}/(.+)", path):
            self.one(unquote(match[2]))
        elif re.fullmatch(OBJECTS, path):
            self.listing()
        elif re.fullmatch(r"/storage/v1/b/([^/]+)", path):
            self.answer_json({"kind": "storage#bucket", "id": BUCKET, "name": BUCKET})
        else:
            raise _Refused(501, f"{self.command} {path} is not part of this server")

    # Objects

    def found(self, name: str) -> Object:
        made = self.store.objects.get(name)
        if made is None:
            raise _Refused(404, f"No such object: {BUCKET}/{name}")
        return made

    def check_generation(self, name: str, wanted: str | None) -> None:
        made = self.store.objects.get(name)
        if wanted is not None and int(wanted) != (made.generation if made else 0):
            raise _Refused(412, "At least one of the pre-conditions did not hold.")

    def one(self, name: str) -> None:
        with self.store.lock:
            made = self.found(name)
            self.check_generation(name, self.query.get("ifGenerationMatch"))
            if self.command == "DELETE":
                del self.store.objects[name]
                self.answer(b"", 204)
                return
        if self.query.get("ifGenerationNotMatch") == str(made.generation):
            self.answer(b"", 304)
        elif self.query.get("alt") == "media":
            self.media(made)
        else:
            self.answer_json(made.described(name))

    def media(self, made: Object) -> None:
        content, status, size = made.content, 200, len(made.content)
        headers = {
            "x-goog-generation": str(made.generation),
            "x-goog-hash": f"crc32c={made.crc32c}",
            "x-goog-stored-content-length": str(size),
        }
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or ""):
            first, last = match[1], match[2]
            start = int(first) if first else size - int(last)
            end = min(int(last) + 1, size) if first and last else size
            if start >= size:
                raise _Refused(416, "The requested range cannot be satisfied.")
            content, status = content[start:end], 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self.answer(content, status, headers)

    def copy(self, source: str, target: str) -> None:
        with self.store.lock:
            made = self.store.put(target, self.found(source).content)
        size = str(len(made.content))
        self.answer_json(
            {
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": size,
                "objectSize": size,
                "done": True,
                "resource": made.described(target),
            }
        )

    def listing(self) -> None:
        prefix, delimiter = (self.query.get(n, "") for n in ("prefix", "delimiter"))
        begin, end = self.query.get("startOffset", ""), self.query.get("endOffset")
        items, prefixes = [], set()
        with self.store.lock:
            for name in self.store.names(prefix):
                if name < begin or (end and name >= end):
                    continue
                inner, cut, _ = name[len(prefix) :].partition(delimiter or "\0")
                if cut and delimiter:
                    prefixes.add(prefix + inner + delimiter)
                else:
                    items.append(self.store.objects[name].described(name))
        limit = int(self.query.get("maxResults") or 1000)
        page = int(self.query.get("pageToken") or 0)
        listed: dict[str, Any] = {"kind": "storage#objects"}
        listed["items"] = items[page : page + limit]
        if page == 0:
            listed["prefixes"] = sorted(prefixes)
        if page + limit < len(items):
            listed["nextPageToken"] = str(page + limit)
        self.answer_json(listed)

    # Uploads

    def upload(self, body: bytes) -> None:
        kind = self.query.get("uploadType")
        wanted = self.query.get("ifGenerationMatch")
        if kind == "media":
            self.store_object(self.query["name"], wanted, body)
        elif kind == "multipart":
            head = f"Content-Type: {self.headers['Content-Type']}\n\n".encode()
            about, content = message_from_bytes(head + body).get_payload()
            name = json.loads(about.get_payload())["name"]
            del content
            self.store_object(name, wanted, self.last_part(body))
        elif kind == "resumable" and "upload_id" not in self.query:
            name = self.query.get("name") or json.loads(body)["name"]
            id_ = str(len(self.store.uploads))
            self.store.uploads[id_] = name, wanted, bytearray()
            where = f"{self.store.url}{self.path}&upload_id={id_}"
            self.answer(b"", 200, {"Location": where})
        elif kind == "resumable":
            self.resume(body)
        else:
            raise _Refused(501, f"no uploads of type {kind}")

    def last_part(self, body: bytes) -> bytes:
        """The content, byte for byte: mail parsers change line ends."""
        found = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
        assert found is not None
        fence = b"--" + found[1].encode()
        part = body.split(fence)[2:]  # the content may hold the fence itself
        part = fence.join(part[:-1])
        _, _, content = re.split(rb"(\r?\n\r?\n)", part, maxsplit=1)
        return content[: -2 if content.endswith(b"\r\n") else -1]

    def resume(self, body: bytes) -> None:
        name, wanted, so_far = self.store.uploads[self.query["upload_id"]]
        match = re.fullmatch(
            r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", self.headers.get("Content-Range") or ""
        )
        if match and match[1]:
            del so_far[int(match[1]) :]
        so_far += body
        if match and match[2] != str(len(so_far)):
            seen = {"Range": f"bytes=0-{len(so_far) - 1}"} if so_far else {}
            self.answer(b"", 308, seen)
            return
        self.store_object(name, wanted, bytes(so_far))

    def store_object(self, name: str, wanted: str | None, content: bytes) -> None:
        with self.store.lock:
            self.check_generation(name, wanted)
            made = self.store.put(name, content)
        self.answer_json(made.described(name))

    # Answers

    def answer_json(self, value: Any, status: int = 200) -> None:
        kind = {"Content-Type": "application/json; charset=UTF-8"}
        self.answer(json.dumps(value).encode(), status, kind)

    def answer(
        self, content: bytes, status: int, headers: dict[str, str] | None = None
    ) -> None:
        if self.is_lost:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(content)
