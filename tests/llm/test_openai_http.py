"""OpenAI's protocol as servers really speak it: streams in odd parts, bodies that are no answer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitaru.errors import ModelRequestError
from kitaru.runtime.llm import providers
from kitaru.runtime.llm.exchange import Pieces
from kitaru.runtime.llm.models import ModelRequest, Resolved
from tests.llm.scripted import Says, serving

USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")


@contextmanager
def sending(body: bytes, kind: str = "application/json") -> Iterator[tuple[str, list[Any]]]:
    """Serve one body to every request; yield the address and the requests."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers["content-length"])
            asked.append((json.loads(self.rfile.read(size)), dict(self.headers)))
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked(url: str, model: str = "openai/m", **request: Any) -> providers.Answer:
    stream = request.pop("stream", None)
    options = {"prompt": "x", "retries": 0, **request}
    return providers.ask(ModelRequest(**options), Resolved("fast", model, url), stream)


def events(*parts: dict[str, Any], finish: str | None = "tool_calls") -> bytes:
    chunks = [{"choices": [{"index": 0, "delta": part, "finish_reason": None}]} for part in parts]
    if finish:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    chunks.append({"choices": [], "usage": USAGE})
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return ": a comment\n\n".join([*lines, "data: [DONE]\n\n"]).encode()


def part(index: int | None, id: str | None, name: str | None, arguments: str) -> dict[str, Any]:
    function = {"arguments": arguments} | ({} if name is None else {"name": name})
    call: dict[str, Any] = {"function": function, "type": "function"}
    call |= {} if id is None else {"id": id}
    call |= {} if index is None else {"index": index}
    return {"tool_calls": [call]}


CITIES = [f'{{"city": "{name}"}}' for name in ("Ghent", "Ulm", "Nice")]


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([part(0, f"c{n}", "look", text) for n, text in enumerate(CITIES)], id="all 0"),
        pytest.param([part(None, f"c{n}", "look", t) for n, t in enumerate(CITIES)], id="no index"),
        pytest.param([part(n, f"c{n}", "look", t) for n, t in enumerate(CITIES)], id="as written"),
        pytest.param([part(n + 1, f"c{n}", "look", t) for n, t in enumerate(CITIES)], id="from 1"),
        pytest.param([part(0, None, "look", text) for text in CITIES], id="no ids"),
        pytest.param([part(0, "", "look", text) for text in CITIES], id="empty ids"),
        pytest.param(
            [p for n, t in enumerate(CITIES) for p in (
                part(0, f"c{n}", "look", t[:5]), part(0, f"c{n}", None, t[5:]))],
            id="id repeated",
        ),
        pytest.param(
            [p for n, t in enumerate(CITIES) for p in (
                part(n, f"c{n}", "look", ""), part(n, None, None, t[:3]), part(n, "", "", t[3:]))],
            id="in parts",
        ),
        pytest.param(
            [*(part(n, f"c{n}", "look", "") for n in range(3)),
             *(part(n, None, None, t[:4]) for n, t in enumerate(CITIES)),
             *(part(n, None, None, t[4:]) for n, t in enumerate(CITIES))],
            id="interleaved",
        ),
    ],
)  # fmt: skip
def test_streamed_tool_calls(sent: list[dict[str, Any]]) -> None:
    with sending(events(*sent), "text/event-stream") as (url, _):
        found = asked(url, stream=lambda text: None)
    assert [call["arguments"] for call in found.tool_calls] == CITIES
    assert {call["name"] for call in found.tool_calls} == {"look"}
    assert found.finish == "tool_calls" and found.prompt_tokens == 7


@given(st.data(), st.lists(st.dictionaries(st.text(max_size=3), st.integers()), max_size=4))
def test_however_calls_are_cut_into_parts(data: st.DataObject, calls: list[dict[str, int]]) -> None:
    texts = [json.dumps(call) for call in calls]
    indexed, identified = data.draw(st.booleans()), data.draw(st.booleans())
    pieces = Pieces(None)
    for number, text in enumerate(texts):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
        bounds = [0, *cuts, len(text)]
        for at, (start, end) in enumerate(pairwise(bounds)):
            first = at == 0
            pieces.take_call(
                number if indexed else data.draw(st.sampled_from([0, None])),
                f"id{number}" if identified and first else "",
                "tool" if first else "",
                text[start:end],
            )
    assert [call["arguments"] for call in pieces.calls] == texts


def test_the_address_and_the_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORGANIZATION", "org-1")
    body = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    with sending(json.dumps(body).encode()) as (url, sent):
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        found = providers.ask(ModelRequest("x"), Resolved("fast", "gpt-4o"))
    [(request, headers)] = sent
    assert request == {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}]}
    assert headers["Authorization"] == "Bearer k" and headers["OpenAI-Organization"] == "org-1"
    # No usage was reported, so nothing is known of the price either.
    assert (found.text, found.prompt_tokens, found.cost) == ("hi", 0, None)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("openai/gpt-4o", "max_tokens"),
        ("openai/our-model", "max_tokens"),
        ("o3-mini", "max_completion_tokens"),
        ("openai/gpt-5-mini", "max_completion_tokens"),
    ],
)
def test_the_limit_has_the_name_that_the_model_takes(model: str, name: str) -> None:
    body = {"choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}]}
    with sending(json.dumps(body).encode()) as (url, sent):
        asked(url, model, max_tokens=9)
    assert sent[0][0][name] == 9


def test_a_refusal_of_the_model_is_its_text() -> None:
    body = {"choices": [{"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}]}
    with sending(json.dumps(body).encode()) as (url, _):
        assert asked(url).text == "No."


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>Welcome to nginx</html>", "not a chat completion.*Welcome to nginx"),
        (b"[]", "not a chat completion"),
        (b'{"object": "list"}', "no choice"),
        (b'{"choices": null}', "no choice"),
    ],
)
def test_a_body_that_is_no_answer(body: bytes, said: str) -> None:
    with sending(body) as (url, _), pytest.raises(ModelRequestError, match=said):
        asked(url)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (events({"content": "half"}, finish=None), "middle of the answer"),
        (b'data: {"error": {"message": "overloaded"}}\n\n', "overloaded"),
        (b"data: {broken\n\n", "not a chat completion"),
        (b"", "middle of the answer"),
    ],
)
def test_a_stream_that_is_no_answer(body: bytes, said: str) -> None:
    kind = "text/event-stream"
    with sending(body, kind) as (url, _), pytest.raises(ModelRequestError, match=said):
        asked(url, stream=lambda text: None)


def test_nobody_listens_at_the_address() -> None:
    with sending(b"") as (url, _):
        gone = url
    with pytest.raises(ModelRequestError, match=f"gave no answer.*{gone[:-1]}") as caught:
        asked(gone)
    assert caught.value.status is None


def test_a_public_model_has_a_price_and_a_house_model_has_none() -> None:
    answer = {"message": {"content": "hi"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 0}
    half = {**usage, "prompt_tokens_details": {"cached_tokens": 500_000}}
    costs = []
    for model, used in (("gpt-4o", usage), ("openai/gpt-4o", half), ("openai/our-own", usage)):
        body = json.dumps({"choices": [answer], "usage": used}).encode()
        with sending(body) as (url, _):
            costs.append(asked(url, model).cost)
    full, cached, house = costs
    assert full and cached and 0 < cached < full and house is None


def test_a_call_imports_neither_litellm_nor_a_vendor_sdk() -> None:
    program = (
        "import sys\n"
        "from kitaru.runtime.llm import providers\n"
        "from kitaru.runtime.llm.models import ModelRequest, Resolved\n"
        "found = providers.ask(ModelRequest('x'), Resolved('fast', 'gpt-4o', sys.argv[1]))\n"
        "print(found.text, [m for m in ('litellm', 'openai', 'tiktoken') if m in sys.modules])\n"
    )
    with serving([Says("hello")]) as provider:
        done = subprocess.run(
            [sys.executable, "-c", program, provider.url], capture_output=True, text=True
        )
    assert done.stdout == "hello []\n", done.stderr
