"""Hints of news: something happened of which people may want to be notified.

A hint is written before the record of what happened, so that no event of a process that dies is
missing. A dispatcher with channels reads the record, sends the notifications, and deletes the hint.
Nothing else reads hints of news, and a flow never waits for a notification.
"""

from __future__ import annotations

from contextlib import suppress

from kitaru.errors import StoreDenied
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.stores.base import Store
from kitaru.wire.times import now


def announce(store: Store, hint: str) -> None:
    """Write a hint. With a policy of an earlier release that denies it, nobody is notified."""
    with suppress(StoreDenied):
        create_or_read(store, hint, now().encode("ascii"))
