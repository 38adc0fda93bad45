"""Shared code of the routes to models: answers, pieces of a stream, and failed requests.

A route (`openai_http`, `litellm_route`) makes one request. It returns an `Answer` or raises
`RequestFailed`, which carries the error for the user and states whether the same request may
succeed later. `providers` repeats requests; routes do not.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from kitaru.errors import EnvironmentFailure, ModelRequestError
from kitaru.runtime import secrets
from kitaru.runtime.llm.models import Resolved

Stream = Callable[[str], object]

# Timeout, conflict, too early, too many requests: the provider invites a retry.
_TEMPORARY = frozenset({408, 409, 425, 429})
_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer and its cost: `cost` is in US dollars, None if no price is known.

    `tool_calls` are `{"id", "name", "arguments"}`; the arguments are a string. `tries` is the
    number of requests.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    tool_calls: tuple[dict[str, str], ...] = ()
    tries: int = 1
    finish: str = "stop"


class RequestFailed(Exception):
    """One request failed. `temporary`: the same request may succeed after `pause` seconds."""

    def __init__(self, error: ModelRequestError, *, temporary: bool, pause: float = 0.0) -> None:
        super().__init__(error.message)
        self.error = error
        self.temporary = temporary
        self.pause = pause


def refused(
    resolved: Resolved, status: int, kind: str, text: str, headers: Mapping[str, str]
) -> RequestFailed:
    """Return the failure for an HTTP status of the provider."""
    reason = " ".join(text.split())[:_SHOWN] or "no reason was returned"
    name = f" ({kind})" if kind else ""
    return RequestFailed(
        ModelRequestError(
            f'The model "{resolved.model}" answered with status {status}{name}: {reason}',
            status=status,
            help=_HELP.get(status, ""),
        ),
        temporary=status in _TEMPORARY or status >= 500,
        pause=retry_after(headers),
    )


def lost(resolved: Resolved, reason: str, *, help: str = "") -> RequestFailed:
    """Return the failure of a request that received no complete answer."""
    error = ModelRequestError(f'The model "{resolved.model}" gave no answer: {reason}', help=help)
    return RequestFailed(error, temporary=True)


_HELP = {
    401: "Check the model's key: kitaru model list",
    403: "Check the model's key: kitaru model list",
    404: "Check the model's name and address: kitaru model list",
    429: "Wait and retry the execution, or give the checkpoint retries=… and retry_delay=…",
}


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the delay in seconds that a provider requests, 0 if it requests none."""
    text = headers.get("retry-after", "")
    try:
        return max(float(text), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except ValueError:
        return 0.0


def missing_key(resolved: Resolved, unset: Iterable[str]) -> EnvironmentFailure:
    """Return the error for a model whose key is neither a variable nor a secret."""
    names = list(unset)
    more = f", nor is there a secret {resolved.secret}" if resolved.secret else ""
    return EnvironmentFailure(
        f'The model "{resolved.model}" needs a credential: {" and ".join(names)} is not set{more}.',
        help="\n".join(f"export {name}=…" for name in names),
    )


def not_installed(resolved: Resolved, *requirements: str) -> EnvironmentFailure:
    """Return the error for a model whose client library, `requirements[0]`, is missing."""
    name = requirements[0].partition(">")[0]
    return EnvironmentFailure(
        f'The model "{resolved.model}" is reached through {name}, which is not installed.',
        help=f"Install it: pip install {shlex.join(requirements)}",
    )


def key_of(resolved: Resolved, unset: list[str]) -> str | None:
    """Return the secret with the model's key, or None if the provider's variable is set.

    `unset` are the provider's variables that are not set. A model without a secret of its own uses
    the secret with the name of the provider's variable.
    """
    names = [resolved.secret] if resolved.secret else unset[:1]
    found = secrets.find(names[0]) if unset and names else None
    if found is None and unset and resolved.secret:
        raise missing_key(resolved, unset)
    return found


@dataclass
class Pieces:
    """Collects a streamed answer: passes on its text and assembles its tool calls.

    Providers number tool calls by `index` and send each in parts. Some send complete calls, all
    with index 0 or without an index. A new call starts when the id changes. Without ids, it starts
    when a name follows arguments that are already complete JSON.
    """

    stream: Stream | None
    begun: bool = field(default=False, init=False)
    _text: list[str] = field(default_factory=list, init=False)
    _calls: list[dict[str, str]] = field(default_factory=list, init=False)
    _open: dict[int, dict[str, str]] = field(default_factory=dict, init=False)

    def take(self, text: str | None) -> None:
        """Add the next piece of text."""
        if not text:
            return
        self._text.append(text)
        if self.stream is not None:
            self.begun = True
            self.stream(text)

    def take_call(self, index: int | None, id: str, name: str, arguments: str) -> None:
        """Add the next part of a tool call; a missing field is an empty string."""
        # A part without an index continues the last call or starts a new call.
        slot = index if index is not None else max(self._open, default=0)
        call = self._open.get(slot)
        if call is None or _begins(call, id, name):
            call = {"id": "", "name": "", "arguments": ""}
            self._open[slot] = call
            self._calls.append(call)
        call["id"] = call["id"] or id
        if name and name != call["name"]:
            call["name"] += name
        call["arguments"] += arguments

    @property
    def text(self) -> str:
        """The text received so far."""
        return "".join(self._text)

    @property
    def calls(self) -> tuple[dict[str, str], ...]:
        """The tool calls received so far, in the order of their first parts."""
        return tuple(self._calls)


def _begins(call: dict[str, str], id: str, name: str) -> bool:
    """Return whether a part starts a new call instead of continuing the open call."""
    if id and call["id"]:
        return id != call["id"]
    return bool(name and call["name"] and _is_complete(call["arguments"]))


def _is_complete(arguments: str) -> bool:
    try:
        json.loads(arguments)
    except ValueError:
        return False
    return True


def shape(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema in the form of `response_format`."""
    name = "".join(c if c.isalnum() else "_" for c in str(schema.get("title", "answer")))
    return {"type": "json_schema", "json_schema": {"name": name[:64], "schema": schema}}


def public_price(
    model: str, prompt: int, completion: int, cached: int, *, provider: str | None = None
) -> float | None:
    """Return the price of a call in US dollars, or None if the model has no public price.

    `prompt` and `completion` are numbers of tokens, `cached` those of the prompt that the provider
    had cached. Without a provider, the name of the model decides.
    """
    try:
        from genai_prices import Usage, calc_price
    except ModuleNotFoundError:
        return None
    usage = Usage(input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached)
    try:
        return float(calc_price(usage, model_ref=model, provider_id=provider).total_price)
    except LookupError:
        return None
