"""Detect damage of a SQLite store, so that lost records are never treated as absent.

A checkpoint without a record runs. A flipped bit must therefore never look like a missing record.
SQLite does not verify the pages of its database. Of a damaged log it uses the part before the
damage, without an error. Kitaru compares data
that is stored twice:

    two indexes         Each object is entered in the index of the primary key and in a second one,
                        `object_witness`. They share no page. A key is absent when both say so; an
                        insert is refused by either. (`SqliteStore` does this at every read.)
    the log's index     `kitaru.db-shm` contains how many pages of the log were committed and
                        synced. A process that is killed leaves it. When the log contains fewer
                        valid pages, commits are missing that were acknowledged.
    the generation      Each checkpoint of the log writes a number into the database first. A log
                        whose number does not follow that of its database belongs to another copy.
    the whole file      `PRAGMA integrity_check` follows all pages. It takes 3 to 6 ms for each
                        mebibyte, so it runs when an execution is joined, up to a size.
"""

from __future__ import annotations

import shlex
import sqlite3
import struct
import time
from functools import cached_property
from pathlib import Path

from kitaru.errors import RecordCorrupt
from kitaru.wire.structs import Struct

# Checksums of more pages would take too long in Python, at 20 µs per page.
_MOST_PAGES = 4096
_HEADER_BYTES = 32
_FRAME_BYTES = 24
_MAGIC = (0x377F0682, 0x377F0683)
# The maximum number of processes killed between a commit and the checkpoint that it announced.
_MOST_PENDING = 16
_LOOKS, _PAUSE_SECONDS = 4, 0.05


def damaged(path: Path, what: str, remedy: str = "") -> RecordCorrupt:
    """Return the error for a damaged store; `what` is a sentence, `remedy` lines of help."""
    url = shlex.quote(f"sqlite:{path}")
    return RecordCorrupt(
        f"The store {path} is damaged: {what}",
        help=remedy
        or "Nothing was run because of it. See what is damaged:\n"
        f"kitaru store verify {url}\n"
        "Restore a backup, or copy what can still be read and verified to another file:\n"
        f"kitaru store restore BACKUP --store {url} --replace\n"
        f"kitaru store restore {url} --store sqlite:OTHER.db",
    )


def structural(connection: sqlite3.Connection, most: int = 20) -> list[str]:
    """Return the damage that SQLite finds in the structure of a database; empty if it is sound."""
    try:
        found = [str(row[0]) for row in connection.execute(f"PRAGMA integrity_check({most})")]
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        return [str(error)]
    return [] if found == ["ok"] else found


def check_log(path: Path) -> None:
    """Raise RecordCorrupt if commits that were acknowledged are missing from a database's log.

    No connection of this process may have the store open: closing a file after reading it would
    drop the locks of that connection.
    """
    looks = 1
    while (wrong := _wrong_log(path, files := _Files.read(path))) is not None:
        if looks == _LOOKS:
            # Files of a moment in which a process wrote do not belong together and prove nothing.
            # That process checked the log when it opened the store, and watches the files since.
            if files.is_still:
                raise wrong
            return
        time.sleep(_PAUSE_SECONDS)
        looks += 1


class _Files(Struct):
    """The start of a database and of its log's index, and the whole log.

    `is_still` says that no process has committed, checkpointed or begun the log anew while they
    were read. Each of them changes the database's header or the log's index.
    """

    index: bytes
    header: bytes
    log: bytes
    is_still: bool

    @classmethod
    def read(cls, path: Path) -> _Files:
        index, header = heads = _heads(path)
        log = _head(_beside(path, "-wal"), None)
        return cls(index, header, log, _heads(path) == heads)


def _heads(path: Path) -> tuple[bytes, bytes]:
    return _head(_beside(path, "-shm"), 100), _head(path, 100)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _wrong_log(path: Path, files: _Files) -> RecordCorrupt | None:
    index_path, log_path = _beside(path, "-shm"), _beside(path, "-wal")
    index, header, log = _Index.read(files.index), files.header, _Log.read(files.log)
    remove = f"rm {shlex.quote(str(log_path))} {shlex.quote(str(index_path))}"
    if index is not None and (log is None or log.salts == index.salts):
        found = 0 if log is None else log.valid_pages(index)
        is_lost = found < index.committed
        if is_lost and index.committed > index.written:
            return damaged(
                path,
                f"its log {log_path} contains {found} of {index.committed} pages that were "
                "committed.",
                "Restore a backup, or accept that what was recorded shortly before the end of the "
                f"last process runs again:\nkitaru store restore BACKUP --store sqlite:{path} "
                f"--replace\nrm {shlex.quote(str(index_path))}",
            )
        if is_lost and found:
            # SQLite would use the pages before the damage, which are older than those of the
            # database.
            return damaged(
                path,
                f"its log {log_path} is. The database contains all of it already.",
                f"Remove the log, then run the command again:\n{remove}",
            )
    newest = log.newest_header() if log is not None else None
    if newest is None or len(header) < 100:
        return None
    in_log, in_file = _generation(newest), _generation(header)
    is_other = _store(newest) != _store(header) and 0 not in (_store(newest), _store(header))
    if is_other or not in_file <= in_log <= in_file + _MOST_PENDING:
        return damaged(
            path,
            f"its log {log_path} belongs to another copy of it (generation {in_log}, the "
            f"database has {in_file}).",
            "Put the database back that belongs to the log. If the database alone is what you "
            f"want:\n{remove}",
        )
    return None


class _Index(Struct):
    """The content of a log's index (`-shm`, "wal-index" in SQLite's file format)."""

    committed: int
    written: int
    salts: bytes
    sums: tuple[int, int]

    @classmethod
    def read(cls, data: bytes) -> _Index | None:
        """Return None if the index is missing or invalid."""
        # The header has two equal copies. If they differ, it is being written or is damaged.
        if len(data) < 100 or data[:48] != data[48:96] or not data[12]:
            return None
        committed, _, *sums = struct.unpack("=4I", data[16:32])
        (written,) = struct.unpack("=I", data[96:100])
        return cls(committed, written, data[32:40], (sums[0], sums[1]))


class _Log:
    """A write-ahead log, as defined by SQLite's file format."""

    def __init__(self, data: bytes, order: str, page: int) -> None:
        self.data = data
        self.order = order
        self.page = page
        self.salts = data[16:24]

    @classmethod
    def read(cls, data: bytes) -> _Log | None:
        """Return None if the log is missing or its header is not valid."""
        if len(data) < _HEADER_BYTES:
            return None
        magic, _, page = struct.unpack(">3I", data[:12])
        if magic not in _MAGIC or page < 512 or page & (page - 1):
            return None
        order = ">" if magic & 1 else "<"
        if _summed((0, 0), data[:24], order) != struct.unpack(">2I", data[24:32]):
            return None
        return cls(data, order, page)

    def valid_pages(self, index: _Index) -> int:
        """Return the number of consecutive committed pages that are unchanged."""
        size = _FRAME_BYTES + self.page
        there = min((len(self.data) - _HEADER_BYTES) // size, index.committed)
        if there < index.committed:
            return there
        if there <= _MOST_PAGES:
            return min(len(self._valid_frames), there)
        last = self.data[_HEADER_BYTES + (there - 1) * size :][:_FRAME_BYTES]
        return there if struct.unpack(">2I", last[16:24]) == index.sums else 0

    def newest_header(self) -> bytes | None:
        """Return the header of the database in the last commit, None without one."""
        if len(self.data) > _MOST_PAGES * (_FRAME_BYTES + self.page):
            return None
        committed = pending = None
        for number, size, at in self._valid_frames:
            if number == 1:
                pending = self.data[at : at + 100]
            if size:
                committed = pending
        return committed

    @cached_property
    def _valid_frames(self) -> list[tuple[int, int, int]]:
        """The valid frames of the log, up to the point to which SQLite reads it.

        Each frame has the page number, the size of the database if it commits, and the place of the
        page in the log.
        """
        frames = []
        size = _FRAME_BYTES + self.page
        sums: tuple[int, ...] = struct.unpack(">2I", self.data[24:32])
        for start in range(_HEADER_BYTES, len(self.data) - size + 1, size):
            at = start + _FRAME_BYTES
            head = self.data[start:at]
            sums = _summed((sums[0], sums[1]), head[:8], self.order)
            sums = _summed((sums[0], sums[1]), self.data[at : start + size], self.order)
            if head[8:16] != self.salts or sums != struct.unpack(">2I", head[16:24]):
                break
            number, database_size = struct.unpack(">2I", head[:8])
            frames.append((number, database_size, at))
        return frames


def _summed(sums: tuple[int, int], data: bytes, order: str) -> tuple[int, int]:
    """Continue SQLite's checksum of a log over `data`, a multiple of 8 bytes."""
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for one, other in zip(words, words, strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def _head(path: Path, size: int | None) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(-1 if size is None else size)
    except FileNotFoundError:
        return b""


def _generation(header: bytes) -> int:
    (found,) = struct.unpack(">i", header[60:64])
    return int(found)


def _store(header: bytes) -> int:
    (found,) = struct.unpack(">i", header[68:72])
    return int(found)
