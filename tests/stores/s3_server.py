"""A small S3 on loopback: what the store uses of it, and every fault that S3 is known for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Fault = Callable[[str, str], str]


class Bucket:
    """Objects by key, and what goes wrong: `fault(method, key)` names it, or returns ""."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()
        self.fault: Fault = lambda method, key: ""
        self.requests: list[tuple[str, str]] = []
        self.honours_create = True

    def put(self, key: str, value: bytes, *, create: bool) -> int:
        with self.lock:
            if create and self.honours_create and key in self.objects:
                return 412
            self.objects[key] = value
            return 200


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def log_message(self, format: str, *args: object) -> None:
        return

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix("/bucket").lstrip("/")

    def _reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._reply(status, f"<Error><Code>{code}</Code></Error>".encode())

    def _faulty(self) -> str:
        key = self._key()
        self.bucket.requests.append((self.command, key))
        fault = self.bucket.fault(self.command, key)
        if fault == "reset":
            self.close_connection = True
            self.connection.close()
        elif fault.isdigit():
            names = {
                "404": "NoSuchBucket",
                "403": "AccessDenied",
                "409": "ConditionalRequestConflict",
            }
            self._error(int(fault), names.get(fault, "InternalError"))
        return fault

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        fault = self._faulty()
        if fault and not fault.startswith("after"):
            return
        status = self.bucket.put(self._key(), body, create=self.headers["If-None-Match"] == "*")
        if fault == "after-reset":
            self.close_connection = True
            self.connection.close()
        elif fault == "after-500":
            self._error(500, "InternalError")
        elif status == 412:
            self._error(412, "PreconditionFailed")
        else:
            self._reply(200, ETag='"1"')

    def do_GET(self) -> None:
        if self._faulty():
            return
        query = parse_qs(urlsplit(self.path).query)
        if "list-type" in query:
            self._list(query)
        elif (value := self.bucket.objects.get(self._key())) is None:
            self._error(404, "NoSuchKey")
        else:
            self._reply(200, value, ETag='"1"', Last_Modified="Sun, 22 Nov 2026 00:00:00 GMT")

    def do_DELETE(self) -> None:
        if not self._faulty():
            self.bucket.objects.pop(self._key(), None)
            self._reply(204)

    def do_POST(self) -> None:
        # DeleteObjects, which obstore uses even for one object.
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self._faulty():
            return
        key = body.partition("<Key>")[2].partition("</Key>")[0]
        self.bucket.objects.pop(key, None)
        self._reply(
            200, f"<DeleteResult><Deleted><Key>{key}</Key></Deleted></DeleteResult>".encode()
        )

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix, after = (query.get(name, [""])[0] for name in ("prefix", "start-after"))
        keys = sorted(k for k in self.bucket.objects if k.startswith(prefix) and k > after)
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.bucket.objects[key])}</Size>"
            "<ETag>1</ETag><LastModified>2026-11-22T00:00:00.000Z</LastModified></Contents>"
            for key in keys
        )
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>"
        self._reply(200, body.encode())


@contextmanager
def s3_server() -> Iterator[tuple[Bucket, dict[str, str]]]:
    """Serve one bucket named `bucket`; yield it and the environment that points obstore at it."""
    bucket = Bucket()
    handler = type("Handler", (_Handler,), {"bucket": bucket})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    try:
        yield bucket, environment
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
