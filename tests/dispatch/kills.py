"""Real processes that are killed with SIGKILL: people, dispatchers, and processes of executions.

    python -m tests.dispatch.kills 200

Deploys a flow for target `local` and invokes it many times. Programs that invoke and answer, two
dispatchers and the processes of the executions are killed at random moments, N times in total.
Then one dispatcher does the rest.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kitaru.client import KitaruClient
from kitaru.errors import KitaruError
from kitaru.ops.dispatch import Dispatcher
from kitaru.runtime.journal import processes
from kitaru.stores import open_store
from kitaru.wire import keys
from tests.waiting import attempts

FLOW = """
import os
import time

import kitaru
from kitaru import checkpoint, flow


def note(what: str) -> None:
    with open({ran!r}, "a") as file:
        file.write(what + "\\n")


@checkpoint
def draft(number: int) -> int:
    time.sleep(0.5)
    return number


@checkpoint
def publish(number: int, answer: int) -> str:
    time.sleep(0.5)
    return f"{{number}}: {{answer}}"


@flow
def numbers(number: int) -> str:
    drafted = draft(number)
    answer = kitaru.wait(name="ok", schema=int, deadline=86400)
    kitaru.sleep(0.5)
    note(f"{{number}} {{os.environ.get('KITARU_ROUND')}} {{os.getpid()}}")
    return publish(drafted, answer)
"""
_LONGEST = 600.0
# Each sleep ends the process, and the dispatcher starts the next one.
_ENVIRONMENT = {**os.environ, "KITARU_SLEEP_IN_PROCESS": "0"}


@dataclass
class Outcome:
    """What became of the executions after the kills."""

    executions: int
    kills: Counter[str]
    wrong: list[str]
    twice: list[str]
    left: list[str]


def _person(url: str, first: int, count: int) -> None:
    """Invoke and answer executions until all have their answers; may be started again."""
    client = KitaruClient(url)
    for number in range(first, first + count):
        with suppress(KitaruError):
            client.deployments.invoke("numbers", {"number": number}, exec_id=f"e{number}")
    for number in range(first, first + count):
        for _ in attempts():
            with suppress(KitaruError):
                if client.executions.get(f"e{number}").waits:
                    client.executions.input(f"e{number}", 7 * number, submit=False)
                if client.executions.get(f"e{number}").answers:
                    break


def _dispatch(url: str) -> None:
    Dispatcher(open_store(url), processes=2).run()


def _deployed(folder: Path) -> str:
    url = f"sqlite:{folder / 'kitaru.db'}"
    (folder / "numbers_flow.py").write_text(FLOW.format(ran=str(folder / "ran.txt")))
    command = [sys.executable, "-m", "kitaru", "deploy", "numbers_flow.py", "--target", "local"]
    subprocess.run([*command, "--store", url], cwd=folder, check=True, capture_output=True)
    return url


def kill(kills: int, executions: int, folder: Path, seed: int = 0) -> Outcome:
    """Kill processes that many times while they work on executions; return what became of them."""
    chance, url = random.Random(seed), _deployed(folder)
    half = executions // 2
    roles = {
        "person 1": ("person", "0", str(half)),
        "person 2": ("person", str(half), str(executions - half)),
        "dispatcher 1": ("dispatch",),
        "dispatcher 2": ("dispatch",),
    }
    running: dict[str, subprocess.Popen[bytes]] = {}
    killed: Counter[str] = Counter()

    def start(role: str) -> None:
        kind, *more = roles[role]
        command = [sys.executable, "-m", "tests.dispatch.kills", kind, url, *more]
        running[role] = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=_ENVIRONMENT)

    store = open_store(url)
    for role in roles:
        start(role)
    end = time.monotonic() + _LONGEST
    while killed.total() < kills and time.monotonic() < end:
        # Longer than the start of most processes, so that they are killed at work as well.
        time.sleep(chance.uniform(0.1, 3.0))
        role = chance.choice([*roles, "execution"])
        if role == "execution":
            killed["execution"] += _kill_one(store, chance)
            continue
        if running[role].poll() is None:
            running[role].send_signal(signal.SIGKILL)
            running[role].wait()
            killed[role.partition(" ")[0]] += 1
        start(role)
    for role in ("dispatcher 1", "dispatcher 2"):
        running[role].kill()
        running[role].wait()
    _finish(store, [running["person 1"], running["person 2"]], roles, start, running, end)
    return _outcome(url, executions, killed, folder / "ran.txt")


def _kill_one(store: object, chance: random.Random) -> int:
    """Kill the process of an execution; return how many were killed."""
    found = [key for key in store.list("x/") if key.endswith("/taken")]  # type: ignore[attr-defined]
    tokens = [_token(store, key) for key in found]
    alive = [one for one in tokens if one and not processes.is_gone(one)]
    if not alive:
        return 0
    with suppress(ProcessLookupError):
        os.kill(int(chance.choice(alive).split("-")[3]), signal.SIGKILL)
        return 1
    return 0


def _token(store: object, key: str) -> str:
    from kitaru.wire.envelope import decode

    data = store.get(key)  # type: ignore[attr-defined]
    return "" if data is None else decode(key, data).run  # type: ignore[union-attr]


def _finish(store, people, roles, start, running, end) -> None:  # type: ignore[no-untyped-def]
    """Let the people finish, and dispatch until nothing is due."""
    del people
    dispatcher = Dispatcher(store, processes=2)
    try:
        while time.monotonic() < end:
            dispatcher._reconciled = None
            dispatcher.look()
            for role in ("person 1", "person 2"):
                if running[role].poll() not in (None, 0):
                    start(role)
            over = all(running[role].poll() == 0 for role in ("person 1", "person 2"))
            if over and not store.list(keys.DUE) and not store.list(keys.OPEN):
                return
            time.sleep(0.05)
    finally:
        dispatcher.close()
        for one in running.values():
            one.kill()
            one.wait()


def _outcome(url: str, executions: int, killed: Counter[str], ran: Path) -> Outcome:
    client, store, wrong = KitaruClient(url), open_store(url), list[str]()
    for number in range(executions):
        view = client.executions.get(f"e{number}")
        if view.status != "completed" or view.result != f"{number}: {7 * number}":
            wrong.append(f"e{number} {view.status}")
    # The body of a round that ran in two processes: a second one is superseded before its code.
    seen: dict[str, set[str]] = {}
    for line in ran.read_text().splitlines():
        number, round, pid = line.split()
        seen.setdefault(f"e{number} round {round}", set()).add(pid)
    twice = [place for place, pids in seen.items() if len(pids) > 1 and "None" not in place]
    left = [*store.list(keys.DUE), *store.list(keys.OPEN)]
    return Outcome(executions, killed, wrong, twice, left)


def main() -> int:
    kind, *rest = sys.argv[1:]
    if kind == "person":
        _person(rest[0], int(rest[1]), int(rest[2]))
        return 0
    if kind == "dispatch":
        _dispatch(rest[0])
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = kill(int(kind), max(8, int(kind) // 5), Path(folder))
    sys.stdout.write(
        f"{done.kills.total()} kills {dict(done.kills)}; {done.executions} executions, "
        f"{len(done.wrong)} wrong {done.wrong}, {len(done.twice)} rounds in two processes, "
        f"{len(done.left)} hints left {done.left[:5]}; {time.monotonic() - began:.0f} s\n"
    )
    return 1 if done.wrong or done.twice or done.left else 0


if __name__ == "__main__":
    sys.exit(main())
