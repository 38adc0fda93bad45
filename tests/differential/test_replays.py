"""Random flows replayed from every invocation: without changes the same, and only the rest runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings

from kitaru import KitaruClient
from kitaru.handle import Handle
from kitaru.stores.memory import MemoryStore
from kitaru.wire.records import InvocationRecord
from tests.differential.programs import OTHER, programs
from tests.differential.real import loaded
from tests.waiting import attempts

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("KITARU_REPLAY_EXAMPLES", "24"))
INPUTS = {"a": 1, "xs": [3, 4]}
ANSWERS = {"ok": True, "no": False, "number": True}
# The maximum number of starts of one program, spread over it.
STARTS = 6
OWN_MEMORY = """
class own_memory:
    def __getattr__(self, name):
        return lambda *a, **k: getattr(kitaru.memory, name)(*a, **{**k, "scope": "execution"})

own_memory = own_memory()
"""
RAN: list[str] = []
TRACE = """
def trace(event):
    from tests.differential.test_replays import RAN
    RAN.append(event)
"""
WORK = {
    "def ca(x=0): return": "def ca(x=0): trace('ran'); return",
    "def cb(x=0, y=1): return": "def cb(x=0, y=1): trace('ran'); return",
    "def cc(x=0): return": "def cc(x=0): trace('ran'); return",
    "def oa(x=0): return": "def oa(x=0): trace('ran'); return",
    "def ob(x=0, y=1): return": "def ob(x=0, y=1): trace('ran'); return",
    "    raise ValueError(f": "    trace('ran'); raise ValueError(f",
}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(source=programs())
def test_from_every_invocation(folder: Path, source: str) -> None:
    try:
        compile(source, "program", "exec")
    except SyntaxError:
        assume(False)
    # What is remembered beyond an execution is as it is now, also for a replay.
    source = source.replace("kitaru.memory.", "own_memory.") + OWN_MEMORY
    program = Program(source, Path(tempfile.mkdtemp(dir=folder)))
    original = program.end(program.module().main.options(store=program.store).run(**INPUTS))
    calls = [record for record in original[1] if record.kind != "log"]
    for start in calls[:: max(1, len(calls) // STARTS)]:
        module = program.module()
        handle = module.main.replay(original[0], start=start.id, store=program.store)
        _, replayed, outcome = program.end(handle)
        shown = f"from {start.id}\n{source.partition('def pick')[2]}"
        assert outcome == original[2], shown
        assert list(map(same, replayed)) == list(map(same, original[1])), shown
        adopted = {record.id for record in replayed if record.adopted_from}
        before = {record.id for record in original[1] if record.position < start.position}
        assert adopted == before, shown
        assert program.ran == program.attempted(handle.exec_id), shown


def same(record: InvocationRecord) -> tuple[Any, ...]:
    """Return what must be equal of an invocation whenever the flow runs."""
    value: Any = record.value.digest if record.value else None
    if record.kind == "inbox" and record.value is not None:
        # It names the execution whose inbox was read.
        value = {**record.value.data, "execution": ""}
    return (
        record.id,
        record.position,
        record.callee,
        record.status,
        record.arguments_digest,
        value,
        record.failure,
        record.uses,
    )


class Program:
    """A flow in a file, whose module is new for each run, as in a process of its own."""

    def __init__(self, source: str, folder: Path) -> None:
        self.path = folder / f"program_{folder.name.replace('-', '_')}.py"
        other = OTHER
        for plain, traced in WORK.items():
            assert plain in source + other
            source, other = source.replace(plain, traced), other.replace(plain, traced)
        self.path.write_text(source + TRACE, encoding="utf-8")
        (folder / "other.py").write_text(other + TRACE, encoding="utf-8")
        self.store = MemoryStore(f"memory:{folder.name}")
        self.client = KitaruClient(self.store).executions

    def module(self) -> Any:
        """Return the module as a process of its own would have it, and forget what ran."""
        module = loaded(self.path)
        RAN.clear()
        return module

    @property
    def ran(self) -> int:
        return RAN.count("ran")

    def end(self, handle: Handle[Any]) -> tuple[str, list[InvocationRecord], tuple[Any, ...]]:
        """Answer whatever it waits for; return its id, its records and how it ended."""
        for _ in attempts():
            if handle.settle(60) != "waiting":
                break
            for wait in self.client.get(handle.exec_id).waits:
                name = wait.name.rstrip("0123456789").rstrip("_")
                self.client.input(handle.exec_id, ANSWERS[name], wait=wait.name)
        view = self.client.get(handle.exec_id)
        document = view.to_dict()
        error = document["error"] and (document["error"]["type"], document["error"]["message"])
        return handle.exec_id, view.invocations, (view.status, document["result"], error)

    def attempted(self, exec_id: str) -> int:
        """Return how often checkpoints ran, as the journal has it."""
        journal = self.client.get(exec_id).journal
        done = [r for r in journal.invocations() if r.kind == "checkpoint" and not r.adopted_from]
        return sum(r.status == "completed" for r in done) + len(journal.attempts())
