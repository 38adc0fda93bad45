"""A first step finds the flow's inputs wherever the orchestrator could carry them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kitaru.errors import EnvironmentFailure
from kitaru.runtime.__main__ import main
from kitaru.runtime.steps.inputs import InputSource
from kitaru.stores import Store, open_store
from kitaru.wire import keys
from kitaru.wire.canonical import sha256
from tests.step.programs import review


def stored(store: Store, texts: dict[str, str]) -> str:
    data = json.dumps(texts).encode()
    key = keys.inputs(sha256(data))
    store.create(key, data)
    return key


def test_the_environment_wins_over_arguments_and_the_store_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = review(tmp_path).plan(), open_store("memory:given")
    monkeypatch.setenv("IN_topic", "environment")
    monkeypatch.setenv("IN_other", "of somebody else")
    texts = {"topic": "argument"}
    assert InputSource(texts).read(plan, store) == texts
    assert InputSource(texts, "IN_").read(plan, store) == {"topic": "environment"}
    key = stored(store, {"topic": "store"})
    assert InputSource(texts, "IN_", key).read(plan, store) == {"topic": "store"}


@pytest.mark.parametrize("data", [None, b'{"topic": "swapped"}'])
def test_inputs_that_are_not_those_that_were_put_there_stop_the_step(
    tmp_path: Path, data: bytes | None
) -> None:
    store = open_store(f"memory:lost-{data is None}")
    key = keys.inputs(sha256(b"{}"))
    if data is not None:
        store.create(key, data)
    with pytest.raises(EnvironmentFailure, match="missing" if data is None else "changed"):
        InputSource(key=key).read(review(tmp_path).plan(), store)


def test_a_step_says_how_it_ended_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = review(tmp_path)
    monkeypatch.chdir(tmp_path)
    program.walk()
    arguments = program.command(program.steps[0].name)
    del arguments[arguments.index("--next-file") : arguments.index("--input")]
    assert main([*arguments, "--outcome-file", "deep/outcome.json"]) == 0
    outcome = json.loads((tmp_path / "deep" / "outcome.json").read_text())
    assert outcome == {"next": "draft", "status": "go"}
