"""Random flows have the same result when their process is killed at every record and resumed.

Each program runs twice, in processes forked from this one: once undisturbed, and once so that every
process dies at the first invocation it records, in turn just before and just after the record is
durable, until nothing is left to record.
"""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings

from kitaru.client import KitaruClient
from kitaru.errors import NotFound
from kitaru.stores.sqlite import SqliteStore
from kitaru.wire.ids import idempotency_key
from tests.differential.programs import OTHER, PRELUDE, programs
from tests.differential.real import TRACE, loaded
from tests.differential.test_real_runs import INPUTS, answer
from tests.waiting import attempts

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("KITARU_KILL_EXAMPLES", "16"))
EXEC = "killed"
MAIN = ("ca(x=0)", "cb(x=0, y=1)", "cc(x=0)", "boom(x=0)")
BESIDE = ("oa(x=0)", "ob(x=0, y=1)")
CALLEES = ("program.ca", "program.cb", "program.cc", "program.boom", "other.oa", "other.ob")
# Said first by each checkpoint's function.
TELL = 'trace("ran " + kitaru.idempotency_key());'
SIDE_BY_SIDE = re.compile(r"\.(submit|map|product)\(")
Moment = Literal["never", "before", "after"]
# Failures that the flow catches, with every kind of operation after them.
CAUGHT = """
@flow
def main(a=1, xs=()):
    for round in range(3):
        try:
            d = boom(round)
        except ValueError as error:
            d = ca(str(error))
        finally:
            cb(round)
        try:
            boom(len(d))
        except ValueError:
            pass
        if kitaru.wait(name="ok"):
            try:
                boom()
            except ValueError as error:
                d = str(error)
    return d, cc(d)
"""


@dataclass
class Ended:
    """What an execution left behind, and how often each checkpoint's function ran, by its key."""

    status: str
    result: Any
    error: tuple[str, str] | None
    invocations: list[list[str]]
    ran: Counter[str]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)
@example(source=PRELUDE + CAUGHT)
@given(source=programs())
def test_a_killed_run_goes_on_as_if_nothing_had_happened(folder: Path, source: str) -> None:
    try:
        compile(source, "program", "exec")
    except SyntaxError:
        assume(False)
    check_killed(Path(tempfile.mkdtemp(dir=folder)), source)


def check_killed(
    here: Path, source: str, other: str = OTHER, *, is_concurrent: bool = False
) -> None:
    """Run a program in folder `here` undisturbed, then killed at every record, and compare.

    `is_concurrent`: calls may run side by side.
    """
    shown = source.partition("def pick")[2]
    path = here / "program.py"
    path.write_text(_telling(source, MAIN) + TRACE, encoding="utf-8")
    beside = "import kitaru\n" + _telling(other, BESIDE)
    (here / "other.py").write_text(beside + TRACE, encoding="utf-8")
    undisturbed = here / "undisturbed"
    assert _run(path, undisturbed, "never") == 0, shown
    expected = _ended(undisturbed)

    killed, repeated, ran = here / "killed", 0, Counter[str]()
    for moment in cycle(("before", "after")):
        recorded = _recorded(killed)
        code = _run(path, killed, moment)
        now = _ran(killed) - ran
        assert not recorded & now.keys(), shown
        # A process makes a call exactly when Python does, and never to check whether it was made.
        assert now <= expected.ran, shown
        ran += now
        if code == 0:
            break
        assert code == -signal.SIGKILL, shown
        repeated += moment == "before" and _was_checkpoint(killed)
    found = _ended(killed)
    assert found.ran >= expected.ran, shown
    # Of calls that run side by side, others than the one that was recorded may be lost.
    if is_concurrent and expected.status != "completed":
        # The calls beside the one that failed may be recorded or cancelled.
        found.invocations = expected.invocations
    if not is_concurrent and not SIDE_BY_SIDE.search(source):
        assert found.ran.total() == expected.ran.total() + repeated, shown
    found.ran = expected.ran
    assert found == expected, shown


def _telling(source: str, checkpoints: tuple[str, ...]) -> str:
    """Return the source with every checkpoint saying that its function runs."""
    for name in checkpoints:
        assert f"def {name}:" in source
        source = source.replace(f"def {name}:", f"def {name}: {TELL}")
    return source.replace(f"{TELL}\n    ", f"{TELL} ")


def _was_checkpoint(home: Path) -> bool:
    """Return whether the record that the process died at was a checkpoint's."""
    line, _, _ = (home / "died").read_text().partition("\n")
    return json.loads(line)["body"]["callee"] in CALLEES


def _run(path: Path, home: Path, moment: Moment) -> int:
    """Run or resume the execution in a forked process. Return how that ended."""
    home.mkdir(exist_ok=True)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _arm(moment, home / "died")
            _to_the_end(path, home)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _to_the_end(path: Path, home: Path) -> None:
    os.environ["TRACE_OF_FLOW"] = str(home / "trace")
    url = f"sqlite:{home / 'kitaru.db'}"
    handle = loaded(path).main.options(store=url, exec_id=EXEC, cache=False).run(**INPUTS)
    client = KitaruClient(url)
    for _ in attempts():
        if handle.settle(60) != "waiting":
            break
        for wait in client.executions.get(EXEC).waits:
            client.executions.input(EXEC, answer(wait.name), wait=wait.name)


def _arm(moment: Moment, note: Path) -> None:
    """Make this process die at the first invocation that it records."""
    if moment == "never":
        return
    dying = threading.RLock()

    def around(method: Callable[..., Any], objects_of: Callable[..., Any]) -> Callable[..., Any]:
        def call(store: SqliteStore, *arguments: Any) -> Any:
            records = [v for k, v in objects_of(*arguments) if f"x/{EXEC}/inv/" in k]
            if not records:
                return method(store, *arguments)
            # Never let go: of threads that record at the same time, one says what it dies at.
            dying.acquire()
            note.write_bytes(records[0])
            if moment == "after":
                method(store, *arguments)
            os.kill(os.getpid(), signal.SIGKILL)

        return call

    create, create_all = SqliteStore.create, SqliteStore.create_all
    SqliteStore.create = around(create, lambda k, v: [(k, v)])  # type: ignore[method-assign]
    SqliteStore.create_all = around(create_all, lambda o: o)  # type: ignore[method-assign]


def _ended(home: Path) -> Ended:
    view = KitaruClient(f"sqlite:{home / 'kitaru.db'}").executions.get(EXEC)
    document = view.to_dict()
    error = document["error"]
    return Ended(
        status=document["status"],
        result=document["result"],
        error=error and (error["type"], error["message"]),
        invocations=sorted(
            [r.id, r.kind, r.callee, r.status, r.arguments_digest] for r in view.invocations
        ),
        ran=_ran(home),
    )


def _recorded(home: Path) -> set[str]:
    """Return the keys of the checkpoints that have a record."""
    if not (home / "kitaru.db").exists():
        return set()
    try:
        view = KitaruClient(f"sqlite:{home / 'kitaru.db'}").executions.get(EXEC)
    except NotFound:
        return set()
    return {idempotency_key(EXEC, record.id) for record in view.invocations}


def _ran(home: Path) -> Counter[str]:
    """Return how often each checkpoint's function was begun so far, by its key."""
    trace = home / "trace"
    return Counter(re.findall(r"'ran (\w+)'", trace.read_text() if trace.exists() else ""))
