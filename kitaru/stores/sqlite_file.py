"""Make the file of a SQLite store: complete, or not at all, and for its owner alone.

A store contains prompts, results and answers, so nobody but its owner may read it. SQLite gives the
files beside a database its own mode. Only what is made here is closed like that: a directory or a
file that exists keeps the mode that its owner chose, except a default store of an earlier release
(`.kitaru/`, which that release made).
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from kitaru.errors import StoreUnavailable, StoreUnsuitable
from kitaru.stores.sqlite_damage import damaged

# Small, because a commit writes whole pages and records are about a kilobyte.
PAGE_BYTES = 1024
# The index of the primary key, and the one that must agree with it: see sqlite_damage.
INDEX, WITNESS = "sqlite_autoindex_object_1", "object_witness"
_TABLE = "CREATE TABLE object (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)"
_SECOND = f"CREATE UNIQUE INDEX {WITNESS} ON object(key)"
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
_OTHERS = 0o077


def make(path: Path) -> None:
    """Make an empty store at `path`, and its directories, unless something is there.

    The file is built under another name and linked into place, so that no process ever opens a
    half-made one and the loser of a race uses the winner's.

    Raises:
        StoreUnavailable: the log of another file is there, which SQLite would take for its own.
    """
    if path.exists():
        return
    log = path.with_name(f"{path.name}-wal")
    if log.exists() and log.stat().st_size > 0:
        raise StoreUnavailable(
            f"The store {path} is gone, but its log {log} is still there. The log contains "
            "checkpoints that may be in no other file.",
            help=f"Put the file back at {path}, then run the command again. "
            f"To start an empty store instead: rm {log} {path}-shm",
        )
    make_directory(path.parent)
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
        _build(draft)
        link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def close_to_others(path: Path) -> None:
    """Take the rights of others from a default store that an earlier release left open to them."""
    if path.parent.name != ".kitaru":
        return
    each = [(path.parent, DIRECTORY_MODE), (path, FILE_MODE)]
    each += [(path.with_name(path.name + suffix), FILE_MODE) for suffix in ("-wal", "-shm")]
    for place, mode in each:
        try:
            status = place.stat()
            if status.st_mode & _OTHERS and status.st_uid == os.geteuid():
                place.chmod(mode)
        except OSError:
            # Not there, or on a file system that knows no modes.
            continue


def _build(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_TABLE)
        _complete(connection)
    sync(path)


def check_schema(connection: sqlite3.Connection, path: Path) -> None:
    """Raise where a database is not a store; complete one of an earlier release.

    Raises:
        StoreUnsuitable: it is another database.
        RecordCorrupt: it was a store, and is damaged.
    """
    columns = [row[1] for row in connection.execute("PRAGMA table_info(object)")]
    if columns != ["key", "value"]:
        raise StoreUnsuitable(
            f"{path} is a database, but not a Kitaru store.",
            help="Name a file that does not exist yet, and it is made: --store sqlite:PATH",
        )
    statements = dict(_statements(connection))
    if WITNESS not in statements:
        _complete(connection)
        statements = dict(_statements(connection))
    # Read as another encoding, every key would be another one, in both indexes.
    encoding = connection.execute("PRAGMA encoding").fetchone()[0]
    expected = {"object": _TABLE, INDEX: None, WITNESS: _SECOND}
    if statements != expected or encoding != "UTF-8":
        raise damaged(path, "its tables are not those of a store.")


def _complete(connection: sqlite3.Connection) -> None:
    """Make what stores of the first release lack: the second index, and a number."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_SECOND.replace("INDEX", "INDEX IF NOT EXISTS", 1))
        if connection.execute("PRAGMA application_id").fetchone()[0] == 0:
            # Tells this store from every other one; see sqlite_watch.
            connection.execute(f"PRAGMA application_id={secrets.randbelow(2**31 - 1) + 1}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(connection: sqlite3.Connection) -> list[tuple[str, str | None]]:
    query = "SELECT name, sql FROM sqlite_schema WHERE tbl_name = 'object'"
    return connection.execute(query).fetchall()


def link(draft: Path, path: Path) -> bool:
    """Give a file its name; return False when there is a file of that name already."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return False
    except OSError as error:
        raise StoreUnsuitable(
            f"{path.parent} cannot hold a store: its file system has no hard links "
            f"({error.strerror}).",
            help="Use a local disk: export KITARU_STORE=sqlite:PATH",
        ) from error
    return True


def make_directory(directory: Path) -> None:
    """Make a directory, and those that contain it, durable and for their owner alone."""
    missing = [d for d in (directory, *directory.parents) if not d.exists()]
    for made in reversed(missing):
        made.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        sync(made.parent)
    directory.mkdir(exist_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a directory, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
