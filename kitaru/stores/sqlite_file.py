"""Create the file of a SQLite store atomically, readable only by its owner.

A store contains prompts, results and answers, so only its owner may read it. SQLite uses the mode
of the database for the files next to it. Kitaru sets the mode only of files and directories that it
creates. Existing ones keep their mode, except a default store (`.kitaru/`) that was created by an
earlier release.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from contextlib import closing
from pathlib import Path

from kitaru.errors import StoreUnavailable, StoreUnsuitable
from kitaru.stores.sqlite_damage import damaged

# Small pages, because a commit writes whole pages and records have about one kilobyte.
PAGE_BYTES = 1024
# The index of the primary key, and the second index that must agree with it: see sqlite_damage.
INDEX, WITNESS = "sqlite_autoindex_object_1", "object_witness"
_TABLE = "CREATE TABLE object (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)"
_SECOND = f"CREATE UNIQUE INDEX {WITNESS} ON object(key)"
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
_OTHERS = 0o077


def make(path: Path) -> None:
    """Create an empty store at `path` and its directories, unless the file exists.

    The file is built under a temporary name and linked into place. No process ever opens an
    incomplete file, and the loser of a race uses the winner's file.

    Raises:
        StoreUnavailable: the log of another file exists, which SQLite would use for this database.
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
    """Revoke access by other users to a default store that an earlier release left open."""
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
            # The file does not exist, or its file system has no modes.
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
    """Raise if a database is not a store; upgrade the store of an earlier release.

    Raises:
        StoreUnsuitable: the file is another database.
        RecordCorrupt: the file is a damaged store.
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
    # With another encoding, every key would read differently, in both indexes.
    encoding = connection.execute("PRAGMA encoding").fetchone()[0]
    expected = {"object": _TABLE, INDEX: None, WITNESS: _SECOND}
    if statements != expected or encoding != "UTF-8":
        raise damaged(path, "its tables are not those of a store.")


def _complete(connection: sqlite3.Connection) -> None:
    """Add the second index and the store number, which stores of the first release lack."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(_SECOND.replace("INDEX", "INDEX IF NOT EXISTS", 1))
        if connection.execute("PRAGMA application_id").fetchone()[0] == 0:
            # Identifies this store; see sqlite_watch.
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
    """Link a file to its final name; return False if that name is already in use."""
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
    """Create a directory and its missing parents durably, accessible only to their owner."""
    missing = [d for d in (directory, *directory.parents) if not d.exists()]
    for made in reversed(missing):
        made.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
        sync(made.parent)
    directory.mkdir(exist_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a directory, are durable on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
