"""A scripted Messages API on loopback, for the command line tool that the SDK contains.

    python model_server.py PORT_FILE LOG

The user's first message is the script: JSON with the tool calls to make, one after another, before
the last text; a list of calls is made in one response. A call that was interrupted is made again
with another id, unless a message of the user contains its id. Each request is logged.
"""

from __future__ import annotations

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

log = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY | os.O_APPEND)


def texts(message: dict[str, Any]) -> list[str]:
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return [part["text"] for part in parts if part["type"] == "text"]


def response(body: dict[str, Any]) -> dict[str, Any]:
    """Return the content and the reason of the end."""
    messages = [one for one in body["messages"] if one["role"] == "user"]
    said_texts = [text for one in messages for text in texts(one)]
    scripts = [text for text in said_texts if text.startswith('{"calls"')]
    parts = [p for one in messages if isinstance(one["content"], list) for p in one["content"]]
    results = [part for part in parts if part["type"] == "tool_result"]
    rounds = json.loads(scripts[0].split("\n\n")[0])["calls"] if scripts else []
    rounds = [one if isinstance(one[0], list) else [one] for one in rounds]
    os.write(log, f"request {len(results)}\n".encode())
    number, told = 0, "".join(text for text in said_texts if "Do not make them again" in text)
    for calls in rounds if body.get("tools") else []:
        made = []
        for name, given in calls:
            own = [r for r in results if r["tool_use_id"].split("_again")[0] == f"toolu_{number}"]
            is_told = any(one["tool_use_id"] in told for one in own) or f"toolu_{number}," in told
            if not is_told and all("interrupted" in str(one.get("content")) for one in own):
                id = f"toolu_{number}" + "_again" * len(own)
                made.append({"type": "tool_use", "id": id, "name": name, "input": given})
            number += 1
        if made:
            return {"content": made, "stop_reason": "tool_use"}
    said = " | ".join(str(part.get("content")).partition("\n\n<system-")[0] for part in results)
    said += f" | {told}" if told else ""
    return {"content": [{"type": "text", "text": f"done: {said}"}], "stop_reason": "end_turn"}


def events(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a message as the API streams it."""
    found: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    ]
    for index, block in enumerate(message["content"]):
        if block["type"] == "text":
            start = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": block["text"]}
        else:
            start = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        found += [
            {"type": "content_block_start", "index": index, "content_block": start},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    return [
        *found,
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": 20}},
        {"type": "message_stop"},
    ]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing else."""

    def do_HEAD(self) -> None:
        self.reply(b"", "text/plain")

    def do_GET(self) -> None:
        self.reply(b"{}", "application/json")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
        if not self.path.partition("?")[0].endswith("/messages"):
            self.reply(b'{"input_tokens": 10}', "application/json")
            return
        if any(text == "refuse" for one in body["messages"] for text in texts(one)):
            error = {"type": "invalid_request_error", "message": "refused"}
            text = json.dumps({"type": "error", "error": error})
            self.reply(text.encode(), "application/json", 400)
            return
        usage = {"input_tokens": 100, "output_tokens": 20}
        message = {
            "id": f"msg_{os.urandom(6).hex()}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "stop_sequence": None,
            "usage": usage,
            **response(body),
        }
        if not body.get("stream"):
            self.reply(json.dumps(message).encode(), "application/json")
            return
        lines = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events(message)]
        self.reply("".join(lines).encode(), "text/event-stream")

    def reply(self, data: bytes, kind: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port = Path(sys.argv[1])
    port.with_suffix(".part").write_text(str(server.server_address[1]))
    port.with_suffix(".part").rename(port)
    server.serve_forever()
