"""Kill a real process at a store operation of a flow of 20 checkpoints; another one resumes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kitaru import KitaruClient
from kitaru.errors import NotFound
from kitaru.stores import open_store
from tests.step.build import zygote

from .explore import as_store, is_outdated, unlisted
from .faults import look

FLOW = """\
import os

import kitaru
from kitaru import checkpoint, flow, memory


def called(id):
    file = os.open("calls.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{id}\\n".encode())
    os.close(file)


@checkpoint
def step(n: int) -> list:
    called("step" if n == 1 else f"step_{n}")
    return [n, "large" * 20_000 if n % 4 == 0 else ""]


@checkpoint
def part(n: int) -> int:
    called("part" if n == 1 else f"part_{n}")
    return n * n


@flow
def twenty() -> int:
    total = sum(step(n)[0] for n in range(1, 7))
    memory.set("total", total)
    futures = [part.submit(n) for n in range(1, 9)]
    total += sum(future.result() for future in futures)
    if not kitaru.wait(name="ok", schema=bool):
        return -1
    memory.set("total", total, expect=1)
    return sum((step(n)[0] for n in range(7, 13)), memory.get("total"))
"""
RESULT = sum(range(1, 13)) + sum(n * n for n in range(1, 9))
DRIVE = """\
import os
os.environ.update({environment!r})
import sys
sys.modules.pop("killed_flow", None)
import killed_flow
from kitaru import KitaruClient
handle = killed_flow.twenty.options(store={url!r}, exec_id="e1").run()
if handle.settle() == "waiting":
    handle = KitaruClient({url!r}).executions.input("e1", True, "ok")
assert handle.wait() == {result}
"""


# All objects, and the recorded invocations.
Seen = tuple[dict[str, bytes], set[str]]


@dataclass
class Tally:
    """The results of kills; all except `kills` and `completed` must stay 0."""

    kills: int = 0
    completed: int = 0
    lost: int = 0
    changed: int = 0
    called_again: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, before: Seen, after: Seen, ran: Counter[str], at: str) -> None:
        """Compare the state after a kill with the end, and with the calls in between."""
        gone = before[0].keys() - after[0].keys()
        lost = {key for key in gone if not is_outdated(key, after[0])}
        lost.update(f"the hint of {key}" for key in (*unlisted(before[0]), *unlisted(after[0])))
        changed = {key for key in before[0].keys() - gone if before[0][key] != after[0][key]}
        again = {id for id in before[1] if ran[id]}
        self.lost += len(lost)
        self.changed += len(changed)
        self.called_again += len(again)
        if lost or changed or again:
            self.problems.append((at, f"lost {lost}, changed {changed}, called again {again}"))

    def __bool__(self) -> bool:
        return self.completed == self.kills > 0 and not self.problems


@dataclass(frozen=True)
class Place:
    """Where processes run, and the store's URL for each run with its environment."""

    folder: Path
    url: str
    environment: dict[str, str] = field(default_factory=dict)

    def kill(self, moment: str, at: int, tally: Tally) -> bool:
        """Kill a process at an operation, and resume. Return False if it ended before."""
        url = self.url.format(f"{moment}-{at}")
        folder = self.folder / f"{moment}-{at}"
        folder.mkdir()
        (folder / "killed_flow.py").write_text(FLOW)
        code = self._run(folder, url, f"{moment}:{at}")
        if code == 0:
            return False
        tally.kills += 1
        before = self.seen(url)
        calls = called(folder)
        again = self._run(folder, url, "")
        if code != -9 or again:
            tally.problems.append((f"{moment}:{at}", f"{code}, {again}: {log(folder)}"))
            return True
        tally.completed += 1
        after = self.seen(url)
        tally.add(before, after, called(folder) - calls, f"{moment}:{at}")
        forget(url, after[0])
        return True

    def _run(self, folder: Path, url: str, kill: str) -> int:
        code = DRIVE.format(environment=self.environment, url=url, result=RESULT)
        return zygote(str(folder), str(folder / "log.txt"), kill, code)

    def seen(self, url: str) -> Seen:
        """Return the content of a store, verified, and the ids of the recorded invocations."""
        store = open_store(url)
        seen = look(store)
        store.close()
        try:
            view = KitaruClient(as_store(seen)).executions.get("e1")
        except NotFound:
            return seen, set()
        return seen, {record.id for record in view.invocations}


def forget(url: str, keys: Collection[str]) -> None:
    """Empty a store: some servers scan all their data for every list."""
    store = open_store(url)
    store.delete(*keys)
    store.close()


def called(folder: Path) -> Counter[str]:
    path = folder / "calls.txt"
    return Counter(path.read_text().split() if path.exists() else [])


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text()[-2000:]


Moment = tuple[str, int]


def kill_all(place: Place, moments: Iterable[Moment]) -> Tally:
    """Kill at one moment after the other, until a process ends before the kill."""
    tally = Tally()
    for moment, at in moments:
        if not place.kill(moment, at, tally) and moment == "after":
            break
    return tally


def moments(first: int = 1, each: int = 1) -> Iterator[Moment]:
    """Yield every `each`th operation from `first` on, before it and after it."""
    for at in itertools.count(first, each):
        yield "before", at
        yield "after", at
