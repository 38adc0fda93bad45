"""Commands for many executions list first, need --yes, and report each."""

from __future__ import annotations

import pytest

from .conftest import Kitaru

SOURCE = """\
from pathlib import Path

import kitaru
from kitaru import checkpoint, flow


@checkpoint
def work(customer: str) -> str:
    if customer == "bad" and not Path("mended").exists():
        raise ValueError(customer)
    return customer


@flow
def orders(customer: str) -> str:
    kitaru.tag(customer=customer)
    work(customer)
    kitaru.wait(name="ok")
    return customer
"""


@pytest.fixture
def ids(kitaru: Kitaru) -> dict[str, str]:
    kitaru.write("orders.py", SOURCE)
    return {
        name: kitaru(
            "run", "orders.py", "-i", f"customer={name}", "--tag", "team=b", "--no-input", "--json",
            code=None,
        ).document["exec_id"]
        for name in ("acme", "bad", "other")
    }  # fmt: skip


def test_list_cancel_and_retry(kitaru: Kitaru, ids: dict[str, str]) -> None:
    where = ("--where", "tag.team=b", "--where", "status=waiting")
    listed = kitaru("executions", "list", *where, "--json").document["items"]
    assert [one["exec_id"] for one in listed] == [ids["other"], ids["acme"]]
    assert listed[0]["tags"] == {"team": "b", "customer": "other"}
    one = ("--where", "input.customer=acme")
    shown = kitaru("executions", "cancel", *one)
    assert ids["acme"] in shown.out and ids["other"] not in shown.out
    assert "Nothing was done. To cancel 1 execution, repeat the command with --yes." in shown.err
    would = kitaru("executions", "cancel", *one, "--json").document
    assert (would["would"], would["count"]) == ("cancel", 1)
    done = kitaru("executions", "cancel", *one, "--yes").out
    assert done.split() == ["cancelled", ids["acme"], "orders"]
    assert kitaru("executions", "cancel", *one, "--yes").out == "no execution matches\n"
    kitaru.write("mended", "")
    retried = kitaru("executions", "retry", "--where", "flow=orders", "--yes", "--json").document
    assert [(each["exec_id"], each["status"]) for each in retried["items"]] == [
        (ids["bad"], "waiting")
    ]
    assert retried["more"] is False


def test_what_is_refused(kitaru: Kitaru, ids: dict[str, str]) -> None:
    for wrong in (
        ("cancel",),
        ("cancel", ids["acme"], "--where", "flow=orders"),
        ("cancel", "--where", "colour=red"),
        ("retry", "--where", "status=waiting", "--yes"),
        ("list", "--where", "older_than=soon"),
    ):
        kitaru("executions", *wrong, code=2)
    kitaru("run", "orders.py", "-i", "customer=x", "--tag", "no name=x", code=2)
