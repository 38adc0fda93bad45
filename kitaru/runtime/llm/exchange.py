"""What every route to a model shares: the answer, the pieces of a stream, and a failed request.

A route (`openai_http`, `litellm_route`) makes one request. It returns an `Answer` or raises
`RequestFailed`, which carries the error for the user and says whether the same request may succeed
later. `providers` repeats requests; no route does.
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

# Timeout, conflict, too early, too many requests: the provider asks for another try.
_TEMPORARY = frozenset({408, 409, 425, 429})
_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer and what it took: `cost` in US dollars, None when no price is known.

    `tool_calls` are `{"id", "name", "arguments"}`, the arguments as text. `tries` counts requests.
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
    """Return the failure that an HTTP status of the provider stands for."""
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
    """Return the failure of a request that no complete answer came back for."""
    error = ModelRequestError(f'The model "{resolved.model}" gave no answer: {reason}', help=help)
    return RequestFailed(error, temporary=True)


_HELP = {
    401: "Check the model's key: kitaru model list",
    403: "Check the model's key: kitaru model list",
    404: "Check the model's name and address: kitaru model list",
    429: "Wait and retry the execution, or give the checkpoint retries=… and retry_delay=…",
}


def retry_after(headers: Mapping[str, str]) -> float:
    """Return the seconds that a provider asks to wait, 0 when it sets no pace."""
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
    """Return the error for a model whose key is neither in the environment nor a secret."""
    names = list(unset)
    more = f", nor is there a secret {resolved.secret}" if resolved.secret else ""
    return EnvironmentFailure(
        f'The model "{resolved.model}" needs a credential: {" and ".join(names)} is not set{more}.',
        help="\n".join(f"export {name}=…" for name in names),
    )


def not_installed(resolved: Resolved, *requirements: str) -> EnvironmentFailure:
    """Return the error for a model whose client library, the first requirement, is missing."""
    name = requirements[0].partition(">")[0]
    return EnvironmentFailure(
        f'The model "{resolved.model}" is reached through {name}, which is not installed.',
        help=f"Install it: pip install {shlex.join(requirements)}",
    )


def key_of(resolved: Resolved, unset: list[str]) -> str | None:
    """Return the secret that is the model's key, None where the environment has the provider's own.

    `unset` are the provider's variables that are not set. A model without a secret of its own uses
    a secret of the name that the provider's variable has.
    """
    names = [resolved.secret] if resolved.secret else unset[:1]
    found = secrets.find(names[0]) if unset and names else None
    if found is None and unset and resolved.secret:
        raise missing_key(resolved, unset)
    return found


@dataclass
class Pieces:
    """Collects a streamed answer: passes its text on, and puts its tool calls together.

    Providers number tool calls by `index` and send each in parts. Some send whole calls, all with
    index 0 or with none: a call begins wherever another id appears, or, without ids, where a name
    follows arguments that are already complete JSON.
    """

    stream: Stream | None
    begun: bool = field(default=False, init=False)
    _text: list[str] = field(default_factory=list, init=False)
    _calls: list[dict[str, str]] = field(default_factory=list, init=False)
    _open: dict[int, dict[str, str]] = field(default_factory=dict, init=False)

    def take(self, text: str | None) -> None:
        """Take the next piece of text."""
        if not text:
            return
        self._text.append(text)
        if self.stream is not None:
            self.begun = True
            self.stream(text)

    def take_call(self, index: int | None, id: str, name: str, arguments: str) -> None:
        """Take the next part of a tool call; empty strings stand for what the part leaves out."""
        # Without an index a part continues the newest call, or begins the next one.
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
        """The text that has been taken."""
        return "".join(self._text)

    @property
    def calls(self) -> tuple[dict[str, str], ...]:
        """The tool calls that have been taken, in order of their first part."""
        return tuple(self._calls)


def _begins(call: dict[str, str], id: str, name: str) -> bool:
    """Tell whether a part for an open call's place begins another call instead."""
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
