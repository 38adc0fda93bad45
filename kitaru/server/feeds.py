"""Server-sent events: what changes in an execution, and its log, while people watch.

One task per watched execution reads the store, however many readers there are, and ends with its
last reader. All readers are given the same texts.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool

from kitaru.errors import KitaruError
from kitaru.ops.show import show
from kitaru.runtime.telemetry import logs
from kitaru.server.metrics import Metrics
from kitaru.stores.base import Store
from kitaru.view import invocation_as_json
from kitaru.wire import keys
from kitaru.wire.redaction import redacted_json
from kitaru.wire.structs import fields_of

MEDIA_TYPE = "text/event-stream"
# Seconds between two reads of the store; more if a read takes long.
PAUSE = 0.5
_REST = 5.0
_PING = 15.0
# Readers connect again, so that several services share them after a while.
LONGEST = 600.0
_RETRY = "retry: 2000\n\n"
# Events that a slow reader may be behind.
_KEPT = 1_000
_MOST_AT_ONCE = 500
_CHUNKS = 64

Reader = Callable[[], Iterator[str]]


class Source(Protocol):
    """What a feed reads from the store. Every method runs in a thread."""

    is_over: bool

    def poll(self) -> bool:
        """Read what is new, and return whether there is something."""
        ...

    def reader(self) -> Reader:
        """Return a function that yields the texts that are new since its last call."""
        ...


class Progress:
    """The source of an execution: its status and waits, and each invocation that is recorded."""

    def __init__(self, store: Store, exec_id: str) -> None:
        self._store = store
        self._exec_id = exec_id
        self._seen: set[str] | None = None
        self._now = ""
        self._texts: deque[str] = deque(maxlen=_KEPT)
        self._count = 0
        self.is_over = False

    def poll(self) -> bool:
        view = show(self._store, self._exec_id)
        before = self._count
        if self._seen is None:
            self._seen = set(view.journal.recorded())
        else:
            for record in view.journal.unseen(self._seen, _MOST_AT_ONCE):
                self._add(event("invocation", invocation_as_json(record)))
        chunks = len(self._store.list(keys.logs(self._exec_id)))
        document = {
            "exec_id": view.exec_id,
            "status": str(view.status),
            "state_at": view.state_at,
            "waits": [request.name for request in view.waits],
            "under_way": [one.id for one in view.signs.under_way],
            "progress": [fields_of(one) for one in view.progress],
            "recorded": len(self._seen),
            "chunks": chunks,
        }
        now = event("execution", document)
        if now != self._now:
            self._now = now
            self._add(now)
        self.is_over = view.status.is_finished
        return self._count > before

    def reader(self) -> Reader:
        position = -1

        def read() -> Iterator[str]:
            nonlocal position
            count, texts = self._count, list(self._texts)
            new = count - position
            if position < 0:
                yield self._now
            elif new > len(texts):
                yield event("reset", {"reason": "too many events were missed"})
            else:
                yield from texts[len(texts) - new :]
            position = count

        return read

    def _add(self, text: str) -> None:
        self._texts.append(text)
        self._count += 1


class Output:
    """The source of an execution's log: one event per chunk, whose id is that of the chunk."""

    def __init__(self, store: Store, exec_id: str) -> None:
        self._store = store
        self._exec_id = exec_id
        self._chunks: list[str] = []
        self._known: set[str] = set()
        self._text = lru_cache(maxsize=_CHUNKS)(self._read)
        self.is_over = False

    def poll(self) -> bool:
        # The status is read first, so that output before the end is not missed.
        self.is_over = show(self._store, self._exec_id).status.is_finished
        listed = self._store.list(keys.logs(self._exec_id))
        found = [key for key in listed if key not in self._known]
        self._known.update(found)
        self._chunks += found
        return bool(found)

    def reader(self) -> Reader:
        position = 0

        def read() -> Iterator[str]:
            nonlocal position
            new = self._chunks[position:]
            position += len(new)
            yield from map(self._text, new)

        return read

    def _read(self, key: str) -> str:
        lines = logs.read_chunk(self._store, key)
        document = [
            {"at": line.at, "invocation": line.invocation, "stream": line.stream, "text": line.text}
            for line in lines
        ]
        return event("lines", document, key.removeprefix(keys.logs(self._exec_id)))


class _Feed:
    """A source that is polled while it has readers."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.readers = 0
        self.version = 0
        self.is_over = False
        self.error: KitaruError | None = None
        self.changed = asyncio.Condition()
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        while self.readers and not self.is_over:
            began = time.monotonic()
            changed = False
            try:
                changed = await run_in_threadpool(self.source.poll)
                self.error = None
            except KitaruError as error:
                changed = self.error is None
                self.error = error
            if changed or self.source.is_over:
                async with self.changed:
                    self.version += 1
                    self.is_over = self.source.is_over
                    self.changed.notify_all()
            await asyncio.sleep(max(PAUSE, _REST * (time.monotonic() - began)))


class Feeds:
    """The feeds of a service, each with its readers."""

    def __init__(self, store: Store, metrics: Metrics, is_stopping: Callable[[], bool]) -> None:
        self._store = store
        self._metrics = metrics
        self._is_stopping = is_stopping
        self._feeds: dict[tuple[type[Any], str], _Feed] = {}

    async def read(self, kind: type[Progress] | type[Output], exec_id: str) -> AsyncIterator[str]:
        """Yield the texts of a stream, until the execution has ended or the service stops."""
        feed = self._feeds.get((kind, exec_id))
        if feed is None or feed.is_over:
            feed = self._feeds[kind, exec_id] = _Feed(kind(self._store, exec_id))
        feed.readers += 1
        self._metrics.streams.inc()
        try:
            if feed.task is None:
                feed.task = asyncio.create_task(feed.run())
            yield _RETRY
            async for text in self._texts(feed):
                yield text
        finally:
            self._metrics.streams.dec()
            feed.readers -= 1
            if not feed.readers and self._feeds.get((kind, exec_id)) is feed:
                del self._feeds[kind, exec_id]

    async def _texts(self, feed: _Feed) -> AsyncIterator[str]:
        reader, version = feed.source.reader(), 0
        began = pinged = time.monotonic()
        while not self._is_stopping() and time.monotonic() - began < LONGEST:
            if feed.version > version:
                version, is_over = feed.version, feed.is_over
                if feed.error is not None:
                    yield event("unavailable", {"code": type(feed.error).__name__})
                elif feed.version:
                    for text in await run_in_threadpool(lambda: list(reader())):
                        yield text
                if is_over:
                    yield event("end", {})
                    return
            elif time.monotonic() - pinged > _PING:
                pinged = time.monotonic()
                yield ": still here\n\n"
            await self._wait(feed, version)

    async def _wait(self, feed: _Feed, version: int) -> None:
        try:
            async with asyncio.timeout(2 * PAUSE):
                async with feed.changed:
                    await feed.changed.wait_for(lambda: feed.version > version)
        except TimeoutError:
            pass


def event(name: str, data: Any, id: str = "") -> str:
    """Return the text of one event. Secrets are hidden."""
    head = f"id: {id}\n" if id else ""
    # JSON in ASCII has no line break, so it is one line of data.
    return f"{head}event: {name}\ndata: {json.dumps(redacted_json(data))}\n\n"
