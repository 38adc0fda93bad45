"""Decides how a journal lives in one SQLite file: when a commit is durable, and who makes it."""

from __future__ import annotations

import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from kitaru.errors import KitaruError, RecordCorrupt, StoreDenied, StoreUnavailable, StoreUnsuitable
from kitaru.stores.base import check_key, in_order, upper_bound
from kitaru.stores.sqlite_file import identity, make

T = TypeVar("T")

_INSERT = "INSERT OR IGNORE INTO object VALUES (?, ?)"
_BUSY_SECONDS = 30.0
_AT_ONCE = 500


class SqliteStore:
    """Objects as rows of one file on a local disk, shared by threads and processes.

    Values of any size are rows, large ones too: the file is the whole store. A write is one
    transaction with `synchronous=FULL`, so `create` returns after the disk has it.

    Args:
        path: the file; a directory gets `kitaru.db` inside. Missing ones are made.

    Raises:
        StoreUnsuitable: the file is not a Kitaru store, or its file system cannot hold one.
        StoreDenied: it may not be read or written.
        StoreUnavailable: the disk is full or fails, or another process holds the file too long.
    """

    remote = False

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.url = f"sqlite:{self.path}"
        with _translated(self.path):
            make(self.path)
            self._identity = identity(self.path)
            self._writer = _connect(self.path)
            self._reader = _connect(self.path)
            # A store that is forgotten is closed; at exit threads may still be using theirs.
            weakref.finalize(self, _close, self._writer, self._reader).atexit = False
            _check_schema(self._reader, self.path)
        self._queue: list[_Job] = []
        self._queueing = threading.Lock()
        self._writing = threading.Lock()
        self._reading = threading.Lock()

    def create(self, key: str, value: bytes) -> bool:
        return self.create_all(((key, value),))[0]

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Create in order; calls that come while the disk is busy share a commit."""
        for key, _ in objects:
            check_key(key)
        job = _Job(objects)
        with self._queueing:
            self._queue.append(job)
        with self._writing:
            if not job.done:
                self._lead(job)
        if job.error is not None:
            raise job.error
        return job.created

    def get(self, key: str) -> bytes | None:
        rows = self._read("SELECT value FROM object WHERE key = ?", (key,))
        if not rows:
            self._check_present()
            return None
        return rows[0][0]  # type: ignore[no-any-return]

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = tuple(keys[start : start + _AT_ONCE])
            places = ", ".join("?" * len(some))
            found.update(self._read(f"SELECT * FROM object WHERE key IN ({places})", some))
        if len(found) < len(keys):
            self._check_present()
        return [found.get(key) for key in keys]

    def together(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        return in_order(first, *others)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        query = "SELECT key FROM object WHERE key >= ? AND key > ? AND key < ? ORDER BY key LIMIT ?"
        bounds = (prefix, after, upper_bound(prefix), -1 if limit is None else limit)
        rows = self._read(query, bounds)
        self._check_present()
        return [key for (key,) in rows]

    def delete(self, *keys: str) -> None:
        # Some at a time: whoever writes meanwhile waits for one commit only.
        for start in range(0, len(keys), _AT_ONCE):
            some = [(key,) for key in keys[start : start + _AT_ONCE]]
            with self._writing, _translated(self.path), self._transaction():
                self._writer.executemany("DELETE FROM object WHERE key = ?", some)

    def close(self) -> None:
        with self._writing, self._reading:
            _close(self._writer, self._reader)

    def _read(self, query: str, parameters: tuple[object, ...]) -> Sequence[tuple[Any, ...]]:
        # The writing connection, unless it is busy, because its cache survives its own writes.
        if self._writing.acquire(blocking=False):
            busy, connection = self._writing, self._writer
        else:
            self._reading.acquire()
            busy, connection = self._reading, self._reader
        try:
            with _translated(self.path):
                # fetchall, because an open cursor would keep the log from being emptied.
                return connection.execute(query, parameters).fetchall()
        finally:
            busy.release()

    def _lead(self, own: _Job) -> None:
        with self._queueing:
            jobs, self._queue = self._queue, []
        try:
            with _translated(self.path):
                self._commit(jobs)
            # Asked after the commit: bytes in a file that nobody can find again are not durable.
            self._check_present()
        except KitaruError as error:
            for job in jobs:
                job.error = error
        except BaseException:
            # Ctrl-C stops this thread only: the others take their turn at leading.
            with self._queueing:
                self._queue = [job for job in jobs if job is not own] + self._queue
            raise
        for job in jobs:
            job.done = True

    def _commit(self, jobs: Sequence[_Job]) -> None:
        if len(jobs) == 1 and len(jobs[0].objects) == 1:
            self._insert(jobs[0])
            return
        with self._transaction():
            for job in jobs:
                self._insert(job)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise

    def _insert(self, job: _Job) -> None:
        execute = self._writer.execute
        job.created = [execute(_INSERT, row).rowcount == 1 for row in job.objects]

    def _check_present(self) -> None:
        if identity(self.path) != self._identity:
            raise StoreUnavailable(
                f"The store {self.path} was deleted or replaced while it was in use.",
                help="What was recorded before is in the file that was there. Put it back, or "
                "start again with `kitaru run`.",
            )


class _Job:
    """What one thread wants created, and what came of it."""

    __slots__ = ("created", "done", "error", "objects")

    def __init__(self, objects: Sequence[tuple[str, bytes]]) -> None:
        self.objects = objects
        self.created: list[bool] = []
        self.done = False
        self.error: KitaruError | None = None


def _close(*connections: sqlite3.Connection) -> None:
    for connection in connections:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        _make_durable(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_durable(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute("PRAGMA synchronous=FULL")
    if sys.platform == "darwin":
        connection.execute("PRAGMA fullfsync=1")
        connection.execute("PRAGMA checkpoint_fullfsync=1")
    level = connection.execute("PRAGMA synchronous").fetchone()[0]
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if (level, mode) != (2, "wal"):
        raise StoreUnsuitable(
            f"SQLite does not make commits durable in {path} (synchronous={level}, "
            f"journal_mode={mode}).",
            help="Use a file on a local disk that `kitaru` makes itself: "
            "export KITARU_STORE=sqlite:.kitaru/kitaru.db",
        )


def _check_schema(connection: sqlite3.Connection, path: Path) -> None:
    columns = [row[1] for row in connection.execute("PRAGMA table_info(object)").fetchall()]
    if columns != ["key", "value"]:
        raise StoreUnsuitable(
            f"{path} is a database, but not a Kitaru store.",
            help="Name a file that does not exist yet, and it is made: --store sqlite:PATH",
        )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error
    except PermissionError as error:
        raise StoreDenied(f"The store {path} may not be used: {error.strerror}.") from error
    except OSError as error:
        raise StoreUnavailable(f"The store {path} cannot be used: {error.strerror}.") from error


def _translate(error: sqlite3.Error, path: Path) -> KitaruError:
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_CANTOPEN")):
        return StoreDenied(
            f"The store {path} may not be opened or written: {error}.",
            help="Check who owns the file and its directory (SQLite writes beside the file too), "
            "and how many open files a process may have: ulimit -n",
        )
    if name.startswith("SQLITE_CORRUPT"):
        return RecordCorrupt(
            f"The store {path} is damaged: {error}.", help="Restore the file from a backup."
        )
    if name.startswith("SQLITE_NOTADB") or "no such table" in str(error):
        return StoreUnsuitable(
            f"{path} is not a Kitaru store: {error}.",
            help="Name a file that does not exist yet, and it is made: --store sqlite:PATH",
        )
    return StoreUnavailable(
        f"The store {path} failed: {error}.",
        help="Nothing recorded is lost. Mend the cause (space on the disk, another process), then "
        "run `kitaru executions resume EXEC`.",
    )
