"""Decides how a new SQLite store comes into being: whole, or not at all."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from kitaru.errors import StoreUnsuitable


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells this file from another one of the same name, None when there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - Path.stat costs three times as much, per commit
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def make(path: Path) -> None:
    """Make an empty store at `path`, and its directories, unless something is there.

    The file is built under another name and linked into place, so that no process ever opens a
    half-made one and the loser of a race uses the winner's.
    """
    if path.exists():
        return
    _make_directory(path.parent)
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    try:
        _build(draft)
        _link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _sync(path.parent)


def _build(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # Small pages, because a commit writes whole ones and records are about a kilobyte.
        connection.execute("PRAGMA page_size=1024")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(
            "CREATE TABLE object (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)"
        )
    _sync(path)


def _link(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
    except OSError as error:
        raise StoreUnsuitable(
            f"{path.parent} cannot hold a store: its file system has no hard links "
            f"({error.strerror}).",
            help="Use a local disk: export KITARU_STORE=sqlite:PATH",
        ) from error


def _make_directory(directory: Path) -> None:
    missing = [d for d in (directory, *directory.parents) if not d.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        _sync(made.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
