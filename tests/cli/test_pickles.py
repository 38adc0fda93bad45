"""No command loads a pickle but the one that runs the flow."""

from __future__ import annotations

from .conftest import Kitaru

# A process that loads a `Marked` creates a file.
MARKING = """\
from pathlib import Path

from kitaru import checkpoint, flow


class Marked:
    def __reduce__(self):
        return mark, ()


def mark():
    Path("loaded.txt").touch()
    return Marked()


@checkpoint(pickle=True)
def make():
    return {"model": Marked(), "words": ("a",)}


@checkpoint
def use(made):
    return len(made)


@flow
def marking():
    made = make()
    use(made)
    return made
"""


def test_no_command_loads_a_pickle(kitaru: Kitaru) -> None:
    kitaru.write("marking.py", MARKING)
    marker = kitaru.folder / "loaded.txt"
    ran = kitaru("run", "marking.py", "--json")
    exec_id = ran.document["exec_id"]
    assert ran.document["result"] == {"model": "<pickle of marking.Marked>", "words": ["a"]}
    assert marker.exists()
    marker.unlink()
    commands = [
        ("executions", "list", "--json"),
        ("executions", "get", exec_id),
        ("executions", "get", exec_id, "--json"),
        ("executions", "logs", exec_id),
        ("executions", "diff", exec_id, exec_id, "--json"),
        ("artifacts", "list", exec_id, "--json"),
        ("artifacts", "get", exec_id, "make"),
        ("artifacts", "get", exec_id, "make", "--json"),
        ("store", "gc", "--older-than", "0d", "--dry-run", "--json"),
        ("store", "gc", "--older-than", "0d", "--json"),
    ]
    for command, done in zip(commands, kitaru.each(commands), strict=True):
        assert done.code == 0, (command, done)
    assert not marker.exists()
