"""`kitaru store gc` and how far `kitaru executions list` looks, by the real command."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.wire.records import EndRecord
from kitaru.wire.times import ago
from tests.journal.harness import execution

from .conftest import Kitaru


@pytest.fixture
def filled(kitaru: Kitaru) -> Kitaru:
    """A store with an execution that ended 100 days ago, and one that ended 10 days ago."""
    store = open_store(f"sqlite:{kitaru.folder}/.kitaru/kitaru.db")
    for days in (100, 10):
        at = ago(timedelta(days=days))
        record = replace(execution(store, exec_id=f"days-{days}"), started_at=at)
        Journal.create(store, record).finish(EndRecord("completed", None, at))
    store.close()
    return kitaru


def listed(kitaru: Kitaru) -> list[str]:
    items = kitaru("executions", "list", "--json").document["items"]
    return [item["exec_id"] for item in items]


def test_a_dry_run_and_then_the_real_thing(filled: Kitaru) -> None:
    dry = filled("store", "gc", "--older-than", "90d", "--dry-run")
    assert dry.out.splitlines()[0].endswith("days-100  f  completed")
    assert dry.out.splitlines()[-1] == "1 execution to remove, 7 objects"
    assert listed(filled) == ["days-10", "days-100"]
    removed = filled("store", "gc", "--older-than", "90d", "--json").document
    assert [item["exec_id"] for item in removed["items"]] == ["days-100"]
    assert (removed["count"], removed["dry_run"]) == (1, False)
    assert listed(filled) == ["days-10"]


def test_damage_is_shown_by_check_and_verify(filled: Kitaru) -> None:
    path = filled.folder / ".kitaru" / "kitaru.db"
    data = path.read_bytes()
    # A key in a page of an index: both the index and the record that it leads to are sound pages.
    page = next(
        at
        for at in range(1024, len(data), 1024)
        if data[at] == 10 and b"x/days" in data[at : at + 1024]
    )
    at = data.index(b"x/days", page)
    path.write_bytes(data[:at] + b"y" + data[at + 1 :])
    for command in (("store", "check"), ("store", "verify")):
        done = filled(*command, code=3)
        assert "missing from index" in done.out + done.err
    assert "kitaru store restore" in filled("store", "check", code=3).err
    kept = filled("store", "restore", f"sqlite:{path}", "--store", "sqlite:repaired.db")
    assert kept.out.startswith("restored")
    assert filled("store", "verify", "sqlite:repaired.db").out.startswith("good")


def test_back_up_and_restore(filled: Kitaru) -> None:
    assert filled("store", "backup", "sqlite:saved.db").out.startswith("backed up")
    before = listed(filled)
    filled("store", "gc", "--older-than", "1d")
    assert listed(filled) == []
    assert "--replace" in filled("store", "restore", "sqlite:saved.db", code=2).err
    restored = filled("store", "restore", "sqlite:saved.db", "--replace", "--json").document
    assert restored["replaced"].endswith("kitaru.db.replaced")
    assert listed(filled) == before


@pytest.mark.parametrize("age", ["90", "d", "-1d", "1.5d", "90 days"])
def test_an_age_that_is_none_removes_nothing(filled: Kitaru, age: str) -> None:
    assert "90d" in filled("store", "gc", "--older-than", age, code=2).err
    assert len(listed(filled)) == 2


def test_a_list_says_how_far_it_looked(filled: Kitaru) -> None:
    short = filled("executions", "list", "--status", "failed", "--within", "1")
    assert short.out.startswith("no executions in sqlite:")
    assert "newest 1" in short.err
    whole = filled("executions", "list", "--status", "failed", "--json").document
    assert whole == {"items": [], "count": 0, "looked_at": 2, "next": None, "total": None}
