"""A scripted provider for tests: an OpenAI-compatible server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Says:
    """One answer: `text` in words when it is streamed, `calls` are (name, arguments) of tools.

    `after` is the header Retry-After; `lost` ends the connection before the answer, or, where it is
    streamed, in its middle; `silent` never answers; `empty` answers with no choice.
    """

    text: str = ""
    status: int = 200
    calls: tuple[tuple[str, str], ...] = ()
    after: str = ""
    lost: bool = False
    silent: bool = False
    empty: bool = False

    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.calls:
            message["tool_calls"] = [
                {
                    "id": f"call_{number}",
                    "index": number,
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                }
                for number, (name, arguments) in enumerate(self.calls)
            ]
        return message

    def deltas(self) -> list[dict[str, Any]]:
        words = [word + " " for word in self.text.split(" ")]
        words[-1] = words[-1].rstrip()
        said = [{"role": "assistant", "content": word} for word in words]
        return [*said, {"tool_calls": self.message()["tool_calls"]}] if self.calls else said


@dataclass
class Provider:
    """Answers each request with the next entry of its script, and keeps the requests."""

    script: list[Says]
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    def next(self, body: dict[str, Any]) -> Says:
        self.requests.append(body)
        return self.script[len(self.requests) - 1]


USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers["authorization"]
        says = self.provider.next({**body, "path": self.path, "key": key})
        if says.silent:
            self.provider.ended.wait()
        elif says.status == 200 and body.get("stream"):
            self._stream(says)
        elif says.lost:
            self.connection.shutdown(socket.SHUT_RDWR)
        elif says.status == 200:
            answer = _answer("message", says.message(), body, "chat.completion")
            self._send(200, {**answer, "choices": []} if says.empty else answer)
        else:
            self._send(says.status, {"error": {"message": says.text, "type": "scripted"}}, says)

    def _send(self, status: int, answer: dict[str, Any], says: Says | None = None) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        if says and says.after:
            self.send_header("retry-after", says.after)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, says: Says) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.close_connection = True
        for delta in says.deltas()[: 1 if says.lost else None]:
            self._event(_answer("delta", delta, {}, "chat.completion.chunk", finish=None))
        if not says.lost:
            self._event(_answer("delta", {}, {}, "chat.completion.chunk"))
            self._event({**_answer("delta", {}, {}, "chat.completion.chunk"), "choices": []})
            self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent."""


def _answer(
    part: str, said: dict[str, Any], body: dict[str, Any], kind: str, finish: str | None = "stop"
) -> dict[str, Any]:
    usage = {"usage": USAGE} if finish else {}
    return {
        "id": "c1",
        "object": kind,
        "created": 1,
        "model": body.get("model", "scripted"),
        "choices": [{"index": 0, "finish_reason": finish, part: said}],
        **usage,
    }


@contextmanager
def serving(script: list[Says]) -> Iterator[Provider]:
    """Serve the script on a free port of this machine."""
    scripted = Provider(script)
    handler = type("Handler", (_Handler,), {"provider": scripted})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    scripted.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield scripted
    finally:
        scripted.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
