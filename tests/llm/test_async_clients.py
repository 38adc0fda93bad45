"""Async clients that a module creates once live from one checkpoint to the next, also in steps."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from kitaru.cli.app import run
from kitaru.client import KitaruClient

HEAD = """
from kitaru import checkpoint, flow

made = {}

def client(url):
    if url not in made:
        made[url] = connect(url)
    return made[url]

@flow
def main(url: str) -> list:
    first = ask(url, "a")
    return [first, ask(url, first), *ask.map([url, url], ["c", "d"]).result()]
"""
CLIENTS = {
    "httpx": """
def connect(url):
    import httpx
    return httpx.AsyncClient(base_url=url, trust_env=False)

@checkpoint
async def ask(url: str, text: str) -> str:
    answer = await client(url).post("/echo", json={"text": text})
    return answer.json()["text"]
""",
    "openai": """
def connect(url):
    import openai
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k")

@checkpoint
async def ask(url: str, text: str) -> str:
    said = [{"role": "user", "content": text}]
    answer = await client(url).chat.completions.create(model="gpt-x", messages=said)
    return answer.choices[0].message.content
""",
    "anthropic": """
def connect(url):
    import anthropic
    return anthropic.AsyncAnthropic(base_url=url, api_key="k")

@checkpoint
async def ask(url: str, text: str) -> str:
    said = [{"role": "user", "content": text}]
    answer = await client(url).messages.create(model="claude-x", max_tokens=9, messages=said)
    return answer.content[0].text
""",
}
EXPECTED = ["a!", "a!!", "c!", "d!"]


class Echo(BaseHTTPRequestHandler):
    """Answers with what was said and `!`, on connections that stay open."""

    protocol_version = "HTTP/1.1"
    # As a client has no way to know of the answer's parts, they are sent at once.
    disable_nagle_algorithm = True
    connections: set[tuple[str, int]]

    def do_POST(self) -> None:
        self.connections.add(self.client_address)
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = f"{body['text'] if 'text' in body else body['messages'][0]['content']}!"
        message = {"role": "assistant", "content": text}
        answers = {
            "/echo": {"text": text},
            "/v1/chat/completions": {
                "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-x",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            },
            "/v1/messages": {
                "id": "m", "type": "message", "role": "assistant", "model": "claude-x",
                "content": [{"type": "text", "text": text}], "stop_reason": "end_turn",
                "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1},
            },
        }  # fmt: skip
        data = json.dumps(answers[self.path]).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Echo,), {"connections": set()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


# Importing openai in this process takes seconds and shows nothing more than in a step.
STARTS = [
    (name, start)
    for name in CLIENTS
    for start in ("run", "dry-run")
    if (name, start) != ("openai", "run")
]


@pytest.mark.parametrize(("name", "start"), STARTS)
def test_a_client_serves_every_checkpoint(
    name: str,
    start: str,
    server: ThreadingHTTPServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.chdir(tmp_path)
    module = tmp_path / f"clients_{name}_{start.replace('-', '_')}.py"
    module.write_text(HEAD.replace("@flow", f"{CLIENTS[name]}\n\n@flow"))
    url = f"http://127.0.0.1:{server.server_port}"
    more = ["-t", "kubeflow", "--granularity", "single"] if start == "dry-run" else []
    assert run([start, str(module), *more, "-i", f"url={url}", "--no-input"]) == 0
    assert KitaruClient().executions.latest().result == EXPECTED
    # One for the calls in turn, and one more for the two at once.
    connections: set[tuple[str, int]] = server.RequestHandlerClass.connections  # type: ignore[attr-defined]
    assert len(connections) <= 2
