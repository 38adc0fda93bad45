"""A view of a store that contains only some flows, for somebody whose role is limited to them.

Every page, path and tool reads through it, so none of them can show another flow by mistake. What
cannot be attributed to a flow is not there.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

from kitaru.errors import RoleDenied
from kitaru.ops.access import matches
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.base import Sharing, Store, existing
from kitaru.wire import keys
from kitaru.wire.records import ExecutionRecord, LaunchRecord

T = TypeVar("T")

_PAGE = 1000
# The key contains the digest of the content, which only a reader of a visible record knows.
_BY_DIGEST = ("deployment/file/", "bundle/", "inputs/")
_SHARED = (keys.WAITS_LISTED,)
# The place of the execution's id in a key.
_OF_EXECUTION = {"x": 1, "waiting": 2, "due": 2, "open": 1, "replay": 1, "gc": 1, "news": 1}
# That of the flow's name.
_OF_FLOW = {("deployment", "version"): 2, ("deployment", "tag"): 2, ("memory", "flow"): 2}


class LimitedStore:
    """A store of which only the flows that match `patterns` can be seen, for one request."""

    def __init__(self, store: Store, patterns: Sequence[str]) -> None:
        self._store = store
        self._patterns = patterns
        self._flows: dict[str, str | None] = {}
        self.url = store.url
        self.remote = store.remote

    def create(self, key: str, value: bytes) -> bool:
        self._check(key)
        return self._store.create(key, value)

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        for key, _ in objects:
            self._check(key)
        return self._store.create_all(objects)

    def share(self, key: str, value: bytes, name: str, lifetime: timedelta) -> str | None:
        self._check(key)
        if not isinstance(self._store, Sharing):
            return None
        return self._store.share(key, value, name, lifetime)

    def get(self, key: str) -> bytes | None:
        return self._store.get(key) if self._may_read(key) else None

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        visible = [key for key in keys if self._may_read(key)]
        found = dict(zip(visible, self._store.get_all(visible), strict=True))
        return [found.get(key) for key in keys]

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        return self._store.concurrently(first, *others)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        if limit is None:
            return self._visible(self._store.list(prefix, after=after))
        found: builtins.list[str] = []
        while len(found) < limit and (page := self._store.list(prefix, after=after, limit=_PAGE)):
            found += self._visible(page)
            after = page[-1]
            if after.startswith("x/") and not self._sees(after):
                # "0" sorts directly after "/", so the other keys of this execution are skipped.
                after = keys.home(after.split("/")[1])[:-1] + "0"
        return found[:limit]

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        return existing(self, self.list(prefix))

    def delete(self, *keys: str) -> None:
        self._store.delete(*self._visible(keys))

    def inspect(self, prefix: str) -> None:
        self._store.inspect(prefix)

    def flush(self) -> None:
        self._store.flush()

    def close(self) -> None:
        """Do nothing: others use the store."""

    def _visible(self, found: Sequence[str]) -> builtins.list[str]:
        self._learn(found)
        return [key for key in found if self._sees(key)]

    def _may_read(self, key: str) -> bool:
        parts = key.split("/")
        is_value = len(parts) > 2 and parts[0] == "x" and parts[2] == "blob"
        return is_value or key.startswith(_BY_DIGEST) or key in _SHARED or self._sees(key)

    def _check(self, key: str) -> None:
        """Raise RoleDenied for an object of another flow. A new execution has no flow yet."""
        parts = key.split("/")
        place = _OF_EXECUTION.get(parts[0])
        is_new = place is not None and self._flow(parts[place]) is None
        is_free = parts[0] == "audit"
        if not (is_new or is_free or self._may_read(key)):
            raise RoleDenied(
                "The role does not include this flow.", help="Ask an admin for a role on it."
            )

    def _sees(self, key: str) -> bool:
        parts = key.split("/")
        if parts[0] == "index":
            return matches(parts[-1], self._patterns)
        if (place := _OF_EXECUTION.get(parts[0])) is not None:
            flow = self._flow(parts[place]) if len(parts) > place else None
            return flow is not None and matches(flow, self._patterns)
        place = _OF_FLOW.get((parts[0], parts[1])) if len(parts) > 2 else None
        return place is not None and matches(parts[place], self._patterns)

    def _flow(self, exec_id: str) -> str | None:
        if exec_id not in self._flows:
            self._read([exec_id])
        return self._flows.get(exec_id)

    def _learn(self, found: Sequence[str]) -> None:
        """Read the flows of all executions in these keys together."""
        each = (key.split("/") for key in found)
        ids = {
            parts[place]
            for parts in each
            if (place := _OF_EXECUTION.get(parts[0])) is not None and len(parts) > place
        }
        self._read(sorted(ids - self._flows.keys()))

    def _read(self, ids: Sequence[str]) -> None:
        verify = RecordStore(self._store).verify
        places = [keys.execution(id) for id in ids] + [keys.launch(id) for id in ids]
        held = self._store.get_all(places)
        for number, id in enumerate(ids):
            begun, launched = held[number], held[len(ids) + number]
            if begun is not None:
                self._flows[id] = verify(ExecutionRecord, keys.execution(id), begun).flow
            elif launched is not None:
                self._flows[id] = verify(LaunchRecord, keys.launch(id), launched).flow
