"""Tags of executions, and the filter that lists and commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kitaru_targets import registry

import kitaru
from kitaru import KitaruClient, checkpoint, errors, flow
from kitaru.ops.where import parse_where
from kitaru.wire import keys
from tests.waiting import forget_runs


@checkpoint(cache=False)
def work(value: Any) -> Any:
    if value == "bad" and not Path("mended").exists():
        raise ValueError(value)
    return value


@flow
def tagged(customer: str, order: dict[str, Any] | None = None) -> str:
    kitaru.tag(customer=customer, vip=customer == "acme")
    work(customer)
    kitaru.tag(step="asked")
    kitaru.wait(name="ok")
    kitaru.tag(step="done")
    return customer


def start(customer: str, **inputs: Any) -> str:
    handle = tagged.options(tags={"team": "billing"}).run(customer, **inputs)
    handle.settle(60)
    return handle.exec_id


def found(*where: str) -> list[str]:
    return [one.exec_id for one in KitaruClient().executions.page(where=where).items]


def test_lists_find_tags_at_once_and_after_the_end() -> None:
    acme, other, bad = (start(name) for name in ("acme", "other", "bad"))
    assert found("tag.customer=acme") == [acme]
    assert found("tag.vip=false", "tag.team=billing") == [bad, other]
    assert found("tag.step=asked") == [other, acme]
    client = KitaruClient()
    expected = {"team": "billing", "customer": "acme", "vip": "true", "step": "asked"}
    assert client.executions.get(acme).tags == expected
    forget_runs()
    client.executions.input(acme, True, "ok").wait(60)
    assert found("tag.step=asked") == [other] and found("tag.step=done") == [acme]
    view = client.executions.get(acme)
    assert view.tags == {**expected, "step": "done"}
    assert view.notes == {}
    # The tags follow from the records: a summary that is missing is computed.
    for key in client.store.list(f"x/{acme}/summary/"):
        client.store.delete(key)
    assert client.executions.get(acme).tags == {**expected, "step": "done"}
    replayed = client.executions.replay(acme, start="ok")
    replayed.settle(60)
    assert client.executions.get(replayed.exec_id).tags == expected


def test_a_resume_writes_no_second_summary_for_a_recorded_tag() -> None:
    acme = start("acme")
    store = KitaruClient().store
    before = len(store.list(keys.states(acme)))
    forget_runs()
    tagged.resume(acme).settle(60)
    # It runs, and waits again.
    assert len(store.list(keys.states(acme))) == before + 2


def test_inputs_and_times() -> None:
    one = start("acme", order={"id": 7, "lines": [1]})
    two = start("7", order={"id": "7"})
    assert found("input.customer=acme") == [one]
    assert found("input.order.id=7") == [two, one], "a number and a text look the same"
    assert found('input.order.id="7"') == []
    assert found("input.order.lines=[1]") == [one]
    assert found("input.order.gone=1") == [] == found("older_than=1h")
    assert found("newer_than=1h", "target=local", "status=waiting") == [two, one]
    assert found("version=v1") == [] and found("text=ACME") == [one]


@pytest.mark.parametrize(
    "where",
    ["flow", "flow=", "colour=red", "status=done", "older_than=soon", "older_than=99999999999d",
     "input.=1", "tag.=1"],
)  # fmt: skip
def test_wrong_conditions(where: str) -> None:
    with pytest.raises(errors.UsageError):
        parse_where([where])


def test_a_condition_is_set_once() -> None:
    with pytest.raises(errors.UsageError, match="occurs twice"):
        parse_where(["flow=a", "flow=b"])
    with pytest.raises(errors.UsageError, match="sets flow twice"):
        KitaruClient().executions.page(flow="a", where=["flow=b"])


@pytest.mark.parametrize(
    "tags", [{"no name": "x"}, {"x": ""}, {"x": "y" * 201}, {"x": None}, {"x": "a\nb"},
             {f"t{n}": "x" for n in range(51)}],
)  # fmt: skip
def test_wrong_tags(tags: dict[str, Any]) -> None:
    @flow
    def wrong() -> None:
        kitaru.tag(**tags)

    with pytest.raises(errors.FlowError):
        wrong.run().wait(60)
    with pytest.raises(errors.UsageError):
        wrong.options(tags=tags)


def test_many_are_cancelled_and_retried_and_a_repeated_call_does_the_rest() -> None:
    client = KitaruClient()
    ids = [start(name) for name in ("acme", "bad", "acme", "bad", "other")]
    with pytest.raises(errors.UsageError, match="must say which"):
        client.executions.cancel_many([])
    done = client.executions.cancel_many(["tag.customer=acme"], limit=1)
    assert [(one.exec_id, one.status, one.error) for one in done] == [(ids[2], "cancelled", "")]
    done = client.executions.cancel_many(["tag.customer=acme"])
    assert [one.exec_id for one in done] == [ids[0]]
    assert client.executions.cancel_many(["tag.customer=acme"]) == []
    with pytest.raises(errors.UsageError, match="cannot be retried"):
        client.executions.retry_many(["status=waiting"])
    Path("mended").touch()
    done = client.executions.retry_many(["flow=tagged"])
    assert [(one.exec_id, one.status) for one in done] == [(ids[3], "waiting"), (ids[1], "waiting")]
    assert client.executions.retry_many(["flow=tagged"]) == []
    assert client.executions.get(ids[4]).status == "waiting"


def test_one_that_refuses_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from kitaru.ops import many

    client = KitaruClient()
    first, second = start("a"), start("b")
    cancel = many.cancel

    def refusing(store: Any, exec_id: str) -> Any:
        if exec_id == second:
            raise errors.StateError("It is completed.")
        return cancel(store, exec_id)

    monkeypatch.setattr(many, "cancel", refusing)
    done = client.executions.cancel_many(["flow=tagged"])
    assert [(one.exec_id, one.status, one.error) for one in done] == [
        (second, "waiting", "It is completed."),
        (first, "cancelled", ""),
    ]


SOURCE = """\
import kitaru
from kitaru import checkpoint, flow


@checkpoint
def work(value):
    return value


@flow
def tagged(customer: str):
    kitaru.tag(customer=customer)
    first = work(customer)
    kitaru.tag(step="asked")
    kitaru.wait(name="ok")
    kitaru.tag(step="done")
    return work(first)
"""


@pytest.mark.parametrize("target", registry.names())
def test_every_target_tags_the_same(target: str) -> None:
    Path("flows.py").write_text(SOURCE)
    client = KitaruClient()
    view = client.dry_run("flows.py", {"customer": "acme"}, target)
    assert (view.status, view.tags) == ("waiting", {"customer": "acme", "step": "asked"})
    assert found("tag.step=asked") == [view.exec_id]
    done = client.executions.dry_run(view.exec_id, answers={"ok": True})
    assert (done.result, done.tags) == ("acme", {"customer": "acme", "step": "done"})
