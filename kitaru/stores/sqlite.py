"""Store journals in one SQLite database: commits, durability and threads.

The log (`kitaru.db-wal`) is checkpointed into the database early, so that the database alone
contains nearly everything: after the first commit in a second, when the log has grown, and when an
execution waits or ends. That costs at most one more sync per second. `sqlite_watch` describes how
changes of the files are detected meanwhile.
"""

from __future__ import annotations

import builtins
import gc
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from kitaru.errors import KitaruError, StoreDenied, StoreUnavailable, StoreUnsuitable
from kitaru.stores.base import check_key, in_order, upper_bound
from kitaru.stores.sqlite_copy import copy
from kitaru.stores.sqlite_damage import check_log, damaged, structural
from kitaru.stores.sqlite_file import (
    INDEX,
    PAGE_BYTES,
    WITNESS,
    check_schema,
    close_to_others,
    make,
)
from kitaru.stores.sqlite_rescue import rescue
from kitaru.stores.sqlite_watch import FileLost, Watch

T = TypeVar("T")

_GET = f"SELECT value FROM object INDEXED BY {INDEX} WHERE key = ?"
_GET_ALL = f"SELECT key, value FROM object INDEXED BY {INDEX} WHERE key IN"
_WITNESSED = f"SELECT 1 FROM object INDEXED BY {WITNESS} WHERE key = ?"
_ALL_WITNESSED = f"SELECT key FROM object INDEXED BY {WITNESS} WHERE key IN"
# A single lower bound: with two of them, SQLite reads all keys from the smaller one again on each
# page.
_BOUNDS = "WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
_KEYS = [f"SELECT key FROM object INDEXED BY {name} {_BOUNDS}" for name in (INDEX, WITNESS)]
_VALUES = f"SELECT key, value FROM object INDEXED BY {INDEX} {_BOUNDS}"
_LIST = f"SELECT * FROM ({_KEYS[0]}) UNION ALL SELECT * FROM ({_KEYS[1]})"
_SCAN = f"SELECT * FROM ({_VALUES}) UNION ALL SELECT key, NULL FROM ({_KEYS[1]})"
# Number of objects that a scan has in memory at once.
_SCANNED = 256
# Sorts before every character of a key.
_FIRST = "!"
_INSERT = "INSERT OR IGNORE INTO object VALUES (?, ?)"
_BUSY_SECONDS = 30.0
_AT_ONCE = 500
# The log is checkpointed when it reaches this size, or when the last checkpoint is this old.
_LOG_BYTES = 1024 * 1024
_LOG_SECONDS = 1.0
# A larger database is not checked completely when a process joins an execution, only the relevant
# part.
_WHOLE_BYTES = 64 * 1024 * 1024
# The number of stores in this process that have each database open.
_in_use: Counter[tuple[int, int]] = Counter()
# Collecting garbage closes stores (`_leave`), also while this thread opens another one (`_use`).
_using = threading.RLock()
_using_again = threading.RLock()
# The attributes set by `SqliteStore._open`.
_OPENED = ("_writer", "_reader", "_close", "_watch")
_stores: weakref.WeakSet[SqliteStore] = weakref.WeakSet()
# A process that has more stores open than this collects garbage. Each store holds about six files.
_MOST_OPEN = 24
_most_open = _MOST_OPEN
_of_parent: list[object] = []


class SqliteStore:
    """Objects as rows of one database on a local disk, shared by threads and processes.

    Values of any size are stored as rows. A write is one transaction with `synchronous=FULL`, so
    `create` returns after the data is on the disk.

    Args:
        path: the file; a directory gets a `kitaru.db`. Missing files are created.

    Raises:
        StoreUnsuitable: the file is not a Kitaru store, or its file system cannot be used for one.
        StoreDenied: the file may not be read or written.
        StoreUnavailable: the disk is full or fails, or another process locks the file for too long.
    """

    remote = False

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.url = f"sqlite:{self.path}"
        _close_unreferenced()
        self._open()
        self._renew()
        _stores.add(self)

    def _open(self) -> None:
        with _translated(self.path):
            make(self.path)
            close_to_others(self.path)
            identity = _use(self.path)
            try:
                self._writer = _connect(self.path)
                self._reader = _connect(self.path)
            except BaseException:
                _leave(identity)
                raise
            # An unreferenced store is closed. At exit, threads may still be using their stores.
            self._close = weakref.finalize(self, _close, identity, self._writer, self._reader)
            self._close.atexit = False
            check_schema(self._writer, self.path)
            self._watch = Watch(self.path)

    def _renew(self) -> None:
        self._lost: KitaruError | None = None
        # The approximate number of bytes written to the log since its last checkpoint by this
        # process, and the time of that checkpoint on the monotonic clock.
        self._log_bytes, self._log_written = 0, -inf
        self._queue: list[_Job] = []
        self._queueing = threading.Lock()
        self._writing = threading.Lock()
        self._reading = threading.Lock()

    def _leave_to_parent(self) -> None:
        """Leave the database to the parent, in a forked child: connections must not cross forks.

        The child opens the database again when it uses the store (see `__getattr__`). The parent's
        connections are not closed, since that would affect its log.
        """
        self._close.detach()
        _of_parent.append([vars(self).pop(name) for name in _OPENED])
        self._renew()

    def __getattr__(self, name: str) -> Any:
        if name not in _OPENED:
            raise AttributeError(name)
        with _using_again:
            if name not in vars(self):
                self._open()
        return vars(self)[name]

    def create(self, key: str, value: bytes) -> bool:
        return self.create_all(((key, value),))[0]

    def create_all(self, objects: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Create the objects in order. Calls that arrive while the disk is busy share a commit."""
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
        rows = self._read(_GET, (key,))
        if rows:
            return rows[0][0]  # type: ignore[no-any-return]
        self._check_files()
        return self._created_meanwhile(key) if self._read(_WITNESSED, (key,)) else None

    def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), _AT_ONCE):
            some = tuple(keys[start : start + _AT_ONCE])
            places = ", ".join("?" * len(some))
            found.update(self._read(f"{_GET_ALL} ({places})", some))
            if absent := [key for key in some if key not in found]:
                self._check_files()
                places = ", ".join("?" * len(absent))
                witnessed = self._read(f"{_ALL_WITNESSED} ({places})", tuple(absent))
                found.update((key, self._created_meanwhile(key)) for (key,) in witnessed)
        return [found.get(key) for key in keys]

    def concurrently(self, first: Callable[[], T], *others: Callable[[], object]) -> T:
        return in_order(first, *others)

    def list(self, prefix: str, *, after: str = "", limit: int | None = None) -> list[str]:
        return [key for (key,) in self._range(_LIST, prefix, after, limit)]

    def scan(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        after = ""
        while rows := self._range(_SCAN, prefix, after, _SCANNED):
            yield from rows
            after = rows[-1][0]

    def delete(self, *keys: str) -> None:
        # Delete in batches, so that a concurrent writer waits for one commit only.
        for start in range(0, len(keys), _AT_ONCE):
            some = [(key,) for key in keys[start : start + _AT_ONCE]]
            with self._writing, _translated(self.path), self._transaction():
                self._writer.executemany("DELETE FROM object WHERE key = ?", some)

    def flush(self) -> None:
        with self._writing:
            if not self._log_bytes or self._lost is not None:
                return
            # A full or busy disk is not an error here: everything is durable in the log.
            with suppress(sqlite3.OperationalError):
                with self._watched(translated=False), self._transaction():
                    generation = self._next_generation()
                self._write_log(generation)

    def close(self) -> None:
        with suppress(KitaruError):
            self.flush()
        with self._writing, self._reading:
            self._close()

    def inspect(self, prefix: str) -> None:
        if self.path.stat().st_size <= _WHOLE_BYTES:
            with self._reading, _translated(self.path):
                found = structural(self._reader, 1)
            if found:
                raise damaged(self.path, f"{found[0]}.")
        else:
            bounds = (prefix, upper_bound(prefix))
            query = "SELECT key, length(value) FROM object INDEXED BY {} WHERE key >= ? AND key < ?"
            one, other = (query.format(name) for name in (INDEX, WITNESS))
            different = self._read(f"{one} EXCEPT {other}", bounds * 2)
            different = different or self._read(f"{other} EXCEPT {one}", bounds * 2)
            if different:
                raise self._differ(different[0][0])

    def damage(self) -> builtins.list[str]:
        """Return the structural damage of the database; empty if it is sound."""
        with self._reading:
            return structural(self._reader)

    def copy_to(self, path: Path) -> None:
        """Copy the current state of the whole store to a file that does not exist yet.

        Raises:
            StateError: the file exists.
            RecordCorrupt: the store is damaged.
            EnvironmentFailure: a file cannot be read or written.
        """
        with _translated(self.path), closing(_connect(self.path)) as connection:
            copy(connection, path)

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """Yield all current objects from the table, without an index, in the order of writing.

        The connection sees one state of the store meanwhile.
        """
        with _translated(self.path), closing(_connect(self.path)) as connection:
            yield from connection.execute(
                "SELECT key, value FROM object NOT INDEXED ORDER BY rowid"
            )

    def content(self) -> tuple[int, int]:
        """Return the number of objects and their total size in bytes."""
        found = self._read("SELECT count(*), coalesce(sum(length(value)), 0) FROM object", ())
        return found[0][0], found[0][1]

    def _range(
        self, query: str, prefix: str, after: str, limit: int | None
    ) -> Sequence[tuple[Any, ...]]:
        """Return the rows of a range of keys from the first index; the second must agree."""
        first = max(prefix, after + _FIRST) if after else prefix
        bounds = (first, upper_bound(prefix), -1 if limit is None else limit)
        # Read both indexes in one statement, which sees one state of the store.
        rows = self._read(query, bounds * 2)
        self._check_files()
        half = len(rows) // 2
        found, witnessed = ([row[0] for row in part] for part in (rows[:half], rows[half:]))
        if found != witnessed:
            raise self._differ(min({*found} ^ {*witnessed}, default=prefix))
        return rows[:half]

    def _created_meanwhile(self, key: str) -> bytes:
        """Return an object missing from one index: created meanwhile, or the index is damaged."""
        rows = self._read(_GET, (key,))
        if not rows:
            raise self._differ(key)
        return rows[0][0]  # type: ignore[no-any-return]

    def _differ(self, key: str) -> KitaruError:
        return damaged(self.path, f"one of its two indexes contains {key}, the other does not.")

    def _read(self, query: str, parameters: tuple[object, ...]) -> Sequence[tuple[Any, ...]]:
        if self._lost is not None:
            # A commit that was not acknowledged may still be readable.
            raise self._lost
        # Prefer the writing connection if it is idle, because its cache survives its own writes.
        if self._writing.acquire(blocking=False):
            busy, connection = self._writing, self._writer
        else:
            self._reading.acquire()
            busy, connection = self._reading, self._reader
        try:
            with _translated(self.path):
                # Use fetchall: an open cursor would prevent the log from being emptied.
                return connection.execute(query, parameters).fetchall()
        finally:
            busy.release()

    def _lead(self, own: _Job) -> None:
        with self._queueing:
            jobs, self._queue = self._queue, []
        try:
            with self._watched():
                generation = self._commit(jobs)
            if generation:
                self._write_log(generation)
        except KitaruError as error:
            for job in jobs:
                job.error = error
        except BaseException:
            # Ctrl-C stops only this thread. The other jobs return to the queue for another leader.
            with self._queueing:
                self._queue = [job for job in jobs if job is not own] + self._queue
            raise
        for job in jobs:
            job.done = True

    def _commit(self, jobs: Sequence[_Job]) -> int:
        """Insert the objects of all jobs; return the generation if a checkpoint is due, else 0."""
        # The first commit of each log contains a generation, which identifies the log's database.
        begins = self._log_bytes == 0
        self._log_bytes += sum(job.size for job in jobs)
        is_due = (
            self._log_bytes >= _LOG_BYTES or time.monotonic() - self._log_written >= _LOG_SECONDS
        )
        if not is_due and not begins and len(jobs) == 1 and len(jobs[0].objects) == 1:
            self._insert(jobs[0])
            return 0
        with self._transaction():
            for job in jobs:
                self._insert(job)
            generation = self._next_generation() if is_due or begins else 0
        return generation if is_due else 0

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

    def _next_generation(self) -> int:
        """Increment the generation in the current transaction, before the log is checkpointed."""
        found: int = self._writer.execute("PRAGMA user_version").fetchone()[0]
        self._writer.execute(f"PRAGMA user_version={found + 1}")
        return found + 1

    def _write_log(self, generation: int) -> None:
        # An error here does not affect the commit, which is durable in the log. The next commit
        # tries again.
        with suppress(sqlite3.OperationalError):
            busy, size, written = self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if not busy and size == written:
                self._log_bytes, self._log_written = 0, time.monotonic()
                self._watch.note_checkpoint(generation)

    @contextmanager
    def _watched(self, *, translated: bool = True) -> Iterator[None]:
        """Commit in the block; raise if the bytes were written to a removed or replaced file."""
        if self._lost is not None:
            raise self._lost
        try:
            self._watch.look_at_log()
            with _translated(self.path) if translated else nullcontext():
                yield
            self._watch.look()
        except FileLost as lost:
            raise self._rescued(lost) from None
        except (KitaruError, sqlite3.Error):
            # SQLite's error may come from a file that was damaged in use.
            self._check_files()
            raise

    def _check_files(self) -> None:
        """Raise if a file was changed from outside: a missing key in such a file proves nothing."""
        try:
            self._watch.look()
        except FileLost as lost:
            raise self._rescued(lost) from None

    def _rescued(self, lost: FileLost) -> KitaruError:
        with self._reading:
            if self._lost is None:
                self._lost = rescue(self._reader, self.path, self._watch, lost)
        return self._lost


class _Job:
    """The objects that one thread creates, and the results."""

    __slots__ = ("created", "done", "error", "objects", "size")

    def __init__(self, objects: Sequence[tuple[str, bytes]]) -> None:
        self.objects = objects
        # Each object changes about three pages, in addition to the pages that it fills.
        self.size = sum(len(value) + 3 * PAGE_BYTES for _, value in objects)
        self.created: list[bool] = []
        self.done = False
        self.error: KitaruError | None = None


def _use(path: Path) -> tuple[int, int]:
    """Count the open stores of a file in this process; the first one checks the log."""
    status = path.stat()
    identity = status.st_dev, status.st_ino
    with _using:
        if not _in_use[identity]:
            check_log(path)
        _in_use[identity] += 1
    return identity


def _leave(identity: tuple[int, int]) -> None:
    with _using:
        _in_use[identity] -= 1


def _close_unreferenced() -> None:
    """Close the stores of ended runs before the process runs out of files.

    A run and its store are garbage in a cycle. Python collects such garbage by the number of
    objects, and in a process with many objects rarely.
    """
    global _most_open
    if len(_stores) >= _most_open:
        gc.collect()
        # Many stores may be in use. Do not collect again for each further one.
        _most_open = max(_MOST_OPEN, 2 * len(_stores))


def _close(identity: tuple[int, int], *connections: sqlite3.Connection) -> None:
    for connection in connections:
        connection.close()
    _leave(identity)


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
    # Only this store runs checkpoints, each under a new generation.
    connection.execute("PRAGMA wal_autocheckpoint=0")
    if sys.platform == "darwin":
        connection.execute("PRAGMA fullfsync=1")
        connection.execute("PRAGMA checkpoint_fullfsync=1")
    level = connection.execute("PRAGMA synchronous").fetchone()[0]
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if (level, mode) != (2, "wal"):
        if not path.stat().st_size:
            raise StoreUnsuitable(
                f"{path} is empty: it is not a Kitaru store.",
                help="Where it was one, restore a backup:\n"
                f"kitaru store restore BACKUP --store sqlite:{path} --replace",
            )
        raise StoreUnsuitable(
            f"SQLite does not make commits durable in {path} (synchronous={level}, "
            f"journal_mode={mode}).",
            help="Use a file on a local disk that `kitaru` makes itself: "
            "export KITARU_STORE=sqlite:.kitaru/kitaru.db",
        )


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(error, path) from error
    except UnicodeDecodeError as error:
        raise damaged(path, "it contains text that no Kitaru wrote.") from error
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
        return damaged(path, f"{error}.")
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


def _leave_all_to_parent() -> None:
    global _using, _using_again
    _using, _using_again = threading.RLock(), threading.RLock()
    for store in list(_stores):
        store._leave_to_parent()


os.register_at_fork(after_in_child=_leave_all_to_parent)
