"""Cache hints in a remote store are listed once, also for concurrent readers."""

from __future__ import annotations

import threading
from collections import Counter

from kitaru.runtime.journal.cache import Cache
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.memory import MemoryStore


class Bucket(MemoryStore):
    remote = True

    def __init__(self) -> None:
        super().__init__()
        self.listed: Counter[str] = Counter()

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        self.listed[prefix] += 1
        return super().list(prefix, after=after, limit=limit)


def test_calls_that_are_made_at_once_list_once() -> None:
    bucket = Bucket()
    cache = Cache(RecordStore(bucket), "e1")
    found: list[object] = []

    def other() -> None:
        found.append(cache.find("code/2", "a_2", lambda: ["code"]))

    meanwhile = threading.Thread(target=other)

    def beside() -> list[str]:
        meanwhile.start()
        # It ends here unless something blocks it.
        meanwhile.join(0.2)
        return ["code"]

    assert cache.find("code/1", "a", beside) is None
    meanwhile.join()
    assert found == [None]
    assert list(bucket.listed.values()) == [1]
