"""Kill processes of async flows at random moments and resume them.

    python -m tests.asynchronous.stress --executions 200 --kills 5 --seed 1

For each execution: run it, kill its process after a random time, resume it, and so on; after the
last kill let it end. Then check:

- no recorded call ran again;
- what the body saw before a kill, it saw again, in the same order;
- no process failed, diverged or hung;
- programs whose path does not depend on the order have one set of ids.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from kitaru.errors import NotFound
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store

from . import harness_programs, programs
from .programs import Traces

PROGRAMS = programs.PROGRAMS | harness_programs.PROGRAMS

# No process of these programs takes longer than a second, unless the machine is very busy.
_HANGS_SECONDS = 240.0
# How long a process lives at most before it is killed. Most end in about this time.
_SPAN = 0.12


class Outcome:
    """What one execution showed."""

    def __init__(self) -> None:
        self.kills = 0
        self.problems: list[str] = []
        self.ids: frozenset[str] = frozenset()
        self.again = 0


def stress(
    name: str, number: int, seed: int, folder: Path, most_kills: int, span: float = _SPAN
) -> Outcome:
    """Run one execution with kills, and return what it showed.

    `span` is how long a process lives at most before it is killed, in seconds.
    """
    chance = random.Random(f"{name}/{number}/{seed}")
    outcome, seen, recorded, runs = Outcome(), "", set[str](), Counter[str]()
    store = f"sqlite:{folder}/k.db"
    for left in range(most_kills, -1, -1):
        life = chance.random() * span if left else None
        ended = run_process(name, f"{name}-{number}", store, folder, life)
        now, ran = (folder / "seen").read_text(), (folder / "ran").read_text().split()
        again = [id for id in ran if id in recorded]
        if again:
            outcome.problems.append(f"ran again: {again}")
        runs.update(ran)
        whole, before = now[: now.rfind("\n") + 1], seen[: seen.rfind("\n") + 1]
        # The body of an execution that had ended before the kill does not run again.
        is_over = ended == "ended" and not whole
        is_part = ended == "killed" and before.startswith(whole)
        if not (is_over or is_part or whole.startswith(before)):
            outcome.problems.append(f"saw {before!r}, then {whole!r}")
        seen = max(seen, now, key=len)
        recorded = ids_of(store, f"{name}-{number}")
        if ended != "killed":
            break
        outcome.kills += 1
    if ended != "ended":
        outcome.problems.append(f"{ended}: {(folder / 'log').read_text()[-2000:]}")
    outcome.ids = frozenset(recorded)
    outcome.again = sum(count - 1 for count in runs.values())
    return outcome


def run_process(name: str, exec_id: str, store: str, folder: Path, life: float | None) -> str:
    """Run or resume an execution in a fork; kill it after `life` seconds. Return how it ended."""
    for trace in ("seen", "ran"):
        # The process may be killed before it opens them.
        (folder / trace).write_text("")
    pid = os.fork()
    if pid == 0:
        _child(name, exec_id, store, folder, life)
    until = time.monotonic() + _HANGS_SECONDS
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return {0: "ended", -signal.SIGKILL: "killed"}.get(code, f"exit code {code}")
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


def _child(name: str, exec_id: str, store: str, folder: Path, life: float | None) -> None:
    code = 1
    try:
        programs.chance.seed(os.urandom(8))
        kind = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND
        Traces.seen, Traces.ran = (os.open(folder / one, kind) for one in ("seen", "ran"))
        os.dup2(os.open(folder / "log", kind), 2)
        if life is not None:
            threading.Thread(target=_killer, args=(life,), daemon=True).start()
        flow, argument = PROGRAMS[name]
        flow.options(store=store, exec_id=exec_id).run(argument).wait()
        code = 0
    except BaseException as error:
        os.write(2, f"{error!r} {getattr(error, 'help', '')}".encode())
    finally:
        os._exit(code)


def _killer(life: float) -> None:
    time.sleep(life)
    os.kill(os.getpid(), signal.SIGKILL)


def ids_of(url: str, exec_id: str) -> set[str]:
    """Return the ids of the recorded calls; empty if the execution was killed before it began."""
    try:
        return {one.id for one in Journal.open(open_store(url), exec_id).invocations()}
    except NotFound:
        return set()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=20, help="of each program")
    parser.add_argument("--kills", type=int, default=5, help="at most, of each execution")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--programs", nargs="*", default=list(PROGRAMS), choices=list(PROGRAMS))
    parser.add_argument("--span", type=float, default=_SPAN, help="of a process, in seconds")
    given = parser.parse_args()
    sys.stdout.write("program    executions  kills  wrong  id sets  in flight again\n")
    wrong = 0
    for name in given.programs:
        kills, again, bad, sets = 0, 0, 0, Counter[frozenset[str]]()
        for number in range(given.executions):
            with tempfile.TemporaryDirectory() as folder:
                found = stress(name, number, given.seed, Path(folder), given.kills, given.span)
            kills, again = kills + found.kills, again + found.again
            sets[found.ids] += 1
            bad += bool(found.problems)
            for problem in found.problems[:2]:
                sys.stderr.write(f"{name} {number}: {problem}\n")
        wrong += bad
        figures = f"{given.executions:10}  {kills:5}  {bad:5}  {len(sets):7}  {again:15}"
        sys.stdout.write(f"{name:10} {figures}\n")
        sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
