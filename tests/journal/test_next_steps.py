"""The journal's errors carry the next step as data, and `kitaru.hints` renders the command."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from kitaru import hints
from kitaru.errors import NotFound, StateError, WaitConflict
from kitaru.runtime import journal as recording
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.memory import MemoryStore
from kitaru.wire.records import WaitAnswer

from .harness import execution


def test_an_unknown_execution_names_its_store_and_the_next_step(store: MemoryStore) -> None:
    with pytest.raises(NotFound) as found:
        Journal.open(store, "nobody-1")
    error = found.value
    assert (error.next_step, error.exec_id) == ("list executions", "nobody-1")
    assert error.help == (f"List those there are: kitaru executions list --store {store.url}")


def test_an_execution_that_exists_with_other_inputs(store: MemoryStore) -> None:
    first = Journal.create(store, execution(store)).execution
    with pytest.raises(StateError) as found:
        Journal.create(store, execution(store, inputs=2))
    assert found.value.exec_id == first.exec_id
    assert found.value.help == (
        "Leave the execution id out to start a new execution, or look at this one: "
        f"kitaru executions get {first.exec_id} --store {store.url}"
    )


def test_another_answer(journal: Journal) -> None:
    journal.answer(WaitAnswer("ok", "value", True, "1"))
    with pytest.raises(WaitConflict) as found:
        journal.answer(WaitAnswer("ok", "value", False, "2"))
    assert found.value.help == (
        "The first answer counts. See: kitaru executions get "
        f"{journal.exec_id} --store {journal.store.url}"
    )


def test_help_comes_before_the_next_step() -> None:
    error = StateError("It is over.", help="Wait.", next_step="see", store_url="memory:a",
                       exec_id="e1")  # fmt: skip
    assert error.help == "Wait. See: kitaru executions get e1 --store memory:a"
    assert StateError("It is over.", help="Wait.").help == "Wait."


def test_a_store_that_commands_find_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITARU_STORE", "memory:a")
    named = hints.next_step("see", store_url="memory:a", exec_id="e1")
    assert named == "See: kitaru executions get e1"


def test_the_journal_contains_no_command() -> None:
    (folder,) = recording.__path__
    for path in Path(folder).glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
        docs = {ast.get_docstring(n, clean=False) for n in ast.walk(tree)
                if isinstance(n, documented)}  # fmt: skip
        texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        assert not [t for t in texts if isinstance(t, str) and "kitaru " in t and t not in docs]
