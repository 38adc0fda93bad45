"""Damages every part of a SQLite store, one fault each, and lets another process continue from it.

    python -m tests.stores.damaging [--count N] [--first N] [--scratch FOLDER] [--large] [--told]

An execution has recorded its checkpoints and waits. Its files are copied, a fault is put into one
of them, and the execution is answered. What may follow:

    unharmed    it completes with the same result, and nothing that was recorded ran again
    told        a KitaruError of exit code 3; nothing that was recorded ran

Anything else is a violation: a repeat, another result, "no such execution", an exception that is no
KitaruError, an execution that does not end.

A killed store is one whose process had no time to close it: its log contains everything. A stopped
one has no log any more.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import kitaru
from kitaru import checkpoint, flow
from kitaru.client import KitaruClient
from kitaru.errors import KitaruError, WaitTimeout
from kitaru.runtime.engine import exit_report
from kitaru.runtime.engine.local_run import LocalRun
from kitaru.stores import sqlite, sqlite_damage
from kitaru.stores.sqlite import SqliteStore

RECORDED, STEPS = 24, 26
EXEC = "damaged-1"
PAGE, SECTOR, BLOCK = 1024, 512, 4096
# The types of pages in an index, and of those that lead to the leaves of a table.
_LEADING = (2, 10, 5)

calls: Counter[int] = Counter()


@checkpoint(cache=False)
def step(number: int) -> list[object]:
    calls[number] += 1
    return [number, "x" * (90_000 if number == 7 else 40 * number)]


@flow(cache=False)
def chain() -> list[object]:
    results = [step(number) for number in range(RECORDED)]
    kitaru.memory.set("seen", len(results))
    if kitaru.wait(name="ok", schema=bool):
        results += [step(number) for number in range(RECORDED, STEPS)]
    return [kitaru.memory.get("seen"), *([one[0], len(str(one[1]))] for one in results)]


EXPECTED = [RECORDED, *([n, 90_000 if n == 7 else 40 * n] for n in range(STEPS))]


@dataclass(frozen=True)
class Stored:
    """The files of a store by suffix, and its database as it was some commits earlier."""

    files: dict[str, bytes]
    earlier: bytes

    def put(self, folder: Path) -> Path:
        for suffix, data in self.files.items():
            (folder / f"k.db{suffix}").write_bytes(data)
        return folder / "k.db"


def stored(folder: Path, *, killed: bool) -> Stored:
    """Run the flow to its wait, and return what is on the disk then."""
    path = folder / "k.db"
    store = SqliteStore(path)
    for number in range(60):
        store.create(f"memory/namespace/other/key/k{number:03}/version/99999998", b"v" * 300)
    # Pages that are free again.
    store.delete(
        *(f"memory/namespace/other/key/k{number:03}/version/99999998" for number in range(20))
    )
    store.flush()
    earlier = path.read_bytes()
    seconds = 1e9 if killed else sqlite._LOG_SECONDS
    with (
        patch.object(sqlite, "_LOG_SECONDS", seconds),
        patch.object(SqliteStore, "flush", _nothing),
        # At the end of this process, the store of the execution is closed and its file is gone.
        patch.object(exit_report, "watch", _nothing_watched),
    ):
        handle = chain.options(store=store, exec_id=EXEC).run()
        assert handle.settle(60) == "waiting"
    if not killed:
        store.close()
    files = {
        s: found.read_bytes()
        for s in ("", "-wal", "-shm")
        if (found := folder / f"k.db{s}").exists()
    }
    assert killed == (len(files) == 3)
    store.close()
    return Stored(files, earlier)


def _nothing_watched(run: LocalRun, module: str) -> None:
    """Stands in for the report of the executions that a script leaves."""


def _nothing(self: SqliteStore) -> None:
    """A process that is killed does not rest."""


Damage = Callable[[random.Random, Stored, bytearray, str], str]


def _place(chance: random.Random, data: bytearray) -> int:
    """Choose a byte: half of all anywhere, else in the pages that lead to records, or the first."""
    if data[:6] != b"SQLite" or chance.random() < 0.5:
        return chance.randrange(len(data))
    inner = [at for at in range(PAGE, len(data), PAGE) if data[at] in _LEADING]
    page = chance.choice([0, *inner]) if chance.random() < 0.9 else 0
    return page + chance.randrange(PAGE)


def flip(chance: random.Random, _: Stored, data: bytearray, file: str) -> str:
    at, bit = _place(chance, data), chance.randrange(8)
    data[at] ^= 1 << bit
    return f"bit {bit} of byte {at}"


def _sector(
    fill: Callable[[random.Random, Stored, bytearray, int, int], bytes], size: int
) -> Damage:
    def damage(chance: random.Random, stored: Stored, data: bytearray, file: str) -> str:
        at = _place(chance, data) // size * size
        length = min(size, len(data) - at)
        data[at : at + length] = fill(chance, stored, data, at, length)[:length].ljust(
            length, b"\0"
        )
        return f"{length} bytes at {at}"

    return damage


def _zeros(chance: random.Random, stored: Stored, data: bytearray, at: int, size: int) -> bytes:
    return bytes(size)


def _noise(chance: random.Random, stored: Stored, data: bytearray, at: int, size: int) -> bytes:
    return chance.randbytes(size)


def _another(chance: random.Random, stored: Stored, data: bytearray, at: int, size: int) -> bytes:
    other = chance.randrange(max(1, len(data) // size)) * size
    return bytes(data[other : other + size])


def _earlier(chance: random.Random, stored: Stored, data: bytearray, at: int, size: int) -> bytes:
    return stored.earlier[at : at + size] or bytes(data[at : at + size])


def shorten(chance: random.Random, _: Stored, data: bytearray, file: str) -> str:
    del data[chance.randrange(len(data)) :]
    return f"shortened to {len(data)}"


KINDS: dict[str, Damage] = {
    "bit": flip,
    "sector zeroed": _sector(_zeros, SECTOR),
    "sector of noise": _sector(_noise, SECTOR),
    "sector of another place": _sector(_another, SECTOR),
    "sector not written": _sector(_earlier, SECTOR),
    "page of another place": _sector(_another, PAGE),
    "page not written": _sector(_earlier, PAGE),
    "block zeroed": _sector(_zeros, BLOCK),
    "block of another place": _sector(_another, BLOCK),
    "block not written": _sector(_earlier, BLOCK),
    "shortened": shorten,
}
# Bits are most of what is tried: each other kind is one in twenty.
WEIGHTS = [10] + [1] * (len(KINDS) - 1)


@dataclass(frozen=True)
class Outcome:
    """What followed from one fault; `violation` is empty where that was allowed."""

    fault: str
    what: str
    violation: str = ""


def outcome(folder: Path, stored: Stored, number: int, *, killed: bool, blocks: bool) -> Outcome:
    """Put the fault of that number into a copy of the store, and continue the execution."""
    chance = random.Random(f"{killed} {number}")
    path = stored.put(folder)
    # Most bytes are in the largest file, and each of them counts the same.
    file = chance.choices([*stored.files], [len(data) for data in stored.files.values()])[0]
    (kind,) = chance.choices([*KINDS], WEIGHTS)
    kind = kind if blocks else kind.replace("block", "page").replace("page zeroed", "sector zeroed")
    data = bytearray(stored.files[file])
    fault = f"{kind} in k.db{file}: {KINDS[kind](chance, stored, data, file)}"
    (folder / f"k.db{file}").write_bytes(data)
    return Outcome(fault, *_continued(path))


def _continued(path: Path) -> tuple[str, str]:
    calls.clear()
    client = None
    try:
        client = KitaruClient(f"sqlite:{path}")
        handle = client.executions.input(EXEC, True)
        handle.settle(60)
        result = handle.get()
    except KitaruError as error:
        told = f"told: {error.message}"
        if error.exit_code != 3 or isinstance(error, WaitTimeout):
            return told, f"{type(error).__name__} with exit code {error.exit_code}: {error.message}"
        return told, _repeated()
    except Exception as error:
        return "raised", f"{type(error).__name__}: {error}"
    finally:
        if client is not None:
            client.store.close()
    if result != EXPECTED:
        return "changed", f"another result: {str(result)[:200]}"
    return "unharmed", _repeated()


def _repeated() -> str:
    again = sorted(number for number in calls if number < RECORDED)
    return f"ran again: {again}" if again else ""


def tried(scratch: Path, numbers: range, *, killed: bool, blocks: bool = True) -> Iterator[Outcome]:
    """Yield what follows from the faults of these numbers.

    `blocks` says whether a fault may be as large as four pages, so that it meets both indexes at
    once: only a look at the whole database notices each of those.
    """
    original = scratch / "original"
    original.mkdir()
    source = stored(original, killed=killed)
    for number in numbers:
        folder = scratch / "damaged"
        folder.mkdir()
        # Nobody else writes, so that nothing is to be waited for before the next look.
        with patch.object(sqlite_damage, "_PAUSE_SECONDS", 0):
            found = outcome(folder, source, number, killed=killed, blocks=blocks)
        yield found
        shutil.rmtree(folder)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--scratch", type=Path)
    parser.add_argument("--told", action="store_true", help="Print how often each thing was told.")
    parser.add_argument("--large", action="store_true", help="Take the store for a large one.")
    asked = parser.parse_args()
    if asked.large:
        sqlite._WHOLE_BYTES = 0
    violations = 0
    for killed in (False, True):
        with tempfile.TemporaryDirectory(dir=asked.scratch) as folder:
            found: Counter[str] = Counter()
            numbers = range(asked.first, asked.first + asked.count)
            for number, one in zip(
                numbers,
                tried(Path(folder), numbers, killed=killed, blocks=not asked.large),
                strict=True,
            ):
                found["violation" if one.violation else one.what.partition(":")[0]] += 1
                if one.violation:
                    violations += 1
                    say(f"{number} killed={killed} {one.fault}\n    {one.violation}")
                elif asked.told:
                    say(f"{number} {one.fault}\n    {one.what}")
            say(f"{'killed' if killed else 'stopped'} {asked.count} {dict(found)}")
    sys.exit(1 if violations else 0)


if __name__ == "__main__":
    main()
