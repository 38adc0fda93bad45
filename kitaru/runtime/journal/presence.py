"""Determine without a read that a record is absent: this process is the sole writer."""

from __future__ import annotations

import time
from math import inf

from kitaru.runtime.journal.blobs import create_or_read
from kitaru.stores.base import Store
from kitaru.wire import keys

# A check is valid for this long. A body that pauses longer between two calls checks again.
_FRESH_SECONDS = 1.0


class Presence:
    """Checks whether other processes run an execution too, for stores with network round trips.

    A process that joins an execution writes a `joined` marker before its first record. Without the
    marker, every record was written by the process that started the execution, and that process
    knows all of them. One read of the marker therefore replaces the read of the next call's key.
    The marker's key is known in advance, so the read is sent together with the previous record. For
    a local store this class does nothing.
    """

    def __init__(self, store: Store, exec_id: str, *, began: bool) -> None:
        """`began` is true if this process created the execution, which has no other records."""
        self._store = store
        self._joined, self._end = keys.joined(exec_id), keys.end(exec_id)
        self._alone = began and store.remote
        self._said = began or not store.remote
        self._asked = -inf

    @property
    def is_alone(self) -> bool:
        """Whether no other process had joined or ended the execution at the last check."""
        return self._alone

    def is_sole_writer(self) -> bool:
        """Return whether, a moment ago, no other process had joined or ended the execution."""
        return self._alone and time.monotonic() - self._asked < _FRESH_SECONDS

    def refresh(self) -> None:
        """Check whether another process has joined or ended the execution."""
        if not self._alone:
            return
        now = time.monotonic()
        # Some stores read keys one by one. The `joined` marker is read last, so a late join is
        # seen.
        if any(one is not None for one in self._store.get_all((self._end, self._joined))):
            self._alone = False
        self._asked = now

    def announce(self) -> None:
        """Write the `joined` marker once, for a process that did not start the execution."""
        if not self._said:
            # In a pipeline, the previous step has usually written the marker.
            if self._store.get(self._joined) is None:
                create_or_read(self._store, self._joined, b"")
            self._said = True
