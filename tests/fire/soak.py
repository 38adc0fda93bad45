"""Kill processes at random moments, three at a time in one execution, for as long as requested.

`kills` kills one process at each store operation. Here the moments are those of a clock: in the
middle of a system call, of a commit of another process, or of an import. All processes of a round
are dead before the next round starts. What was recorded by then must stay, and its code must not
run again. The last round of an execution is not disturbed, and must complete.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from .kills import DRIVE, FLOW, RESULT, Place, Tally, called, forget

PROCESSES, ROUNDS = 3, 3


def soak(place: Place, seconds: float, seed: int) -> Tally:
    """Kill processes of one execution after the other until `seconds` have passed."""
    tally, chance = Tally(), random.Random(seed)
    until, number, longest = time.monotonic() + seconds, 0, 1.0
    while time.monotonic() < until:
        number += 1
        longest = _soak_one(place, f"soak-{number}", chance, tally, longest)
    return tally


def _soak_one(
    place: Place, name: str, chance: random.Random, tally: Tally, longest: float
) -> float:
    """Run one execution; return the seconds of its undisturbed round, to aim the next kills."""
    url, folder = place.url.format(name), place.folder / name
    folder.mkdir()
    (folder / "killed_flow.py").write_text(FLOW)
    for round in range(ROUNDS):
        ended = [
            _killed(running, chance.uniform(0, longest))
            for running in [_started(place, folder, url) for _ in range(PROCESSES)]
        ]
        tally.kills += ended.count(-9)
        before, calls = place.seen(url), called(folder)
        started = time.monotonic()
        if round == ROUNDS - 1:
            code = _started(place, folder, url).wait()
            longest = time.monotonic() - started
            tally.completed += code == 0
            if code:
                tally.problems.append((name, f"{code}: {(folder / 'log.txt').read_text()[-3000:]}"))
        else:
            _killed(_started(place, folder, url), chance.uniform(0, longest))
        after = place.seen(url)
        tally.add(before, after, called(folder) - calls, name)
    forget(url, after[0])
    return longest


def _started(place: Place, folder: Path, url: str) -> subprocess.Popen[bytes]:
    code = DRIVE.format(environment=place.environment, url=url, result=RESULT)
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-c", code], cwd=folder, stdout=log, stderr=log,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip


def _killed(running: subprocess.Popen[bytes], after: float) -> int:
    """Kill a process after some seconds; return its exit code, which another end may decide."""
    try:
        return running.wait(after)
    except subprocess.TimeoutExpired:
        running.kill()
        return running.wait()
