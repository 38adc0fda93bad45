"""Comparing a flow with what an execution ran."""

from __future__ import annotations

import sqlite3

import pytest

from . import flows
from .conftest import Kitaru

CHANGED = flows.REVIEW.replace('f"draft of {brief}"', 'f"a draft of {brief}"')


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Kitaru, str]:
    """A project, and the dry run of its flow, coarser than by default."""
    kitaru = Kitaru(tmp_path_factory.mktemp("deployed"))
    kitaru.write("review.py", flows.REVIEW)
    dry = ("dry-run", "review.py", "-t", "vertex", "--granularity", "fused", "-o", "elsewhere")
    document = kitaru(*dry, "--input", "topic=tea", "--json").document
    return kitaru, document["exec_id"]


def test_the_same_flow_is_compiled_as_it_ran(ran: tuple[Kitaru, str]) -> None:
    kitaru, exec_id = ran
    done = kitaru("diff", "review.py", "--deployed", exec_id)
    assert done.out == "review for vertex: no difference\n"
    (build,) = (kitaru.folder / "elsewhere").glob("*/*")
    assert kitaru("diff", str(build), "--deployed", exec_id, "--json").document["equal"]


def test_a_changed_flow_says_what_and_why(ran: tuple[Kitaru, str]) -> None:
    kitaru, exec_id = ran
    kitaru.write("new/review.py", CHANGED)
    done = kitaru("diff", "new/review.py", "--deployed", exec_id, code=1)
    assert done.out == (
        "review for vertex: 2 changed\n"
        "  ~ flow review  review.py:25  file review.py\n"
        "  ~ start        review.py:25  code of draft\n"
    )
    kitaru("compile", "review.py", "-t", "vertex", "-o", "fine")
    document = kitaru(
        "diff", "fine/review/vertex", "--deployed", exec_id, "--json", code=1
    ).document
    assert [change["name"] for change in document["added"]] == ["research", "draft"]
    (granularity,) = document["changed"][0]["reasons"]
    assert (granularity["before"], granularity["after"]) == ("fused", "checkpoint")


def test_what_has_nothing_to_compare_with(ran: tuple[Kitaru, str]) -> None:
    kitaru, exec_id = ran
    both = kitaru("diff", "review.py", "review.py", "--deployed", exec_id, "--json", code=2).error
    assert "A comparison needs two sides" in both["message"]
    assert (
        "A comparison needs two sides"
        in kitaru("diff", "review.py", "--json", code=2).error["message"]
    )
    absent = kitaru("diff", "review.py", "--deployed", "absent", "--json", code=2).error
    assert "absent" in absent["message"]
    local = kitaru("run", "review.py", "--input", "topic=tea", "--no-input", "--json").document
    error = kitaru("diff", "review.py", "--deployed", local["exec_id"], "--json", code=2).error
    assert "without being compiled" in error["message"] and "kitaru diff" in error["help"]


def test_a_bundle_that_is_not_in_the_store(ran: tuple[Kitaru, str]) -> None:
    kitaru, exec_id = ran
    copy = kitaru.folder / "copy.db"
    with sqlite3.connect(kitaru.folder / ".kitaru/kitaru.db") as database:
        database.execute("VACUUM INTO ?", (str(copy),))
    with sqlite3.connect(copy) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("DELETE FROM object WHERE key LIKE 'bundle/%'")
    asked = ("diff", "review.py", "--deployed", exec_id, "--store", f"sqlite:{copy}", "--json")
    assert "not in the store" in kitaru(*asked, code=2).error["message"]
