"""Find cached results of other executions through hints in the store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial

from kitaru.errors import RecordCorrupt
from kitaru.runtime.journal import blobs
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.wire import canonical, keys
from kitaru.wire.records import CacheHint, InvocationRecord, StoredValue, with_values
from kitaru.wire.structs import replace

# One page of a list. Code with more results is read by exact key each time.
_LISTED = 1000


class Cache:
    """The results of other executions, as available to the execution `exec_id`.

    A cache key is `CODE/ARGUMENTS`. The hints of a piece of code are listed once from a remote
    store. A result stored after that is not found, so the function runs again.
    """

    def __init__(self, record_store: RecordStore, exec_id: str) -> None:
        self._record_store = record_store
        self._store = record_store.store
        self._exec_id = exec_id
        self._listed: dict[str, frozenset[str] | None] = {}
        self._listing = threading.Lock()

    def find(
        self, key: str, id: str, beside: Callable[[], Iterable[str]]
    ) -> InvocationRecord | None:
        """Return the result recorded by another execution; see `Journal.cached`."""
        hint = (
            self._record_store.read(CacheHint, keys.cache(key))
            if self._may_be(key, beside)
            else None
        )
        if hint is None or hint.exec_id == self._exec_id:
            return None
        use = replace(hint, exec_id=self._exec_id, invocation=id)
        held = self._record_store.write(keys.cache_use(self._exec_id, key), use)
        return self._follow(hint) if held.invocation == id else None

    def _may_be(self, key: str, beside: Callable[[], Iterable[str]]) -> bool:
        if not self._store.remote:
            return True
        code = key.partition("/")[0]
        # Only one thread lists: concurrent threads need the same list.
        with self._listing:
            if code not in self._listed:
                wanted = sorted({code, *beside()} - self._listed.keys())
                self._store.concurrently(*[partial(self._list, one) for one in wanted])
        known = self._listed[code]
        return known is None or keys.cache(key) in known

    def _list(self, code: str) -> None:
        found = self._store.list(keys.cached(code), limit=_LISTED)
        self._listed[code] = frozenset(found) if len(found) < _LISTED else None

    def _follow(self, hint: CacheHint) -> InvocationRecord | None:
        key = keys.invocation(hint.exec_id, hint.invocation)
        found = self._record_store.read(InvocationRecord, key)
        # Another process may have recorded another outcome under that id after the hint was
        # written.
        if found is None or found.status != "completed" or _subject(found) != _subject(hint):
            return None

        def copied(value: StoredValue) -> StoredValue:
            home = keys.home(hint.exec_id)
            return blobs.copy_value(self._store, home, keys.home(self._exec_id), value)

        try:
            copies = with_values(found, copied)
        except RecordCorrupt:
            # Garbage collection removes the records of an execution before their values.
            if self._store.get(key) is None:
                return None
            raise
        return replace(copies, cached_from=f"{hint.exec_id}/{hint.invocation}")


def code_of(callee: str, name: str, fingerprint: str) -> str:
    """Return the first half of a cache key, which identifies a version of a piece of code."""
    return canonical.digest([callee, name, fingerprint]).removeprefix("sha256:")


def cache_key(record: InvocationRecord) -> str:
    """Return the cache key of an invocation's result."""
    if record.cache_key:
        return record.cache_key
    # Version 0.1 recorded no key. Its hints are removed with their executions.
    code = code_of(record.callee, record.name, record.fingerprint)
    return f"{code}/{record.arguments_digest.removeprefix('sha256:')}"


def _subject(of: InvocationRecord | CacheHint) -> tuple[str, str]:
    return of.arguments_digest, of.fingerprint
