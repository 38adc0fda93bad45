"""Source files of flows that run on this machine, stored for people who read an execution.

A deployed execution has its bundle. A local one has the digest of its flow's file, which is stored
once per content, whatever number of executions run it:

    source/9f86d0…                     the file
    x/EXEC/execution                   source = sha256:9f86d0…
    x/EXEC/source/1764584100000000/0b2c…
                                       a later process ran another content from that moment on

A file that has changed since it was imported is not stored: its lines are not those that run.
"""

from __future__ import annotations

from pathlib import Path
from weakref import ReferenceType, ref

from kitaru.errors import StoreDenied
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.stores.base import Store
from kitaru.wire import canonical, keys
from kitaru.wire.redaction import redacted
from kitaru.wire.times import digits, now

MAX_BYTES = 1024 * 1024


class SourceFile:
    """The file of a flow, as it was when this process imported it; empty for code of no file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._imported = self._state()
        # The store that certainly contains it, and its digest.
        self._stored: tuple[ReferenceType[Store], str] | None = None

    def store_in(self, store: Store, known: str = "") -> str:
        """Store the file unless the store contains it, and return its digest.

        Args:
            known: digest of a file that the store certainly contains.

        Returns:
            An empty string for a file that is missing, changed, longer than `MAX_BYTES` or not a
            text, and for one in which a secret spans lines: without it, the lines would have other
            numbers. The same if this process may not write sources, as with a policy of an earlier
            release.
        """
        if self._stored is not None and self._stored[0]() is store:
            return self._stored[1]
        data = self._read()
        digest = canonical.sha256(data) if data else ""
        try:
            # A read costs less than a create, and most processes run a file that is stored.
            if data and digest != known and store.get(keys.source(digest)) is None:
                create_or_read(store, keys.source(digest), data)
        except StoreDenied:
            digest = ""
        self._stored = ref(store), digest
        return digest

    def _read(self) -> bytes:
        if self._imported is None or self._imported[1] > MAX_BYTES:
            return b""
        try:
            text = Path(self._path).read_bytes().decode("utf-8")
        except (OSError, UnicodeDecodeError):
            return b""
        if self._state() != self._imported:
            return b""
        hidden = redacted(text)
        return hidden.encode() if hidden.count("\n") == text.count("\n") else b""

    def _state(self) -> tuple[int, int] | None:
        """Return when the file was changed and its size, None if there is no such file."""
        try:
            found = Path(self._path).stat() if self._path else None
        except (OSError, ValueError):
            return None
        return None if found is None else (found.st_mtime_ns, found.st_size)


def note_source(store: Store, exec_id: str, source: str, began_with: str) -> None:
    """Record which file a process runs an execution with, unless the one before ran the same."""
    notes = source_notes(store, exec_id)
    if source != (notes[-1][1] if notes else began_with):
        create_or_read(store, keys.source_since(exec_id, digits(now()), source), b"")


def source_notes(store: Store, exec_id: str) -> list[tuple[str, str]]:
    """Return the later files of an execution: since when, as digits of a time, and the digest."""
    return [keys.source_note(key) for key in store.list(keys.sources(exec_id))]


def read_source(store: Store, digest: str) -> str | None:
    """Return a stored file, None if the store does not contain it or it is damaged."""
    data = store.get(keys.source(digest))
    if data is None or canonical.sha256(data) != digest:
        return None
    return data.decode("utf-8")
