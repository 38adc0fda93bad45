"""Copy a whole SQLite store into a new file: complete and verified, or not at all."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from kitaru.errors import RecordCorrupt, StateError
from kitaru.stores.sqlite_damage import structural
from kitaru.stores.sqlite_file import link, make_directory, sync


def copy(connection: sqlite3.Connection, target: Path) -> str:
    """Copy the state that `connection` sees to `target`, and return its digest.

    The copy is one snapshot: it neither waits for nor blocks processes that write meanwhile. It is
    built under a temporary name, read back, compared and synced before it is renamed, so that an
    interrupted copy is never mistaken for a store. Only its owner may read it.

    Raises:
        StateError: a file or a log exists at `target`.
        RecordCorrupt: the source is damaged.
        sqlite3.Error, OSError: a file cannot be read or written.
    """
    log = target.with_name(f"{target.name}-wal")
    for taken in (target, log):
        if taken.exists():
            raise StateError(
                f"{taken} exists already.", help="Choose the name of a file that does not exist."
            )
    make_directory(target.parent)
    draft = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    try:
        digest = _filled(draft, connection)
        sync(draft)
        if not link(draft, target):
            raise StateError(f"{target} was made by another process meanwhile.")
    finally:
        for suffix in ("", "-wal", "-shm", "-journal"):
            draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    sync(target.parent)
    return digest


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Pin the connection to one snapshot of the database in the block, despite other writers."""
    connection.execute("BEGIN")
    try:
        connection.execute("SELECT 1 FROM object LIMIT 1").fetchall()
        yield
    finally:
        connection.execute("ROLLBACK")


def content_digest(connection: sqlite3.Connection) -> str:
    """Return a digest of the keys and values of all objects in a database."""
    hashed = hashlib.sha256()
    query = "SELECT key, value FROM object NOT INDEXED ORDER BY rowid"
    with closing(connection.cursor()) as rows:
        for key, value in rows.execute(query):
            hashed.update(b"%d %d " % (len(key), len(value)) + key.encode() + value)
    return f"sha256:{hashed.hexdigest()}"


def _filled(draft: Path, connection: sqlite3.Connection) -> str:
    with closing(sqlite3.connect(draft, isolation_level=None)) as copied:
        with snapshot(connection):
            digest = content_digest(connection)
            connection.backup(copied)
        found = structural(copied)
        if not found and content_digest(copied) != digest:
            found = ["the copy differs from its source"]
    if found:
        raise RecordCorrupt(
            f"The copy is damaged, and so is the store that it was made from: {found[0]}.",
            help="Look at both closely: kitaru store verify",
        )
    return digest
