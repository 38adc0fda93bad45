"""A process that cannot run an execution records why; the execution is resumed or retried."""

from __future__ import annotations

import pytest

from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import EnvironmentFailure, StoreDenied
from kitaru.runtime.journal.journal import Journal
from kitaru.stores.memory import MemoryStore

missing: list[Exception] = []
ran: list[str] = []


@checkpoint(cache=False)
def first() -> int:
    ran.append("first")
    return 1


@checkpoint(cache=False)
def second() -> int:
    if missing:
        raise missing[0]
    ran.append("second")
    return 2


@flow
def summing() -> int:
    return first() + second()


def stop(
    url: str, error: Exception
) -> tuple[KitaruClient, pytest.ExceptionInfo[EnvironmentFailure]]:
    missing[:], ran[:] = [error], []
    store = MemoryStore(url)
    with pytest.raises(EnvironmentFailure) as caught:
        summing.options(store=store, exec_id="sum-1").run().wait(60)
    missing.clear()
    return KitaruClient(store), caught


@pytest.mark.parametrize("verb", ["retry", "resume"])
def test_the_reason_is_shown_until_the_execution_continues(verb: str) -> None:
    error = EnvironmentFailure("litellm is not installed.", help="pip install litellm")
    client, caught = stop(f"memory:{verb}", error)
    view = client.executions.get("sum-1")
    assert (view.status, view.error and view.error.message) == (
        "interrupted", "litellm is not installed."
    )  # fmt: skip
    assert caught.value.exec_id == "sum-1"
    assert "kitaru executions resume sum-1" in caught.value.help
    [row] = client.executions.page().items
    assert row["status"] == "interrupted"
    assert row["up"]["text"] == "EnvironmentFailure: litellm is not installed."
    assert [one["exec_id"] for one in client.executions.each(status="interrupted")] == ["sum-1"]
    assert getattr(client.executions, verb)("sum-1").wait(60) == 3
    assert ran == ["first", "second"], "what is recorded does not run again"
    view = client.executions.get("sum-1")
    assert (view.status, view.error) == ("completed", None)
    states = Journal.open(client.store, "sum-1").store.list("x/sum-1/state/")
    assert len(states) == 4, "running, stopped, running, completed"


def test_failures_of_stores_are_not_recorded() -> None:
    client, _ = stop("memory:denied", StoreDenied("no access"))
    assert len(client.store.list("x/sum-1/state/")) == 1
    assert client.executions.get("sum-1").error is None
