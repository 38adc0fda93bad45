"""Detect that a file of a SQLite store was deleted, replaced, shortened or overwritten in use.

SQLite keeps a store in three files:

    kitaru.db        the database: everything up to the last checkpoint of the log
    kitaru.db-wal    the write-ahead log: the commits since then
    kitaru.db-shm    an index of the log, shared by the processes that have the store open

A process keeps its files open, so SQLite does not notice when `kitaru.db-wal` is removed or another
file is copied over `kitaru.db`. Commits still succeed, but into a file that no later process can
find, or into a mixture of two databases. A commit that is not durable must not be acknowledged.
Every commit therefore checks both files by name:

    deleted, replaced     the name leads to another inode, or to none
    shortened             a store never becomes smaller, and neither does a log that is in use
    overwritten           only a checkpoint of the log changes the database. Each checkpoint writes
                          a higher number into its header (`generation`). Where the file changed
                          and this process did not do it, the header must contain the number of
                          this store, and a generation that is not lower than the last one.

The check costs two calls of `stat` before the acknowledgement and one before the commit. Without
the latter, the commit itself would fill the hole in a shortened log.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from kitaru.wire.structs import Struct

_LOOKS, _PAUSE_SECONDS = 50, 0.04

Identity = tuple[int, int]


class Header(Struct):
    """The header of a database: the store's random number and its generation.

    The random number is 0 in stores of early releases. The generation counts the checkpoints of the
    log.
    """

    store: int
    generation: int


class FileLost(Exception):
    """A file of the store was changed from outside; the message is a sentence."""


class Watch:
    """The state of a store's files at the last check. Safe for threads."""

    def __init__(self, path: Path) -> None:
        """`path` is a database with a log: a connection has read from it."""
        self._path = path
        self._database, self._log = str(path), f"{path}-wal"
        self._database_was = _stat(self._database)
        log = _stat(self._log)
        self._log_identity, self._log_size = _identity(log), log.st_size if log else 0
        self._header = read_header(path)

    def look(self) -> None:
        """Raise FileLost if a file was changed from outside."""
        self.look_at_database()
        self.look_at_log()

    def look_at_database(self) -> None:
        """Raise FileLost if the database was changed from outside."""
        was, now = self._database_was, _stat(self._database)
        if now is None or _identity(now) != _identity(was):
            raise FileLost(f"{self._path} was {'replaced' if now else 'deleted'}.")
        assert was is not None
        if now.st_size < was.st_size:
            raise FileLost(f"{self._path} was shortened to {now.st_size:,} bytes.")
        if now.st_mtime_ns != was.st_mtime_ns:
            self._check_header()
            self._database_was = now

    def look_at_log(self) -> None:
        """Raise FileLost if the log was changed from outside."""
        # Read the size first: a commit of another thread may change both values in between.
        least = self._log_size
        now = _stat(self._log)
        if now is None or _identity(now) != self._log_identity:
            raise FileLost(f"Its log {self._log} was {'replaced' if now else 'deleted'}.")
        if now.st_size < least:
            raise FileLost(f"Its log {self._log} was shortened to {now.st_size:,} bytes.")
        self._log_size = now.st_size

    def note_checkpoint(self, generation: int) -> None:
        """Record that this process has just checkpointed the log of that generation."""
        self._database_was = _stat(self._database)
        if self._header is not None:
            self._header = Header(self._header.store, generation)

    def _check_header(self) -> None:
        was, now = self._header, read_header(self._path)
        looks = 1
        while now is None and looks < _LOOKS:
            # Another process may be in a checkpoint, which may write the header before other pages.
            time.sleep(_PAUSE_SECONDS)
            now = read_header(self._path)
            looks += 1
        if now is None and was is not None:
            raise FileLost(f"{self._path} was overwritten: it is not a database any more.")
        if was is None or now is None:
            # A process was killed during its checkpoint. The next writer completes the checkpoint.
            self._header = now
            return
        # The store of an early release gets its number when it is opened, first in the log.
        if was.store not in (0, now.store):
            raise FileLost(f"{self._path} was overwritten with another store.")
        if now.generation < was.generation:
            raise FileLost(f"{self._path} was overwritten with an older copy of it.")
        self._header = now


def read_header(path: Path) -> Header | None:
    """Return the header of the database file without its log; None if it is unreadable."""
    # Read it through SQLite: closing the file by other means would drop this process's locks on it.
    # Immutable mode ignores the log, and locks and writes nothing.
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)) as raw:
            store, generation = (
                raw.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("application_id", "user_version")
            )
    except (sqlite3.Error, OSError):
        return None
    return Header(store, generation)


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - Path.stat costs three times as much, per commit
    except (FileNotFoundError, NotADirectoryError):
        return None


def _identity(status: os.stat_result | None) -> Identity | None:
    return None if status is None else (status.st_dev, status.st_ino)
