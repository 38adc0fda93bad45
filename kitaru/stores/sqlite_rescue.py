"""Rescue the content of a SQLite store after one of its files was lost in use.

SQLite still has its files open, even if their names are gone, and can read all commits from them.
Rescued data and its
new location:

    the log was deleted           its content is written into the database, which is still there
    the database was deleted,     everything is copied to `kitaru.db.rescued`
    replaced or overwritten
    the log was shortened         nothing: the database contains what preceded its last checkpoint

The process must stop after that. It cannot know how other processes use the files.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from kitaru.errors import KitaruError, StoreUnavailable
from kitaru.stores.sqlite_copy import copy
from kitaru.stores.sqlite_watch import FileLost, Watch

_MOST = 100


def rescue(connection: sqlite3.Connection, path: Path, watch: Watch, lost: FileLost) -> KitaruError:
    """Rescue as much as possible; return the error that explains the cause and the next step."""
    try:
        watch.look_at_database()
    except FileLost as database:
        # The log was lost together with the database. Report the database, which users look for.
        lost = database
        help = _copied(connection, path)
    else:
        help = _written(connection, path)
    return StoreUnavailable(
        f"The store was damaged while it was in use. {lost}",
        help=help,
    )


def _written(connection: sqlite3.Connection, path: Path) -> str:
    """Checkpoint a deleted log into the database."""
    try:
        busy, size, written = connection.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    except sqlite3.Error:
        busy, size, written = 1, 0, 0
    if busy or size != written:
        return (
            f"{path} contains what was recorded up to about a second before. Checkpoints after "
            "that run again, once you accept it. End all processes that use the store, then:\n"
            f"rm -f {path}-wal {path}-shm\nkitaru executions resume EXEC"
        )
    return (
        f"Everything that was recorded is in {path} now. End all processes that use the store, "
        "then:\nkitaru executions resume EXEC"
    )


def _copied(connection: sqlite3.Connection, path: Path) -> str:
    """Copy a deleted database to a new file in the same directory."""
    try:
        saved = _free(path)
        copy(connection, saved)
    except (KitaruError, sqlite3.Error, OSError) as error:
        reason = str(error).splitlines()[0]
        return (
            f"What it contained could not be saved ({reason}) Restore a backup:\n"
            f"kitaru store restore BACKUP --store sqlite:{path} --replace"
        )
    return (
        f"Everything that was recorded is saved in {saved}. End all processes that use the store, "
        f"then:\nkitaru store restore sqlite:{saved} --store sqlite:{path} --replace\n"
        "kitaru executions resume EXEC"
    )


def _free(path: Path) -> Path:
    names = (f"{path.name}.rescued{number or ''}" for number in range(_MOST))
    return next(found for name in names if not (found := path.with_name(name)).exists())
