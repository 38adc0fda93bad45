"""Resuming an execution starts containers for the remaining steps only."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from kitaru_targets.residual_build import remainder

from kitaru.client import KitaruClient
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store

from .conftest import REVIEW, Make
from .test_dry_run import Watched

# `fails` fails while the file is there; every call leaves a mark.
CHAIN = """
    from pathlib import Path
    import kitaru
    from kitaru import checkpoint, flow

    MARKS = Path({folder!r})

    def mark(name):
        with (MARKS / "marks").open("a") as file:
            file.write(name + " ")

    @checkpoint
    def first(n: int) -> list:
        mark("first")
        return [n]

    @checkpoint
    def fails(xs: list) -> list:
        mark("fails")
        if (MARKS / "broken").exists():
            raise ValueError("broken")
        return xs

    @checkpoint
    def left(xs: list) -> str:
        mark("left")
        return f"left {{xs}}"

    @checkpoint
    def right(xs: list) -> str:
        mark("right")
        return f"right {{xs}}"

    @checkpoint
    def last(text: str, same: bool) -> str:
        mark("last")
        return f"{{text}} {{same}}"

    @flow
    def chain(n: int) -> str:
        xs = first(n)
        ys = xs
        zs = fails(xs)
        if n > 2:
            way = kitaru.wait(name="way", schema=str)
            if way == "left":
                text = left(zs)
            else:
                text = right(zs)
        else:
            text = "none"
        ys.append(1)
        return last(text, xs is ys and xs == [n, 1])
"""


@pytest.fixture
def run(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


@pytest.mark.parametrize("target", ["kubeflow", "vertex"])
def test_only_what_is_left_starts(make: Make, run: Watched, tmp_path: Path, target: str) -> None:
    build = make(CHAIN.format(folder=str(tmp_path)), target)
    (tmp_path / "broken").touch()
    failed = run(build, n=5)
    assert failed["status"] == "failed"
    assert [step for step, _ in run.steps] == ["first", "fails"]
    (tmp_path / "broken").unlink()
    waiting = run(build, {}, failed["exec_id"], n=5)
    assert waiting["status"] == "waiting"
    assert run.steps == [("fails", "waiting")]
    done = run(build, {"way": "right"}, failed["exec_id"], n=5)
    assert done["result"] == "right [5] True"
    assert [step for step, _ in run.steps] == ["way", "right", "last"]
    marks = (tmp_path / "marks").read_text().split()
    assert marks == ["first", "fails", "fails", "right", "last"]


def test_the_rest_asks_for_no_inputs_and_knows_its_execution(
    make: Make, run: Watched, tmp_path: Path
) -> None:
    build = make(REVIEW, "vertex")
    exec_id = run(build, topic="owls")["exec_id"]
    store = open_store(run.url)
    rest = remainder(build, Journal.open(store, exec_id), tmp_path / "rest")
    store.close()
    document = yaml.safe_load(rest.document.read_text())
    parameters = document["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {"kitaru_execution", "kitaru_store"}
    assert parameters["kitaru_execution"]["defaultValue"] == exec_id
    assert list(document["root"]["dag"]["tasks"]) == ["publish"]


def test_another_compilation_begins_again_with_what_is_recorded(make: Make, run: Watched) -> None:
    exec_id = run(make(REVIEW), topic="owls")["exec_id"]
    changed = make(REVIEW.replace('"rejected"', '"refused"'), out="changed")
    waiting = run(changed, {}, exec_id)
    assert (waiting["status"], run.steps) == ("waiting", [("draft", "waiting")])
    done = run(changed, {"approve": False}, exec_id)
    assert done["result"] == "refused"
    assert run.steps == [("publish", "end")], "its own frames count"
    records = KitaruClient(run.url).executions.get(exec_id).invocations
    assert [r.id for r in records] == ["draft", "approve"]
