"""A replay of an execution whose flow's source has changed since."""

from __future__ import annotations

from collections.abc import Callable

from tests.sdk.conftest import Script

SOURCE = """\
from pathlib import Path

from kitaru import checkpoint, flow


def note(name):
    with Path("calls.txt").open("a") as file:
        file.write(name + "\\n")


@checkpoint
def research(topic):
    note("research")
    return f"notes on {topic}"


@checkpoint
def draft(notes):
    note("draft")
    return f"draft of {notes}"


@checkpoint
def publish(text):
    note("publish")
    return f"published {text}"


@flow
def report(topic: str):
    notes = research(topic)
    text = draft(notes)
    return publish(text)
"""
REPLAY = """
from kitaru import errors
try:
    print(client.executions.replay("e1", start="publish").wait())
except errors.Diverged as error:
    print("diverged:", error)
"""


def replayed(script: Callable[[str], Script], *changes: tuple[str, str]) -> tuple[str, list[str]]:
    """Run the flow, change its source, replay it; return what that said, and what it called."""
    flows = script(SOURCE)
    code, _, log = flows.run("flows.report.options(exec_id='e1').run('owls').wait()")
    assert code == 0, log
    source = SOURCE
    for old, new in changes:
        assert source.count(old) == 1
        source = source.replace(old, new)
    called = len(flows.calls())
    code, said, log = script(source).run(REPLAY)
    assert code == 0, log
    return said, flows.calls()[called:]


def test_what_still_matches_is_adopted(script: Callable[[str], Script]) -> None:
    """Its own code may be another now: a replay runs again what it says, and nothing else."""
    change = ('return f"draft of {notes}"', 'return f"better draft of {notes}"')
    said, called = replayed(script, change, ('f"published', 'f"printed'))
    assert said == "printed draft of notes on owls"
    assert called == ["publish"]


def test_what_no_longer_matches_is_named(script: Callable[[str], Script]) -> None:
    said, called = replayed(script, ("text = draft(notes)", "text = draft(notes.upper())"))
    assert said.startswith('diverged: Non-deterministic replay at "draft"')
    assert "recorded at flow_file.py:32, now at flow_file.py:32" in said
    assert "--from draft" in said
    assert called == []
