"""Results, memories and artifacts that newer code reads, whose classes have changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.sdk.conftest import Script

SOURCE = """\
from dataclasses import dataclass, field

import kitaru
from kitaru import checkpoint, flow


@dataclass
class Brief:
    topic: str
    score: int = 0


@checkpoint
def research(topic: str) -> Brief:
    with open("calls.txt", "a") as file:
        file.write("research\\n")
    kitaru.save("notes", Brief(topic, 4))
    return Brief(topic, 3)


@checkpoint
def publish(brief: Brief) -> str:
    return f"{brief}"


@checkpoint
def read(exec_id: str) -> str:
    return f"{kitaru.load(exec_id, 'notes')}"


@flow
def report(topic: str) -> str:
    brief = research(topic)
    ok = kitaru.wait(name="ok")
    return publish(brief) if ok else "no"


@flow
def later(exec_id: str) -> str:
    return read(exec_id)
"""
START = "print(flows.report.options(exec_id='e1').run('owls').settle())"
ANSWER = """
try:
    handle = client.executions.input('e1', True)
    print(handle.wait())
except Exception as error:
    print(error)
"""
LOAD = """
try:
    print(flows.later.run('e1').wait())
except Exception as error:
    print(error)
"""
RENAMED = ("score: int = 0", "points: int = 0")
ADDED = ("score: int = 0", "score: int = 0\n    tags: list[str] = field(default_factory=list)")
MIGRATED = (
    "score: int = 0",
    "points: int = 0\n\n\n"
    "kitaru.migrate(Brief, lambda old: {'topic': old['topic'], 'points': old['score']})",
)


def started(script: Callable[[str], Script]) -> Script:
    flows = script(SOURCE)
    code, output, log = flows.run(START)
    assert (code, output) == (0, "waiting"), log
    return flows


def edit(flows: Script, change: tuple[str, str]) -> None:
    assert SOURCE.count(change[0]) == 1
    flows.file.write_text(SOURCE.replace(*change))


@pytest.mark.parametrize(
    ("change", "fields"),
    [(ADDED, "score={}, tags=[]"), (MIGRATED, "points={}")],
    ids=["added field", "migration"],
)
def test_resume_and_load(
    script: Callable[[str], Script], change: tuple[str, str], fields: str
) -> None:
    flows = started(script)
    edit(flows, change)
    code, output, log = flows.run(ANSWER + LOAD)
    assert code == 0, log
    assert output.splitlines() == [
        f"Brief(topic='owls', {fields.format(score)})" for score in (3, 4)
    ]
    assert flows.calls() == ["research"]


def test_resume_and_load_stop_at_a_renamed_field(script: Callable[[str], Script]) -> None:
    flows = started(script)
    edit(flows, RENAMED)
    code, output, log = flows.run(ANSWER + LOAD)
    assert code == 0, log
    misfit = (
        "a recorded flow_file.Brief does not fit its class, which has changed since: the record"
    )
    for what in ('The result of "research"', '"notes"'):
        assert f"{what} of execution e1 cannot be read: {misfit} has the field score" in output
    assert "kitaru.migrate(Brief, function)" in output
    # The record is intact: with the field restored, the execution continues from there.
    flows.file.write_text(SOURCE)
    code, output, log = flows.run("print(client.executions.retry('e1').wait())")
    assert (code, output) == (0, "Brief(topic='owls', score=3)"), log
    assert flows.calls() == ["research"]


def test_memory_of_a_renamed_file(script: Callable[[str], Script], tmp_path: Path) -> None:
    keep = "from kitaru import memory as m\n\n\ndef keep():\n    m.configure(scope='s')\n"
    flows = script(f"{SOURCE}\n\n{keep}    m.set('brief', Brief('owls', 3))\n")
    code, _, log = flows.run("flows.keep()")
    assert code == 0, log
    newer = Script(tmp_path / "newer_file.py", flows.store)
    flows.file.unlink()
    show = "    print(m.get('brief'))\n"
    newer.file.write_text(f"{SOURCE}\n\n{keep}{show}")
    code, _, log = newer.run("flows.keep()")
    assert code != 0 and 'kitaru.moved("flow_file:Brief", Brief)' in log
    newer.file.write_text(f"{SOURCE}\nkitaru.moved('flow_file:Brief', Brief)\n\n{keep}{show}")
    code, output, log = newer.run("flows.keep()")
    assert (code, output) == (0, "Brief(topic='owls', score=3)"), log
