"""Simulate power losses of a process that records in SQLite, before each of its disk syncs.

`strace` records its writes and syncs. After a power loss, a file contains everything that was
written before its last sync. Each sector that was written later may or may not be there. A file
exists if its directory was synced after the file was created; otherwise it may exist.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from kitaru.stores import sqlite
from kitaru.stores.sqlite import SqliteStore

COUNT = 12
# The probability that a sector is lost, for each try.
LOST = (1.0, 0.0, 0.2, 0.5, 0.8)
_SECTOR = 512
# Small, so that the log is checkpointed into the file and restarted many times.
_LOG_BYTES = 20 * 1024
_TRACED = "openat,link,linkat,pwrite64,ftruncate,fsync,fdatasync,write"
_CALL = re.compile(r"(\w+)\((.*)\) += \d")
_TEXT = re.compile(r'[<"]((?:\\x[0-9a-f]{2})*)[>"]')


def value(number: int) -> bytes:
    return b"%d " % number * (1_500 if number % 3 else 10)


def record(path: str, synchronous: str) -> None:
    """Create one object after the other, and report each as durable."""
    store = SqliteStore(Path(path))
    sqlite._LOG_BYTES = _LOG_BYTES
    store._writer.execute(f"PRAGMA synchronous={synchronous}")
    for number in range(COUNT):
        assert store.create(f"k/{number:02}", value(number))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


@dataclass
class File:
    """The content of a file that is certainly on the disk, and the later writes with offsets."""

    certain: bytes = b""
    since: list[tuple[int, bytes]] = field(default_factory=list)
    named: bool = False

    def sync(self) -> None:
        self.certain, self.since = self._with(self.since), []

    def cut(self, size: int) -> None:
        """Reject a file that becomes smaller: stores only extend their files."""
        assert size >= len(self._with(self.since))

    def left(self, chance: random.Random, lost: float) -> bytes:
        """Return a possible content after a power loss."""
        sectors = [
            (at + start, data[start : start + _SECTOR])
            for at, data in self.since
            for start in range(0, len(data), _SECTOR)
        ]
        return self._with([one for one in sectors if chance.random() >= lost])

    def _with(self, writes: list[tuple[int, bytes]]) -> bytes:
        data = bytearray(self.certain)
        for at, new in writes:
            data.extend(bytes(max(0, at + len(new) - len(data))))
            data[at : at + len(new)] = new
        return bytes(data)


@dataclass
class Disk:
    """The disk after some calls, and the number of objects that were reported durable."""

    files: dict[Path, File] = field(default_factory=dict)
    said: int = 0

    def call(self, name: str, texts: list[bytes], number: int) -> None:
        file = self.files.get(Path(texts[0].decode()), File())
        path = Path(texts[-1].decode("latin-1"))
        match name:
            case "write":
                self.said += 1
            case "openat" if path.name.startswith((".kitaru.db", "kitaru.db")):
                self.files.setdefault(path, File())
            case "link" | "linkat":
                self.files[path] = File(file.certain, [*file.since])
            case "pwrite64":
                file.since.append((number, texts[-1]))
            case "ftruncate":
                file.cut(number)
            case _:
                file.sync()
                for other in self.files:
                    self.files[other].named |= other.parent == path

    def lose_power(self, folder: Path, chance: random.Random, lost: float) -> None:
        """Write a possible content of the files after a power loss into a folder."""
        for path, file in self.files.items():
            if file.named or chance.random() >= lost:
                (folder / path.name).write_bytes(file.left(chance, lost))


def disks(folder: Path, synchronous: str = "FULL") -> Iterator[Disk]:
    """Run a recording process, and yield its disk before each sync and after each report."""
    disk = Disk()
    for name, texts, number in _calls(folder, synchronous):
        if "sync" in name:
            yield disk
        disk.call(name, texts, number)
        if name == "write":
            yield disk


def _calls(folder: Path, synchronous: str) -> Iterator[tuple[str, list[bytes], int]]:
    """Yield the calls to the disk, and the reports in between: name, texts and last number."""
    trace, path = folder / "trace", str(folder / "kitaru.db")
    strace = ["strace", "-y", "-xx", "-s", "1000000", "-e", f"trace={_TRACED}", "-o", trace]
    program = f"from tests.fire.power import record; record({path!r}, {synchronous!r})"
    subprocess.run([*strace, sys.executable, "-c", program], check=True, stdout=subprocess.PIPE)
    for line in trace.read_text().splitlines():
        if not (found := _CALL.match(line)):
            continue
        texts = [bytes.fromhex(one.replace("\\x", "")) for one in _TEXT.findall(found[2])]
        ours = any(text.startswith(bytes(folder)) for text in texts)
        said = found[1] == "write" and texts[-1].strip().isdigit()
        if said or (ours and not any(text.endswith(b"-shm") for text in texts)):
            numbers = re.findall(r", (\d+)", _TEXT.sub("", found[2]))
            yield found[1], texts, int(numbers[-1]) if numbers else 0


def hold(folder: Path, said: int) -> None:
    """Assert that a later process finds all objects reported durable, and no damage."""
    with closing(SqliteStore(folder / "kitaru.db")) as store:
        ((sound,),) = store._read("PRAGMA integrity_check", ())
        assert sound == "ok", sound
        found = {key: store.get(key) for key in store.list("")}
        # The object in progress may exist: its absence was not reported.
        assert len(found) in (said, said + 1), f"I1: {said} were durable, {len(found)} are there"
        assert found == {f"k/{number:02}": value(number) for number in range(len(found))}
        assert store.create("after", b"1")
