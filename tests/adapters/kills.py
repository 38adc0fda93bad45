"""Kill flows of harnesses at each of their steps, and resume them.

    python -m tests.adapters.kills pydantic_ai_programs --programs tools --executions 3

For each step: run an execution until the step's body has begun, send SIGKILL some milliseconds
later, resume the execution to its end, and compare it with an undisturbed one:

- no call that had a record ran again;
- the result and the set of ids are the same;
- what the body saw before the kill, it saw again.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from kitaru.errors import StateError
from kitaru.runtime.engine.waits import answer
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from tests.asynchronous import programs
from tests.asynchronous.programs import Traces
from tests.asynchronous.stress import ids_of
from tests.waiting import wait_until

KILLS = int(os.environ.get("ADAPTER_KILLS") or 2)
"""At how many steps or calls the tests of an adapter kill each program and conversation.

    ADAPTER_KILLS=1000 python3 dev.py test tests/adapters      at each of them; takes minutes
"""
_HANGS_SECONDS = 240.0
_LATE_SECONDS = 0.03


class Ended:
    """How one process of an execution ended, and what it left."""

    def __init__(self, code: int, folder: Path, store: str, exec_id: str) -> None:
        self.code = code
        self.result = (folder / "result").read_text() if code == 0 else ""
        self.seen = (folder / "seen").read_text()
        self.ran = (folder / "ran").read_text().split()
        self.log = (folder / "log").read_text()
        self.ids = ids_of(store, exec_id)


def run(module: ModuleType, name: str, exec_id: str, folder: Path, kill_at: int = 0) -> Ended:
    """Run or resume an execution in a fork; kill it soon after its `kill_at`-th step began."""
    store = f"sqlite:{folder}/k.db"
    for trace in ("seen", "ran", "result", "log"):
        (folder / trace).write_text("")
    pid = os.fork()
    if pid == 0:
        _child(module, name, exec_id, store, folder, kill_at)
    until = time.monotonic() + _HANGS_SECONDS
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return Ended(os.waitstatus_to_exitcode(status), folder, store, exec_id)
        time.sleep(0.003)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError(f"{exec_id} hung: {(folder / 'log').read_text()[-3000:]}")


def _child(
    module: ModuleType, name: str, exec_id: str, store: str, folder: Path, kill_at: int
) -> None:
    code = 1
    try:
        programs.chance.seed(os.urandom(8))
        kind = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_APPEND
        Traces.seen, Traces.ran = (os.open(folder / one, kind) for one in ("seen", "ran"))
        os.dup2(os.open(folder / "log", kind), 2)
        if kill_at:
            threading.Thread(target=_killer, args=(folder / "ran", kill_at), daemon=True).start()
        if answers := getattr(module, "ANSWERS", None):
            target = (store, exec_id, answers)
            threading.Thread(target=_answer, args=target, daemon=True).start()
        flow, argument = module.PROGRAMS[name]
        value = flow.options(store=store, exec_id=exec_id).run(argument).wait()
        (folder / "result").write_text(json.dumps(value))
        code = 0
    except BaseException as error:
        os.write(2, f"{error!r} {getattr(error, 'help', '')}".encode())
    finally:
        os._exit(code)


def _killer(ran: Path, kill_at: int) -> None:
    wait_until(lambda: ran.read_text().count("\n") >= kill_at)
    time.sleep(random.random() * _LATE_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _answer(store: str, exec_id: str, answers: dict[str, Any]) -> None:
    """Answer each pending wait, in any order."""
    until = time.monotonic() + _HANGS_SECONDS
    while time.monotonic() < until:
        time.sleep(0.01)
        try:
            journal = Journal.open(open_store(store), exec_id)
            pending = journal.pending_waits()
            random.shuffle(pending)
            for request in pending:
                answer(journal, request, answers[request.name])
        except (StateError, LookupError, OSError):
            # The execution is not there yet.
            continue


def check_each_step(
    module: ModuleType,
    name: str,
    folder: Path,
    *,
    most: int = 1 << 30,
    chance: random.Random | None = None,
    report: Callable[[str], object] = lambda _: None,
) -> tuple[int, int]:
    """Kill executions at each of their steps, at most at `most`, and check what follows.

    Return the numbers of executions and of kills.
    """
    folder.mkdir()
    whole = run(module, name, "whole", folder)
    assert whole.code == 0, whole.log[-5000:]
    steps = list(range(1, len(whole.ran) + 1))
    if len(steps) > most:
        steps = sorted((chance or random.Random(1)).sample(steps, most))
    kills = 0
    for step in steps:
        exec_id = f"killed-{step}"
        first = run(module, name, exec_id, folder, step)
        kills += first.code == -signal.SIGKILL
        assert first.code in (0, -signal.SIGKILL), first.log[-5000:]
        last = run(module, name, exec_id, folder)
        assert last.code == 0, f"killed at step {step}: {last.log[-5000:]}"
        again = first.ids & set(last.ran)
        assert not again, f"killed at step {step}, ran again: {again}"
        assert last.ids == whole.ids, f"killed at step {step}: {last.ids ^ whole.ids}"
        assert last.result == whole.result, f"{last.result} is not {whole.result}"
        before = first.seen[: first.seen.rfind("\n") + 1]
        # The body of an execution that had ended before the kill does not run again.
        assert not last.seen or last.seen.startswith(before), (before, last.seen)
        report(f"{name}: step {step}: {len(first.ids)} records before the kill")
    return len(steps) + 1, kills


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("module", help="a module of tests.adapters with PROGRAMS")
    parser.add_argument("--programs", nargs="*", help="default: all")
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    module = importlib.import_module(f"tests.adapters.{given.module}")
    sys.stdout.write("program                executions  kills\n")
    for name in given.programs or module.PROGRAMS:
        executions = kills = 0
        for _ in range(given.rounds):
            with tempfile.TemporaryDirectory() as folder:
                made, killed = check_each_step(module, name, Path(folder) / name)
            executions, kills = executions + made, kills + killed
        sys.stdout.write(f"{name:22} {executions:10}  {kills:5}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
