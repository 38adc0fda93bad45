"""Inject faults between a store and the real server behind it, by a script."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlencode, urlsplit

from .real import HOST, Server

# What a fault answers: `500` before the server sees the request, `after-500` once it has acted.
CODES = {
    "400": "ExpiredToken",
    "403": "AccessDenied",
    "404": "NoSuchBucket",
    "409": "ConditionalRequestConflict",
    "429": "TooManyRequests",
    "500": "InternalError",
    "503": "SlowDown",
}
# A request keeps its date, which Azure signs; an answer gets its own.
_NOT_SENT_ON = {"connection", "host", "transfer-encoding"}
_NOT_SENT_BACK = {"connection", "content-length", "transfer-encoding", "date", "server"}
_BOUNDARY = "a-boundary-that-no-test-writes"


@dataclass(frozen=True)
class Message:
    """A request, whose `head` is its method, or an answer, whose `head` is its status."""

    head: str
    path: str
    headers: dict[str, str]
    body: bytes


class Proxy:
    """A way to a server; `fault(method, key)` names what goes wrong with a request, or nothing.

    Each request takes `delay` seconds longer than the server does. A fault is `reset`, `stall`
    (no answer while the proxy runs), `short` (half an answer) or one of `CODES`, with `after-`
    when the server has acted already.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = 0
        self.delay = 0.0
        self.fault: Callable[[str, str], str] = lambda method, key: ""
        self.requests: list[tuple[str, str]] = []
        self.ended = threading.Event()

    @property
    def environment(self) -> dict[str, str]:
        return self.server.kind.environment(self.port)

    @property
    def url(self) -> str:
        return self.server.kind.url

    def forward(self, asked: Message) -> Message:
        connection = http.client.HTTPConnection(HOST, self.server.port, timeout=300)
        try:
            connection.request(asked.head, asked.path, asked.body or None, asked.headers)
            with connection.getresponse() as answer:
                headers = {k: v for k, v in answer.getheaders() if k.lower() not in _NOT_SENT_BACK}
                # fake-gcs-server leaves it out where obstore insists on one.
                headers = {"ETag": '"1"'} | headers
                return Message(str(answer.status), "", headers, answer.read())
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body leave in two writes, and Nagle would hold the second back.
    disable_nagle_algorithm = True
    proxy: Proxy

    def log_message(self, format: str, *args: object) -> None:
        return

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        kept = {k: v for k, v in self.headers.items() if k.lower() not in _NOT_SENT_ON}
        asked = Message(self.command, self.path, kept, body)
        key = unquote(urlsplit(self.path).path).partition("/bucket")[2].lstrip("/")
        self.proxy.requests.append((self.command, key))
        time.sleep(self.proxy.delay)
        after, _, fault = self.proxy.fault(self.command, key).rpartition("-")
        answer = self.proxy.forward(as_json_api(asked)) if after or not fault else None
        if fault == "short" and answer is not None:
            self._reply(answer, len(answer.body) // 2)
            self._break_off(fault)
        elif fault in {"reset", "stall"}:
            self._break_off(fault)
        else:
            self._reply(_error(fault) if fault or answer is None else answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass

    def _break_off(self, fault: str) -> None:
        if fault == "stall":
            self.proxy.ended.wait()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _reply(self, answer: Message, sent: int | None = None) -> None:
        self.send_response(int(answer.head))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[:sent])


def _error(status: str) -> Message:
    body = f"<Error><Code>{CODES[status]}</Code></Error>".encode()
    return Message(status, "", {"Retry-After": "0"}, body)


def as_json_api(asked: Message) -> Message:
    """Return a PUT of Google's XML API as the upload of its JSON API that means the same.

    fake-gcs-server knows the condition only there, and knows no PUT of an object at all.
    """
    condition = {k.lower(): v for k, v in asked.headers.items()}.get("x-goog-if-generation-match")
    if condition is None:
        return asked
    bucket, _, name = unquote(urlsplit(asked.path).path).removeprefix("/").partition("/")
    options = {"uploadType": "multipart", "name": name, "ifGenerationMatch": condition}
    part = (
        f"--{_BOUNDARY}\r\nContent-Type: application/json\r\n\r\n{json.dumps({'name': name})}\r\n"
    )
    data = f"--{_BOUNDARY}\r\nContent-Type: application/octet-stream\r\n\r\n"
    body = (part + data).encode() + asked.body + f"\r\n--{_BOUNDARY}--\r\n".encode()
    headers = {"Content-Type": f"multipart/related; boundary={_BOUNDARY}"}
    path = f"/upload/storage/v1/b/{bucket}/o?{urlencode(options)}"
    return Message("POST", path, headers, body)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        # A client that gave up is part of the script.
        return


@contextmanager
def proxied(server: Server) -> Iterator[Proxy]:
    """Listen on a free port, in front of the server."""
    proxy = Proxy(server)
    listener = _Listener((HOST, 0), type("Handler", (_Handler,), {"proxy": proxy}))
    proxy.port = listener.server_port
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.ended.set()
        listener.shutdown()
        thread.join()
        listener.server_close()
