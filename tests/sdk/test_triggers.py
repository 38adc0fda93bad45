"""Events that start deployed flows, and that cancel their executions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kitaru_compiler.compile import compile_flow

from kitaru import KitaruClient, errors
from kitaru.ops.event_log import append
from kitaru.ops.events import Matching, restore_hints, send_event, settle
from kitaru.ops.submit import cancels_of
from kitaru.runtime.journal import launches
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.subscriptions import newest_entry
from kitaru.stores import open_store
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.records import LaunchRecord

FLOW = """
import kitaru
from kitaru import flow

@flow(
    on=["invoice.created", "invoice.changed"],
    where="data.amount > 100",
    cancel_on=[
        kitaru.on_event("invoice.deleted", match={{"id": "input.id"}}),
        kitaru.on_event("all.stopped", where="data.most < input.amount"),
    ],
)
def billing(id: str, amount: float, currency: str = "EUR"{more}) -> str:
    kitaru.wait(name="approve")
    return f"{{id}}: {{amount}} {{currency}}"
"""


def _deploy(path: Path, more: str = "") -> KitaruClient:
    client, file = KitaruClient(), path / "billing.py"
    file.write_text(FLOW.format(more=more))
    client.deployments.deploy(str(file), tag="default")
    return client


def _effects(client: KitaruClient, name: str, id: str) -> list[tuple[str, str]]:
    return [(one.kind, one.exec_id) for one in client.events.get(name, id).effects]


def test_an_event_starts_one_execution(store: str, tmp_path: Path) -> None:
    client, opened = _deploy(tmp_path), open_store(store)
    (trigger,) = client.events.triggers()
    assert (trigger.flow, trigger.version, trigger.events.on[0]) == (
        "billing", 1, "invoice.created",
    )  # fmt: skip
    sent = {"id": "i7", "amount": 120, "other": [1]}
    for _ in range(2):
        client.events.send("invoice.created", sent, id="d1")
    client.events.send("invoice.created", {"id": "i8", "amount": 100}, id="small")
    client.events.send("invoice.paid", sent, id="d1")
    client.events.send("invoice.changed", {"id": 7, "amount": 120}, id="wrong")
    ((_, exec_id),) = _effects(client, "invoice.created", "d1")
    launch = launches.recall(opened, exec_id)
    assert launch is not None
    assert (launch.inputs, launch.event) == ({"id": "i7", "amount": 120}, "invoice.created/d1")
    assert _effects(client, "invoice.created", "small") == []
    assert _effects(client, "invoice.paid", "d1") == []
    (refused,) = client.events.get("invoice.changed", "wrong").effects
    assert (refused.kind, "input 'id' of billing must be str" in refused.why) == ("refuse", True)
    view = client.executions.get(exec_id)
    assert (view.started_by, view.status) == ("invoice.created/d1", "queued")
    # Nothing starts again: neither by hints of a restored store, nor after garbage collection.
    opened.delete(keys.launch(exec_id), *opened.list(keys.due_now(exec_id)))
    for hint, at in restore_hints(opened):
        opened.create(hint, at)
    assert settle(opened) == []
    assert launches.recall(opened, exec_id) is None


def test_each_event_starts_the_version_of_its_place(store: str, tmp_path: Path) -> None:
    client, opened = _deploy(tmp_path), open_store(store)
    data = {"id": "i7", "amount": 120}
    send_event(opened, "invoice.created", data, id="first")
    client = _deploy(tmp_path, ", event: dict = {}")
    send_event(opened, "invoice.created", data, id="second")
    client.deployments.tag("billing@v1", "default")
    # The entry decides, whenever its effects take place.
    send_event(opened, "invoice.created", data, id="third")
    records = RecordStore(opened)
    head = newest_entry(records)
    assert append(records, head, triggers="") > 0
    send_event(opened, "invoice.created", data, id="fourth")
    found = {id: _effects(client, "invoice.created", id) for id in ("first", "second", "third")}
    made = {id: launches.recall(opened, one[0][1]) for id, one in found.items()}
    assert {id: one.deployment for id, one in made.items() if one} == {
        "first": 1, "second": 2, "third": 1,
    }  # fmt: skip
    second = made["second"]
    assert second is not None and second.inputs["event"]["id"] == "second"
    assert second.inputs["event"]["data"] == data
    assert _effects(client, "invoice.created", "fourth") == []


def test_events_cancel_what_started_before(store: str, tmp_path: Path) -> None:
    client, opened = _deploy(tmp_path), open_store(store)
    client.events.send("invoice.deleted", {"id": "i7"}, id="earlier")
    own = client.deployments.invoke("billing", {"id": "i7", "amount": 120}, exec_id="own-i7")
    _queue(opened, "own-i8", id="i8", amount=150)
    _queue(opened, "own-i9", id="i9", amount=50)
    client.events.send("invoice.created", {"id": "i7", "amount": 120}, id="d1")
    ((_, triggered),) = _effects(client, "invoice.created", "d1")
    assert (own.settle(), _status(client, triggered)) == ("waiting", ["queued"])
    client.events.send("invoice.deleted", {"id": "i7"}, id="later")
    assert _status(client, "own-i7", triggered) == ["cancelled", "cancelled"]
    assert client.executions.get("own-i7").cancelled_by == "event invoice.deleted/later"
    assert sorted(_effects(client, "invoice.deleted", "later")) == sorted(
        [("cancel", "own-i7"), ("cancel", triggered)]
    )
    entry = client.audit().items[0]
    assert (entry.action, entry.by) == ("cancel", "event invoice.deleted/later")
    client.events.send("all.stopped", {"most": 100})
    assert _status(client, "own-i8", "own-i9") == ["cancelled", "queued"]
    # What starts later is not cancelled, and hints of what has ended go.
    _queue(opened, "after", id="i7", amount=1)
    assert Matching().match_all(opened) == []
    assert _status(client, "after", "own-i9") == ["queued", "queued"]
    left = {key.split("/")[-2] for key in opened.list(keys.SUBSCRIBED)}
    assert left == {"after", "own-i9"}
    assert client.deployments.invoke("billing", {"id": "i7", "amount": 120}, exec_id="own-i7")


def _queue(store: Store, exec_id: str, **inputs: Any) -> None:
    """Start an execution of the first version, as a dispatcher finds it."""
    cancels = cancels_of(store, "billing", 1, inputs)
    launches.record_launch(store, exec_id, LaunchRecord("billing", inputs, 1, cancel_on=cancels))


def _status(client: KitaruClient, *exec_ids: str) -> list[Any]:
    return [str(client.executions.get(one).status) for one in exec_ids]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('on="a.b", where="data.amount >"', r"flow\.py:4: 'data\.amount >' is not a valid"),
        ('on="a.b", where="dat.x > 1"', "there is no dat; variables are data, id, name, at"),
        ('on="a b"', "'a b' cannot be the name of an event"),
        ('where="true"', "this flow has no on="),
        ("on=NAME", "on= of @flow is not written out"),
        ('on="a.b"', "The input event of f is a str, and an event is an object"),
        ('cancel_on=kitaru.on_event("x", match={"a": "input.no"})', "f has no input no"),
        ('cancel_on=kitaru.on_event("x", where="input.no == 1")', "f has no input no"),
        ('cancel_on=kitaru.on_event("x", match={"a": "b"})', "match='b' is not the path"),
    ],
)
def test_options_are_checked_when_compiling(tmp_path: Path, options: str, said: str) -> None:
    file = tmp_path / "flow.py"
    head = 'import kitaru\nfrom kitaru import flow\nNAME = "x"\n'
    file.write_text(f'{head}@flow({options})\ndef f(event: str = "") -> int:\n    return 1\n')
    with pytest.raises(errors.UsageError, match=said):
        compile_flow(file)
