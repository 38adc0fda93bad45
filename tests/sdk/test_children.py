"""Child executions on this machine: own executions, one result, cancellation, and kills."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import Child, KitaruClient, aio, checkpoint, errors, flow
from kitaru.runtime.journal import children
from kitaru.stores import open_store
from kitaru.wire.ids import child_execution_id
from tests.sdk.conftest import Script
from tests.waiting import wait_until

IS_BROKEN = [False]
GATE = threading.Event()


@checkpoint(cache=False)
def double(number: int) -> int:
    if IS_BROKEN[0]:
        raise ValueError("broken")
    return 2 * number


@checkpoint(cache=False)
def held(number: int) -> int:
    assert GATE.wait(60)
    return number


@flow
def billing(number: int) -> int:
    return double(number)


@flow
def holding(number: int) -> int:
    return double(held(number))


@flow
def asking() -> bool:
    return bool(kitaru.wait(name="ok", question="Send it?"))


@flow
def order(number: int) -> list[int]:
    first = kitaru.invoke(billing, {"number": number})
    rest = [kitaru.invoke(billing, {"number": one}, wait=False) for one in range(3)]
    return [first, *(one.result() for one in rest), rest[0].result()]


@flow
def one_more() -> int:
    return int(kitaru.invoke(billing, {"number": 4})) + 1


@flow
async def fan(count: int) -> int:
    calls = [aio.invoke(billing, {"number": one}) for one in range(count)]
    return sum(await asyncio.gather(*calls))


def test_a_child_is_an_execution_of_its_own_and_linked_both_ways() -> None:
    handle = order.run(5)
    assert handle.wait() == [10, 0, 2, 4, 0]
    client = KitaruClient()
    seen = client.executions.get(handle.exec_id)
    assert [one.invocation for one in seen.children] == [
        "billing", "billing_2", "billing_3", "billing_4",
    ]  # fmt: skip
    ids = [one.exec_id for one in seen.children]
    assert ids == [child_execution_id(handle.exec_id, one.invocation) for one in seen.children]
    listed = client.executions.page(parent=handle.exec_id).items
    assert sorted(one.exec_id for one in listed) == sorted(ids)
    child = client.executions.get(ids[0])
    assert (child.flow, child.status, child.result) == ("billing", "completed", 10)
    assert (child.parent, child.to_dict()["parent"]) == (handle.exec_id, handle.exec_id)
    kinds = {one.id: one.kind for one in seen.invocations}
    assert kinds["billing"] == kinds["billing.result"] == "child"
    # The process of a child may still delete the hint of its end.
    wait_until(lambda: not client.store.list("due/"))


def test_a_fan_out_runs_at_most_max_parallel_children_at_a_time() -> None:
    handle = fan.run(30)
    assert handle.wait() == sum(2 * one for one in range(30))
    assert len(KitaruClient().executions.get(handle.exec_id).children) == 30


def test_a_child_that_waits_lets_its_parent_wait_and_continue() -> None:
    @flow
    def parent() -> str:
        return "sent" if kitaru.invoke(asking) else "kept"

    client, handle = KitaruClient(), parent.run()
    assert handle.settle(60) == "waiting"
    seen = client.executions.get(handle.exec_id)
    child = seen.children[0].exec_id
    assert not seen.waits, "nobody can answer the wait for a child"
    assert [one.child for one in seen.waits_for] == [child]
    with pytest.raises(errors.StateError, match="Nobody can answer"):
        client.executions.input(handle.exec_id, True, wait="asking.result")
    client.executions.input(child, True)
    assert handle.wait(60) == "sent"


def test_a_failed_child_raises_a_typed_error_and_a_retry_of_the_parent_retries_it() -> None:
    IS_BROKEN[0] = True
    try:
        handle = one_more.run()
        with pytest.raises(errors.FlowError, match=r"ChildFailed: The child .* failed with"):
            handle.wait()
    finally:
        IS_BROKEN[0] = False
    client = KitaruClient()
    assert client.executions.get(handle.exec_id).status == "failed"
    assert client.executions.retry(handle.exec_id).wait(60) == 9
    (child,) = client.executions.get(handle.exec_id).children
    assert client.executions.get(child.exec_id).status == "completed"


def test_a_caught_failure_is_recorded() -> None:
    seen: list[Any] = []

    @flow
    def failing() -> None:
        raise ValueError("no")

    @flow
    def parent() -> list[str]:
        try:
            kitaru.invoke(failing)
        except errors.ChildFailed as error:
            seen.append((error.child, error.status))
        return [str(double(1)), seen[-1][1]]

    handle = parent.run()
    assert handle.wait() == ["2", "failed"]
    (child,) = KitaruClient().executions.get(handle.exec_id).children
    assert seen[-1] == (child.exec_id, "failed")
    records = {one.id: one for one in KitaruClient().executions.get(handle.exec_id).invocations}
    assert records["failing.result"].status == "failed"


def test_a_cancellation_reaches_children_but_not_abandoned_ones() -> None:
    @flow
    def grandparent() -> int:
        kitaru.invoke(holding, {"number": 1}, wait=False, on_cancel="abandon")
        return int(kitaru.invoke(parent))

    @flow
    def parent() -> int:
        return int(kitaru.invoke(asking))

    GATE.clear()
    client, handle = KitaruClient(), grandparent.run()
    wait_until(lambda: "asking" in {one.flow_name for one in client.executions.list()})
    left, below = (one.exec_id for one in client.executions.get(handle.exec_id).children)
    wait_until(lambda: bool(client.executions.get(below).waits_for))
    client.executions.cancel(handle.exec_id)
    (deepest,) = client.executions.get(below).children
    assert client.executions.get(below).status == "cancelled"
    assert client.executions.get(deepest.exec_id).status == "cancelled"
    assert client.executions.get(below).cancelled_by == f"the parent {handle.exec_id}"
    GATE.set()
    wait_until(lambda: client.executions.get(left).status == "completed")
    # The hint of an end goes after the end.
    wait_until(lambda: not client.store.list("due/"))


def test_a_cancelled_child_is_a_failure_of_its_parent() -> None:
    @flow
    def parent() -> str:
        try:
            kitaru.invoke(asking)
        except errors.ChildFailed as error:
            return error.status
        return "no"

    client, handle = KitaruClient(), parent.run()
    assert handle.settle(60) == "waiting"
    client.executions.cancel(client.executions.get(handle.exec_id).children[0].exec_id)
    assert handle.wait(60) == "cancelled"


@pytest.mark.parametrize(
    ("asked", "error", "text"),
    [
        (lambda: kitaru.invoke("nobody@stable"), errors.NotFound, "is not deployed"),
        (lambda: kitaru.invoke("a b"), errors.UsageError, "a b"),
        (lambda: kitaru.invoke(7), errors.UsageError, "is no flow"),  # type: ignore[arg-type]
        (lambda: kitaru.invoke(billing, [1]), errors.UsageError, "by name"),  # type: ignore[arg-type]
        (lambda: kitaru.invoke(billing), errors.InputError, "number"),
        (lambda: kitaru.invoke(billing, {"number": "x"}), errors.InputError, "number"),
        (
            lambda: kitaru.invoke(billing, on_cancel="stop"),  # type: ignore[arg-type]
            errors.UsageError,
            "on_cancel",
        ),
    ],
)
def test_a_wrong_call_raises_in_the_parent(asked: Any, error: type, text: str) -> None:
    @flow
    def parent() -> str:
        try:
            asked()
        except error as found:
            return str(found)
        return ""

    assert text in parent.run().wait()


def test_a_handle_of_another_execution_and_outside_of_flows() -> None:
    @flow
    def stranger(child: Child) -> Any:
        return child.result()

    handle = order.run(1)
    handle.wait()
    noted = KitaruClient().executions.get(handle.exec_id).children[0]
    child = Child(noted.exec_id, noted.flow, "", noted.invocation)
    assert stranger.run(child).wait() == 2
    with pytest.raises(errors.ContextError):
        child.result()


KILLED = """\
import os
import kitaru
from kitaru import checkpoint, flow


@checkpoint(cache=False)
def pay(number: int) -> int:
    file = os.open("calls.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, f"{kitaru.idempotency_key()}\\n".encode())
    os.close(file)
    return number + 1


@flow
def billing(number: int) -> int:
    return pay(pay(number))


@flow
def order(number: int) -> int:
    first = kitaru.invoke(billing, {"number": number})
    second = kitaru.invoke(billing, {"number": first}, wait=False)
    return pay(first) + second.result()
"""


@pytest.mark.slow
def test_a_parent_that_is_killed_at_each_record_gets_one_result_of_each_child(
    tmp_path: Path, store: str
) -> None:
    file = tmp_path / "killed_children.py"
    file.write_text(KILLED)
    script = Script(file, store)
    arm = "from tests.step.killer import arm\n"
    root = Path(__file__).parents[2]
    kills = 0
    for moment in range(1, 100):
        when = ("before", "after")[moment % 2]
        code, output, log = script.run(
            f"sys.path.insert(0, {str(root)!r})\n{arm}arm('{when}:{3 + 6 * moment}')\n"
            "print(json.dumps(flows.order.options(exec_id='e1').run(1).wait()))"
        )
        if code == 0:
            break
        assert code == -9, log
        kills += 1
    assert json.loads(output) == 9
    assert kills > 3
    found = KitaruClient(store).executions.get("e1")
    assert [one.status for one in map(KitaruClient(store).executions.get, _ids(found))] == [
        "completed"
    ] * 2
    assert len(set(script.calls())) == 5, "each checkpoint has one key in all processes"
    assert children.notes(open_store(store), "e1")


def _ids(view: Any) -> list[str]:
    return [one.exec_id for one in view.children]
