"""Requests to the model, read from the messages of the command line tool."""

from __future__ import annotations

import time
from typing import Any

from claude_agent_sdk import AssistantMessage, StreamEvent, TextBlock, ToolUseBlock

from kitaru import harness


class Requests:
    """The requests of a running command line tool, each recorded once.

    A response consists of several messages, one for each part. The tools of its first parts may run
    before its last part is there. Events of the stream tell where it ends, and what it has used.
    """

    def __init__(self, prompt: str) -> None:
        # The later ones consist of what is recorded: responses, and the outcomes of tools.
        self._prompt: str | None = prompt
        self._open: dict[str, _Request] = {}
        self._streams: dict[str | None, str] = {}
        self._done: set[str] = set()
        self._before = time.monotonic()

    def add(self, message: Any) -> None:
        """Note a message."""
        now = time.monotonic()
        if isinstance(message, StreamEvent):
            self._stream(message.parent_tool_use_id, message.event, now)
        elif isinstance(message, AssistantMessage) and message.message_id:
            request = self._request(message.message_id)
            if request is not None:
                request.add(message, now)
        else:
            self._before = now

    def is_complete(self) -> bool:
        """Return whether no response is still arriving."""
        return not self._streams

    def record(self, cost: float | None = None, *, is_last: bool = False) -> None:
        """Record the requests that have a response. The price, if known, is that of the last."""
        whole = [id for id in self._open if is_last or id not in self._streams.values()]
        for id in whole:
            self._open.pop(id).record(cost if id == whole[-1] else None, self._prompt)
            self._done.add(id)
            self._prompt = None

    def _request(self, id: str) -> _Request | None:
        if id in self._done:
            # A part that comes after its record.
            return None
        return self._open.setdefault(id, _Request(self._before))

    def _stream(self, parent: str | None, event: dict[str, Any], now: float) -> None:
        kind = event.get("type")
        if kind == "message_start":
            message = event["message"]
            self._streams[parent] = message["id"]
            request = self._request(message["id"])
            if request is not None:
                request.use(message.get("usage"), message.get("model"))
        elif parent in self._streams:
            request = self._request(self._streams[parent])
            if kind == "message_delta" and request is not None:
                request.use(event.get("usage"), None, event.get("delta", {}).get("stop_reason"))
                request.ended = now
            elif kind == "message_stop":
                del self._streams[parent]


class _Request:
    """A request to the model: its messages, one for each part of the response."""

    def __init__(self, began: float) -> None:
        self._began = self.ended = began
        self._texts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._used: dict[str, Any] = {}
        self._model = ""
        self._finish: str | None = None

    def add(self, message: AssistantMessage, now: float) -> None:
        self.ended = now
        # What the stream has said is newer.
        self._used = {**(message.usage or {}), **self._used}
        self._model, self._finish = message.model, message.stop_reason or self._finish
        for block in message.content:
            if isinstance(block, TextBlock):
                self._texts.append(block.text)
            elif isinstance(block, ToolUseBlock):
                call = {"id": block.id, "name": block.name, "arguments": block.input}
                self._calls.append(call)

    def use(self, used: Any, model: str | None, finish: str | None = None) -> None:
        known = {name: number for name, number in (used or {}).items() if number is not None}
        self._used = {**self._used, **known}
        self._model, self._finish = model or self._model, finish or self._finish

    def record(self, cost: float | None, prompt: str | None) -> None:
        harness.usage(
            model=self._model,
            provider="anthropic",
            input_tokens=self._used.get("input_tokens"),
            output_tokens=self._used.get("output_tokens"),
            cost_usd=cost,
            latency_ms=(self.ended - self._began) * 1000,
            prompt=prompt,
            response="".join(self._texts),
            tool_calls=self._calls or None,
            finish=self._finish,
            cache_read_tokens=self._used.get("cache_read_input_tokens") or None,
            cache_write_tokens=self._used.get("cache_creation_input_tokens") or None,
        )
