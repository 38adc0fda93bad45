"""What a list shows of executions, from one summary per state."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, checkpoint, flow
from kitaru.errors import StoreUnavailable
from kitaru.runtime import codec
from kitaru.runtime.executions.listing import page_of
from kitaru.runtime.executions.where import Where
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.launches import record_launch
from kitaru.stores import Store
from kitaru.stores.memory import MemoryStore
from kitaru.wire import keys
from kitaru.wire.records import (
    AttemptRecord,
    EndRecord,
    ErrorInfo,
    InvocationRecord,
    LaunchRecord,
    WaitRequest,
)
from kitaru.wire.structs import replace
from kitaru.wire.times import now

from .harness import EXEC, FAULTS, Fault, FaultyStore, Killed, execution

BEGAN, ENDED = "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:02.000000Z"
CALL = {"model": "m", "tokens": {"prompt": 10, "completion": 5}, "cost": 0.5}


def work(id: str, **fields: Any) -> InvocationRecord:
    calls = fields.pop("calls", (CALL,))
    return InvocationRecord(
        id, id, "checkpoint", f"m.{id}", "", "completed",
        calls=calls, started_at=BEGAN, ended_at=ENDED, **fields,
    )  # fmt: skip


def row(store: Store, exec_id: str = EXEC) -> dict[str, Any]:
    page = page_of(store, Where(), limit=100, within=100)
    return next(item for item in page.items if item["exec_id"] == exec_id)


def forget(store: MemoryStore) -> None:
    store.delete(*[key for key in store.list("x/") if "/summary/" in key])


def live(store: Store) -> None:
    inputs = {"topic": "tea", "n": 3, "long": "w" * 200}
    journal = Journal.create(store, execution(store, codec.encode(inputs)))
    journal.record(work("draft"))
    journal.add_attempt(
        AttemptRecord("send", 0, ErrorInfo("ValueError", "no"), None, BEGAN, ENDED, (CALL,))
    )
    journal.record(work("send", cached_from="e0/send"))
    journal.record(work("free", calls=({"model": "m", "tokens": {"prompt": 1}},)))
    journal.request_wait(WaitRequest("ok", "Send it?", {"type": "boolean"}, {}, now()))
    journal.set_state("waiting")
    result = journal.store_document("It was sent.")
    journal.set_state("running")
    journal.finish(EndRecord("completed", result, now()))


def test_a_row_shows_what_an_execution_is_up_to(store: MemoryStore) -> None:
    live(store)
    found = row(store)
    assert (found["status"], found["title"]) == ("completed", "tea")
    assert found["excerpt"].startswith("topic=tea, n=3, long=www")
    assert found["up"] == {"kind": "result", "id": "", "text": "It was sent."}
    assert found["ended_at"] == found["state_at"] > found["started_at"]
    # What came from the cache and what a failed attempt took are counted once each.
    assert (found["tokens"], found["cost"], found["unpriced"]) == (31, 1.0, 1)
    assert (found["reused_tokens"], found["reused_cost"], found["seconds"]) == (15, 0.5, 6.0)


def test_a_missing_summary_is_computed(store: MemoryStore) -> None:
    live(store)
    before = row(store)
    forget(store)
    assert row(store) == before


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_every_operation(fault: Fault) -> None:
    for at in range(1, 300):
        inner = MemoryStore()
        store = FaultyStore(inner, fault, at)
        with contextlib.suppress(Killed, StoreUnavailable):
            live(store)
        if inner.get(keys.execution(EXEC)) is None or not inner.list(keys.INDEX):
            continue
        shown = row(inner)
        forget(inner)
        computed = row(inner)
        if shown["status"] == "running":
            # Nothing is counted before the execution pauses.
            computed = {**computed, **{k: shown[k] for k in shown if k in _EFFORT}}
        assert shown == computed, at
        if store.count < at:
            break
    assert at > 35


_EFFORT = ("tokens", "cost", "unpriced", "seconds", "reused_tokens", "reused_cost")


def test_a_question_and_a_failure(store: MemoryStore) -> None:
    journal = Journal.create(store, execution(store, codec.encode({})))
    journal.request_wait(WaitRequest("ok", "Send\nit?", {}, {}, now()))
    journal.set_state("waiting")
    assert row(store)["up"] == {"kind": "wait", "id": "ok", "text": "Send it?"}
    digests = []
    for message in ("row 17 is bad", "row 4711 is bad", "another"):
        journal.set_state("failed", ErrorInfo("m.BadRow", message, invocation="load_2"))
        digests.append(row(store)["error_digest"])
    assert row(store)["up"] == {"kind": "error", "id": "load_2", "text": "BadRow: another"}
    assert digests[0] == digests[1] != digests[2]
    assert row(store)["ended_at"]
    Journal.open(store, EXEC).mark_running()
    assert (row(store)["up"]["kind"], row(store)["ended_at"]) == ("", "")


def test_executions_are_found_by_tag_and_text(store: MemoryStore) -> None:
    for number, (tag, topic) in enumerate([("", "tea"), ("stable", "Tea"), ("stable", "milk")]):
        exec_id = f"e{number}"
        record_launch(store, exec_id, LaunchRecord("f", {}, 3, tag=tag))
        record = execution(store, {"topic": topic}, exec_id)
        Journal.create(store, replace(record, mode="deployed", target="local"))

    def found(**choice: Any) -> list[str]:
        page = page_of(store, Where(**choice), limit=9, within=99)
        return [item["exec_id"] for item in page.items]

    assert found(tag="stable") == ["e2", "e1"]
    assert found(text="tea") == ["e1", "e0"]
    assert found(text="tea", tag="stable") == ["e1"]
    assert found(tag="other") == []
    assert row(store, "e1")["version"] == "v3"
    forget(store)
    assert found(text="tea", tag="stable") == ["e1"]


@checkpoint
def draft(topic: str) -> str:
    return f"about {topic}"


@flow
def titled(topic: str) -> str:
    kitaru.log(title="A long day")
    text = draft(topic)
    return text if kitaru.wait(name="ok", question="Go?") else ""


def test_the_title_of_a_flow_survives_its_processes(store: MemoryStore) -> None:
    client = KitaruClient(store)
    titled.options(store=store, exec_id="titled-1").run("tea").settle(60)
    assert client.executions.page().items[0]["title"] == "A long day"
    client.executions.input("titled-1", True).wait(60)
    [found] = client.executions.page().items
    assert (found["title"], found["up"]["text"]) == ("A long day", "about tea")
    forget(store)
    assert client.executions.page().items[0] == found
