"""A value whose parts occur 2**40 times is recorded, read, shown and compared in linear steps."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from kitaru.cli import app
from kitaru.client import KitaruClient
from kitaru.runtime import codec
from kitaru.runtime.journal.to_json import as_json

LEVELS = 40
MOST_SHOWN = 10 * 1024 * 1024
FLOW = """
from dataclasses import dataclass
from kitaru import checkpoint, flow

LEAF = "leaf"

@dataclass
class Pair:
    left: object
    right: object

@checkpoint
def make(kind: str):
    value = [LEAF]
    for _ in range(40):
        match kind:
            case "list":
                value = [value, value]
            case "dict":
                value = {"a": value, "b": value}
            case "tuple":
                value = (value, value)
            case "object":
                value = Pair(value, value)
    return value

@checkpoint
def parts(value, kind: str):
    return value

@flow
def sharing(kind: str):
    value = parts(make(kind), kind)
    if kind == "object":
        assert value.left is value.right and value.left.left is value.right.right
    else:
        first, second = value.values() if kind == "dict" else value
        assert first is second
    return value
"""


class Here:
    """Commands in this process, on a store and a flow of the test."""

    def __init__(self, folder: Path) -> None:
        # A module of its own: this process runs the flows of all tests.
        self.file = folder / f"{folder.name}.py"
        self.file.write_text(FLOW)
        self.url = f"sqlite:{folder / 'k.db'}"

    def __call__(self, *words: str, code: int = 0) -> str:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            ended = app.run([*words, "--store", self.url])
        assert ended == code, said.getvalue()[-2000:]
        assert len(said.getvalue()) < MOST_SHOWN
        return said.getvalue()

    def run(self, kind: str) -> str:
        for name in [n for n, m in sys.modules.items() if _is_of(m, self.file)]:
            del sys.modules[name]
        self("run", f"{self.file}:sharing", "--input", f"kind={kind}")
        return str(next(iter(KitaruClient(self.url).executions.list())).exec_id)


def _is_of(module: types.ModuleType, file: Path) -> bool:
    return getattr(module, "__file__", None) == str(file)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    return Here(tmp_path)


@pytest.mark.parametrize("kind", ["list", "dict", "tuple", "object"])
def test_an_execution_with_a_shared_value(here: Here, kind: str) -> None:
    first = here.run(kind)
    here.file.write_text(FLOW.replace('LEAF = "leaf"', 'LEAF = "other"'))
    second = here.run(kind)
    for exec_id in (first, second):
        here("executions", "get", exec_id)
        here("executions", "get", exec_id, "--json")
        here("artifacts", "list", exec_id)
        here("artifacts", "get", exec_id, "make", "--json")
    here("executions", "diff", first, second, code=1)
    here("executions", "diff", first, second, "--json", code=1)
    assert KitaruClient(here.url).executions.get(first).status == "completed"


def shared(levels: int) -> Any:
    value: Any = ["leaf"]
    for _ in range(levels):
        value = [value, value]
    return value


def test_what_is_shared_is_recorded_once_and_stays_shared() -> None:
    sizes = [len(json.dumps(codec.encode(shared(levels)))) for levels in (20, 40, 80)]
    assert sizes[2] - sizes[1] < 3 * (sizes[1] - sizes[0])
    back = codec.decode(codec.encode(shared(LEVELS)))
    for _ in range(LEVELS):
        assert back[0] is back[1]
        back = back[0]
    assert back == ["leaf"]


def test_what_is_not_shared_is_shown_whole() -> None:
    value = [[number, f"text {number}"] for number in range(10_000)]
    assert as_json(codec.encode((value, value))) == [value, value]


def test_every_part_is_shown_once() -> None:
    parts = [[f"part {number}", shared(30)] for number in range(5)]
    shown = as_json(codec.encode(parts))
    assert [part[0] for part in shown] == [f"part {number}" for number in range(5)]
    assert len(json.dumps(shown)) < MOST_SHOWN
