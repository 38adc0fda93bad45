"""Limits of a model: requests and tokens a minute over all processes, and calls at a time in one.

    [tool.kitaru.models]
    fast = { model = "openai/gpt-4o-mini", rpm = 600, tpm = 200_000, at_a_time = 8 }

Time is cut into windows of the clock. The share of a window is cut into chunks. Who creates the
object of a chunk, `quota/<alias>/<window>/<chunk>`, may spend it inside of that window; if none is
left, the process waits for the next window. Of N requests a minute, processes with equal clocks
make at most N * (1 + window / 60) in any minute. What a process does not spend is lost.

Tokens are known after the answer. A call reserves an estimate; what it used in addition is a debt,
which the next chunks pay.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

from kitaru.errors import KitaruError
from kitaru.runtime.engine.retries import chance
from kitaru.runtime.llm.models import ModelRequest, Resolved
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire import keys

_WINDOW_SECONDS = 10.0
_MOST_CHUNKS = 20
_CHARACTERS_PER_TOKEN = 4
_ANSWER_TOKENS = 256

_lock = threading.Lock()
_shares: dict[tuple[str, str], Share] = {}
_slots: dict[str, threading.Semaphore] = {}


class Share:
    """What this process may send to a model in the current window."""

    def __init__(self, store: Store, resolved: Resolved) -> None:
        self._store, self._name = store, resolved.name
        rpm, tpm = resolved.rpm, resolved.tpm
        self.window_seconds = max(_WINDOW_SECONDS, 60 / rpm if rpm else 0.0)
        requests = rpm * self.window_seconds / 60
        self._chunks = min(_MOST_CHUNKS, max(1, int(requests))) if rpm else _MOST_CHUNKS
        self._requests_each = requests / self._chunks if rpm else float("inf")
        self._tokens_each = tpm * self.window_seconds / 60 / self._chunks if tpm else float("inf")
        self._window = -1
        self._requests = self._tokens = 0.0
        self._created: list[str] = []
        self._lock = threading.Lock()

    def seconds_until_admitted(self, at: float, tokens: int) -> float:
        """Reserve one request and its tokens at a time of the clock, and return 0.

        If nothing is left in the window, return the seconds until the next one.
        """
        with self._lock:
            window = int(at / self.window_seconds)
            if window > self._window:
                self._begin(window)
            while self._requests < 1 or self._tokens <= 0:
                if not self._take_chunk():
                    return (window + 1) * self.window_seconds - at
                self._requests += self._requests_each
                self._tokens += self._tokens_each
            self._requests -= 1
            self._tokens -= tokens
            return 0.0

    def settle(self, tokens: int) -> None:
        """Add the tokens that a call used beyond what it reserved; less than 0 gives them back."""
        with self._lock:
            self._tokens -= tokens

    def _begin(self, window: int) -> None:
        self._window, self._requests, self._tokens = window, 0.0, min(self._tokens, 0.0)
        old, self._created = self._created, []
        # A role may have no right to delete; `kitaru store gc` deletes them later.
        with suppress(KitaruError):
            self._store.delete(*old)

    def _take_chunk(self) -> bool:
        home = keys.quota(self._name, self._window)
        for number in range(len(self._store.list(home, limit=self._chunks)), self._chunks):
            key = f"{home}{number:02d}"
            if self._store.create(key, b""):
                self._created.append(key)
                return True
        return False


@contextmanager
def admitted(resolved: Resolved, request: ModelRequest, store: Store | None) -> Iterator[Any]:
    """Wait until the model's limits allow the request; yield what settles its tokens.

    Without a store, the limits are those of this process.
    """
    with _slot(resolved):
        if not resolved.rpm and not resolved.tpm:
            yield lambda used: None
            return
        share = _share(resolved, store)
        estimate = _estimate(request)
        while pause := share.seconds_until_admitted(time.time(), estimate):
            # Otherwise all processes would ask for chunks at the same moment.
            time.sleep(pause + 0.05 * share.window_seconds * chance())
        yield lambda used: share.settle(used - estimate)


def _slot(resolved: Resolved) -> Any:
    if not resolved.at_a_time:
        return nullcontext()
    with _lock:
        return _slots.setdefault(resolved.name, threading.Semaphore(resolved.at_a_time))


def _share(resolved: Resolved, store: Store | None) -> Share:
    # Outside of flows, the limits are those of the process.
    store = open_store("memory:quota") if store is None else store
    with _lock:
        key = (store.url, resolved.name)
        found = _shares.get(key)
        if found is None:
            found = _shares[key] = Share(store, resolved)
        return found


def _estimate(request: ModelRequest) -> int:
    asked = sum(len(str(message.get("content", ""))) for message in request.messages())
    return asked // _CHARACTERS_PER_TOKEN + (request.max_tokens or _ANSWER_TOKENS)
