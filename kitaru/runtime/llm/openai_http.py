"""OpenAI's models, and every server that speaks its protocol, over plain HTTP.

Importing litellm takes seconds of CPU and 200 MB in each step process. A model of `openai/…` needs
a single POST request, so this module uses httpx. Prices come from genai-prices, which is read
locally.
"""

from __future__ import annotations

import atexit
import json
import os
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kitaru.runtime.llm.endpoints import check_endpoint
from kitaru.runtime.llm.exchange import (
    Answer,
    Pieces,
    RequestFailed,
    key_of,
    lost,
    missing_key,
    not_installed,
    public_price,
    refused,
    shape,
)
from kitaru.runtime.llm.models import ModelRequest, Resolved

if TYPE_CHECKING:
    from httpx import Client, Response

# As in pyproject.toml. The error that names these packages cannot read metadata in a step.
REQUIREMENTS = ("httpx>=0.27,<1", "genai-prices>=0.2,<1")
_KEY = "OPENAI_API_KEY"
_BASES = ("OPENAI_BASE_URL", "OPENAI_API_BASE")
_PUBLIC = "https://api.openai.com/v1"
# These models reject `max_tokens`, which would not count their reasoning tokens.
_REASONING = re.compile(r"(o\d|gpt-5)")


def load(resolved: Resolved) -> None:
    """Import the client library. Raise EnvironmentFailure if it is not installed."""
    try:
        import httpx  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise not_installed(resolved, *REQUIREMENTS) from None


def request_once(request: ModelRequest, resolved: Resolved, pieces: Pieces) -> Answer:
    """Make one request. `exchange` lists the errors."""
    import httpx

    url, headers = f"{_base(resolved)}/chat/completions", _headers(resolved)
    body = _body(request, resolved, streamed=pieces.stream is not None)
    try:
        with _client(os.getpid()).stream(
            "POST", url, json=body, headers=headers, timeout=request.timeout
        ) as response:
            if response.status_code != 200:
                response.read()
                raise _refused(resolved, response)
            if pieces.stream is not None:
                return _streamed(resolved, response, pieces)
            response.read()
            return _whole(resolved, response)
    except httpx.TimeoutException:
        raise lost(
            resolved,
            f"nothing came within {request.timeout:g} seconds",
            help="Set a longer limit with kitaru.llm(timeout=…).",
        ) from None
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise lost(resolved, f"{reason} (at {url})") from None


def _base(resolved: Resolved) -> str:
    if resolved.api_base:
        check_endpoint(resolved.api_base, f"the model {resolved.name}")
        return resolved.api_base.rstrip("/")
    for name in _BASES:
        if url := os.environ.get(name):
            check_endpoint(url, name)
            return url.rstrip("/")
    return _PUBLIC


def _headers(resolved: Resolved) -> dict[str, str]:
    unset = [] if os.environ.get(_KEY) else [_KEY]
    key = key_of(resolved, unset) or os.environ.get(_KEY)
    if not key:
        raise missing_key(resolved, unset)
    given = {
        "OpenAI-Organization": os.environ.get("OPENAI_ORGANIZATION"),
        "OpenAI-Project": os.environ.get("OPENAI_PROJECT"),
    }
    chosen = {name: value for name, value in given.items() if value}
    return {"Authorization": f"Bearer {key}", **chosen}


def _body(request: ModelRequest, resolved: Resolved, *, streamed: bool) -> dict[str, Any]:
    model = model_name(resolved)
    limit = "max_completion_tokens" if _REASONING.match(model) else "max_tokens"
    body: dict[str, Any] = {
        "model": model,
        "messages": request.messages(),
        "temperature": request.temperature,
        limit: request.max_tokens,
        "tools": request.tools,
        "response_format": request.schema and shape(request.schema),
        "stream": streamed or None,
        "stream_options": {"include_usage": True} if streamed else None,
    }
    return {name: value for name, value in body.items() if value is not None}


def model_name(resolved: Resolved) -> str:
    """Return the model's name as the server knows it."""
    return resolved.model.removeprefix("openai/")


@lru_cache(maxsize=1)
def _client(process: int) -> Client:
    """Return the connections of this process. A forked child must not use its parent's."""
    import httpx

    client = httpx.Client()
    atexit.register(client.close)
    return client


def _refused(resolved: Resolved, response: Response) -> RequestFailed:
    kind, text = "", response.text
    try:
        error = response.json()["error"]
        kind, text = (str(error.get("type") or ""), str(error.get("message") or text))
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return refused(resolved, response.status_code, kind, text, response.headers)


def _whole(resolved: Resolved, response: Response) -> Answer:
    document = _parsed(resolved, response.text)
    choice = _choice(document)
    if choice is None:
        raise lost(resolved, "the response holds no choice")
    message = choice.get("message") or {}
    text = message.get("content") or message.get("refusal") or ""
    pieces = Pieces(None)
    for index, call in enumerate(message.get("tool_calls") or ()):
        _take_call(pieces, {**call, "index": index})
    return _answer(resolved, str(text), pieces, choice.get("finish_reason"), document)


def _streamed(resolved: Resolved, response: Response, pieces: Pieces) -> Answer:
    finish: Any = None
    usage: dict[str, Any] = {}
    for event in _events(resolved, response):
        if event.get("error"):
            reason = json.dumps(event["error"], ensure_ascii=False)[:500]
            raise lost(resolved, f"the stream ended with an error: {reason}")
        usage = {"usage": event["usage"]} if event.get("usage") else usage
        choice = _choice(event)
        if choice is None:
            continue
        delta = choice.get("delta") or {}
        pieces.take(delta.get("content") or delta.get("refusal"))
        for call in delta.get("tool_calls") or ():
            _take_call(pieces, call)
        finish = choice.get("finish_reason") or finish
    if finish is None:
        # Otherwise a connection that closes early looks like the end of the answer.
        raise lost(resolved, "the connection ended in the middle of the answer")
    return _answer(resolved, pieces.text, pieces, finish, usage)


def _events(resolved: Resolved, response: Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        name, _, data = line.partition(":")
        if name != "data" or not data.strip():
            continue
        if data.strip() == "[DONE]":
            return
        yield _parsed(resolved, data)


def _parsed(resolved: Resolved, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise lost(
            resolved,
            f"the response is not a chat completion: {' '.join(text.split())[:200]!r}",
            help="Check the model's address (api_base), which usually ends in /v1: "
            "kitaru model list",
        )
    return found


def _choice(document: dict[str, Any]) -> dict[str, Any] | None:
    choices = document.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _take_call(pieces: Pieces, call: dict[str, Any]) -> None:
    function = call.get("function") or {}
    pieces.take_call(
        call.get("index"),
        call.get("id") or "",
        function.get("name") or "",
        function.get("arguments") or "",
    )


def _answer(
    resolved: Resolved, text: str, pieces: Pieces, finish: Any, document: dict[str, Any]
) -> Answer:
    usage = document.get("usage") or {}
    prompt, completion = (
        int(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")
    )
    cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    cost = None
    if usage:
        cost = public_price(model_name(resolved), prompt, completion, cached, provider="openai")
    return Answer(text, prompt, completion, cost, pieces.calls, finish=str(finish or ""))
