"""Know that a record is absent without reading it: this process is the sole writer."""

from __future__ import annotations

import time
from math import inf

from kitaru.runtime.journal.blobs import create_or_read
from kitaru.stores.base import Store
from kitaru.wire import keys

# Only to ask once more than needed: a body that rests between two calls looks again.
_FRESH_SECONDS = 1.0


class Presence:
    """Whether other processes run an execution too, in a store where every question is a journey.

    A process that joins an execution writes a `joined` marker before its first record. As long as
    there is no marker, every record was written by the process that started the execution, which
    knows them all. So one question, whose key is known before the next call is, stands for the read
    of that call's exact key, and travels together with the record before. In a store that is not
    remote nothing is asked or said.
    """

    def __init__(self, store: Store, exec_id: str, *, began: bool) -> None:
        """`began` means that this process created the execution, which has no other records."""
        self._store = store
        self._joined, self._end = keys.joined(exec_id), keys.end(exec_id)
        self._alone = began and store.remote
        self._said = began or not store.remote
        self._asked = -inf

    def is_sole_writer(self) -> bool:
        """Return whether, a moment ago, no other process had joined or ended the execution."""
        return self._alone and time.monotonic() - self._asked < _FRESH_SECONDS

    def refresh(self) -> None:
        """Learn whether somebody has joined, or ended the execution."""
        if not self._alone:
            return
        now = time.monotonic()
        # One after the other where a store does that: who joins comes last, and is seen.
        if any(one is not None for one in self._store.get_all((self._end, self._joined))):
            self._alone = False
        self._asked = now

    def announce(self) -> None:
        """Write the `joined` marker once, for a process that did not start the execution."""
        if not self._said:
            # A step of a pipeline finds that the one before has said so.
            if self._store.get(self._joined) is None:
                create_or_read(self._store, self._joined, b"")
            self._said = True
