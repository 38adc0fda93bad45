"""Scripted models: a test states what each model answers."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kitaru.errors import UsageError
from kitaru.runtime.llm.exchange import Answer, Pieces
from kitaru.runtime.llm.models import ModelRequest, Resolved
from kitaru.runtime.llm.replies import Reply
from kitaru.testing.recordings import RecordedReplies

_SHOWN = 300
_WORD = re.compile(r"\S+\s*|\s+")


class UnexpectedModelCall(UsageError):
    """A flow called a model for which the test has no reply, or no further one."""


class UnusedReplies(AssertionError):
    """At the end of a test, replies were left for which no model was called."""


class Scripts:
    """The replies of all models of a test, by alias or name; `*` is every other model."""

    def __init__(self) -> None:
        # A flow calls models in several threads.
        self._lock = threading.Lock()
        self._lists: dict[str, list[Any]] = {}
        self._functions: dict[str, Callable[[ModelRequest], Any]] = {}
        # The replies of the execution that a test replays. They come first.
        self.recorded: RecordedReplies | None = None

    def add(self, model: str, replies: Iterable[Any] | Callable[[ModelRequest], Any]) -> None:
        """Append replies to those of a model, or set the function that computes them."""
        if callable(replies):
            self._functions[model] = replies
        elif isinstance(replies, str | Mapping):
            raise UsageError(
                f"The replies of the model {model!r} are a {type(replies).__name__}.",
                help="Pass a list with a reply for each call, or a function.",
            )
        else:
            self._lists.setdefault(model, []).extend(replies)

    def unused(self) -> Iterator[tuple[str, int]]:
        """Yield each model with unused replies, and their number."""
        yield from ((model, len(left)) for model, left in self._lists.items() if left)

    def __call__(self, request: ModelRequest, resolved: Resolved, pieces: Pieces) -> Answer:
        """Return the next reply of a model, and stream its text word by word.

        Raises:
            UnexpectedModelCall: the model has no further reply.
            Exception: the reply is this exception.
        """
        reply = self.recorded and self.recorded.take(request)
        if reply is None:
            reply = self._next(request, resolved)
        if isinstance(reply, BaseException):
            raise reply
        answer = _answer(reply, request)
        for word in _WORD.findall(answer.text):
            pieces.take(word)
        return answer

    def _next(self, request: ModelRequest, resolved: Resolved) -> Any:
        for name in (resolved.name, resolved.model, "*"):
            if name in self._functions:
                return self._functions[name](request)
            with self._lock:
                if self._lists.get(name):
                    return self._lists[name].pop(0)
        asked = _asked(request)
        shown = asked if len(asked) <= _SHOWN else f"{asked[:_SHOWN]}…"
        raise UnexpectedModelCall(
            f'The test has no reply for this call of the model "{resolved.name}": {shown}',
            help=f'flow_test.script("{resolved.name}", ["…"])',
        )


def _answer(reply: Any, request: ModelRequest) -> Answer:
    if isinstance(reply, Answer):
        return reply
    calls: tuple[dict[str, str], ...] = ()
    if isinstance(reply, Reply):
        calls = tuple(
            {"id": call.id, "name": call.name, "arguments": json.dumps(call.arguments)}
            for call in reply.tool_calls
        )
        reply = reply.text
    text = reply if isinstance(reply, str) else _document(reply, request.schema)
    return Answer(text, len(_asked(request).split()), len(text.split()), 0.0, calls)


def _document(value: Any, schema: dict[str, Any] | None) -> str:
    """Return a value as the JSON object that the schema of the request describes."""
    from pydantic_core import to_jsonable_python

    document = to_jsonable_python(value)
    # A schema that describes no object is sent inside of one.
    only = list((schema or {}).get("properties", {}))
    if only == ["value"] and not (isinstance(document, dict) and "value" in document):
        document = {"value": document}
    return json.dumps(document, ensure_ascii=False)


def _asked(request: ModelRequest) -> str:
    return " ".join(str(request.messages()[-1].get("content")).split())
