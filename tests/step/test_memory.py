"""A step that uses memory, killed at every store operation: each version is written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kitaru import KitaruClient
from tests.step.build import Program, block, step

SOURCE = """\
from pathlib import Path

from kitaru import checkpoint, flow, memory


@checkpoint
def add(value):
    with Path("calls.txt").open("a") as file:
        file.write("add\\n")
    return value + 1


@flow
def the_flow(topic: str):
    seen = memory.get("count", 0)
    value = add(seen)
    memory.set("count", value)
    memory.set(topic, "large" * 20_000)
    return [seen, value, memory.list()]
"""

STEPS = """\
def start(frame):
    topic = frame["topic"]
    seen = memory.get("count", 0)
    return "add", locals()


def add(frame):
    topic = frame["topic"]
    seen = frame["seen"]
    value = add(seen)
    return "memory_set", locals()


def memory_set(frame):
    topic = frame["topic"]
    seen = frame["seen"]
    value = frame["value"]
    memory.set("count", value)
    memory.set(topic, "large" * 20_000)
    return None, [seen, value, memory.list()]
"""


def make(folder: Path) -> Program:
    blocks = (
        block("start", "memory", ("add",), ("topic",)),
        block("add", "checkpoint", ("memory_set",), ("topic", "seen")),
        block("memory_set", "memory", (None,), ("topic", "seen", "value")),
    )
    steps = (step("start", "start"), step("add", "add", "memory_set"))
    return Program(folder, SOURCE, STEPS, blocks, steps)


@pytest.mark.parametrize("name", ["start", "add"])
def test_killed_at_every_store_operation(tmp_path: Path, name: str) -> None:
    for at in range(1, 200):
        program = make(tmp_path / str(at))
        if name == "add":
            assert program.run("start").code == 0
        killed = program.run(name, kill=f"after:{at}")
        assert killed.code in (0, -9)
        if killed.code == 0:
            break
        assert program.walk()[-1] == "add:end"
        client = KitaruClient(program.url)
        assert client.executions.get("e1").result == [0, 1, ["count", "kayaks"]]
        for key, writer in (("count", "memory_set"), ("kayaks", "memory_set_2")):
            versions = client.memory.history(key, scope="flow:the_flow")
            assert [v.operation for v in versions] == [f"e1/{writer}"], f"{key} at {at}"
        assert len(program.calls()) <= 2
    assert at > 8, "nothing was killed"
