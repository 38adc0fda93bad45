"""Waits for events: in one process, in the next one, and continued by a dispatcher."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import kitaru
from kitaru import KitaruClient, aio, checkpoint, errors, flow
from kitaru.handle import Handle
from kitaru.ops.dispatch import Dispatcher, due
from kitaru.ops.events import Matching, send_event, settle
from kitaru.runtime.journal.journal import Journal
from kitaru.stores import open_store
from kitaru.stores.sqlite import SqliteStore
from kitaru.wire import keys
from kitaru.wire.times import later, now
from tests.waiting import forget_runs

DAY = timedelta(days=1)


@checkpoint
def note(text: str) -> str:
    with Path("calls.txt").open("a") as file:
        file.write(text + "\n")
    return text


@flow
def paying(order: int, deadline: Any = None, default: Any = ...) -> list[Any]:
    note("before")
    paid = kitaru.wait_event(
        "invoice.paid", match={"order": order}, deadline=deadline, default=default
    )
    return [note("after"), paid]


@flow
def choosy() -> Any:
    return kitaru.wait_event("invoice.paid", where="data.amount > 100 && name != ''", name="large")


@flow
def looking_back(since: Any) -> Any:
    return kitaru.wait_event("invoice.paid", since=since)


@flow
async def several() -> list[Any]:
    waits = [aio.wait_event("went", match={"to": to}, name=f"to_{to}") for to in ("a", "b")]
    return list(await asyncio.gather(*waits))


@flow
def refused(**asked: Any) -> Any:
    return kitaru.wait_event(**{"event": "x", **asked})


def _journal(handle: Handle[Any]) -> Journal:
    assert handle.settle() == "waiting"
    return Journal.open(open_store(os.environ["KITARU_STORE"]), handle.exec_id)


def test_the_first_event_that_fits_answers(store: str, tmp_path: Path) -> None:
    client = KitaruClient()
    client.events.send("invoice.paid", {"order": 7, "at": "before"})
    handle = paying.run(7)
    journal = _journal(handle)
    (request,) = client.executions.get(handle.exec_id).events
    assert (request.event["name"], request.event["match"]) == ("invoice.paid", {"order": 7})
    for data in ({"order": 8}, {"order": "7"}, {"other": 7}, 7, {"order": 7.0, "n": 1}):
        client.events.send("invoice.paid", data)
    client.events.send("invoice.paid", {"order": 7, "n": 2})
    assert handle.wait() == ["after", {"order": 7.0, "n": 1}]
    assert [one.kind for one, _ in journal.each_answer()] == ["event"]
    assert open_store(store).list(keys.SUBSCRIBED) == []
    assert paying.replay(handle.exec_id, start="note_2").wait() == ["after", {"order": 7.0, "n": 1}]
    assert (tmp_path / "calls.txt").read_text().split() == ["before", "after", "after"]


def test_a_dispatcher_continues_what_waits(store: str) -> None:
    handle = paying.run(3)
    _journal(handle)
    forget_runs()
    opened = open_store(store)
    send_event(opened, "invoice.paid", {"order": 3}, delivers=False)
    assert due(opened).hints == 1
    (done,) = settle(opened)
    assert (done.exec_id, done.wait) == (handle.exec_id, "event")
    assert settle(opened) == []
    resumed = KitaruClient().executions.resume(handle.exec_id)
    assert resumed.wait() == ["after", {"order": 3}]
    Dispatcher(opened).once()
    assert opened.list(keys.DUE) == []


def test_an_event_with_a_known_id_is_the_same_event(store: str) -> None:
    opened = open_store(store)
    first = send_event(opened, "a.b", {"n": 1}, id="delivery 1")
    again = send_event(opened, "a.b", {"n": 2}, id="delivery 1", delivers=False)
    other = send_event(opened, "a.c", {"n": 2}, id="delivery 1")
    assert (first, other.data) == (again, {"n": 2})
    # Senders of the same events have left their hints.
    digests = [key.removeprefix(keys.event("")) for key in opened.list(keys.event(""))]
    for digest in digests:
        opened.create(keys.due_event(digest), b"")
    assert settle(opened) == [] == opened.list(keys.DUE)
    events = KitaruClient().events
    assert len(events.list()) == 2
    assert [one.id for one in events.list()] == ["delivery 1"] * 2
    assert events.list("a.b") == [first] == [events.get("a.b", "delivery 1")]
    with pytest.raises(errors.NotFound, match=r"no event a\.b with the id 'other'"):
        events.get("a.b", "other")
    # The number of the entry of an event is what tells that the log contains it.
    opened.delete(*map(keys.event_place, digests))
    for digest in digests:
        opened.create(keys.due_event(digest), b"")
    settle(opened)
    assert len(events.list()) == 3


def test_an_expression_selects_events() -> None:
    handle, events = choosy.run(), KitaruClient().events
    handle.settle()
    for data in (None, [], {}, {"amount": "200"}, {"amount": 100}, {"amount": 100.5}):
        events.send("invoice.paid", data)
    assert handle.wait() == {"amount": 100.5}


@pytest.mark.parametrize(("hours", "expected"), [(-1, "now"), (1, "early")])
def test_events_since_a_time_count(hours: int, expected: str) -> None:
    events = KitaruClient().events
    events.send("invoice.paid", "early")
    handle = looking_back.run(datetime.now(UTC) - timedelta(hours=hours))
    handle.settle()
    events.send("invoice.paid", "now")
    if expected == "now":
        # Its time has not come yet.
        assert handle.settle() == "waiting"
    else:
        assert handle.wait() == expected


def test_tasks_wait_for_events_at_once() -> None:
    handle, events = several.run(), KitaruClient().events
    handle.settle()
    events.send("went", {"to": "b", "n": 1})
    events.send("went", {"to": "a", "n": 2})
    assert handle.wait() == [{"to": "a", "n": 2}, {"to": "b", "n": 1}]


def test_it_expires_as_other_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    from kitaru.runtime.journal import journal

    handle, bare = paying.run(1, DAY, "nobody"), paying.run(2, DAY)
    handle.settle(), bare.settle()
    monkeypatch.setattr(journal, "now", lambda: later(now(), 2 * 86400))
    assert handle.wait() == ["after", "nobody"]
    with pytest.raises(errors.FlowError, match=r"no event invoice\.paid that fits came until"):
        bare.wait()


def test_nobody_answers_it(store: str) -> None:
    handle = paying.run(1)
    _journal(handle)
    with pytest.raises(errors.StateError, match=r"ends with an event invoice\.paid") as raised:
        KitaruClient().executions.input(handle.exec_id, True, wait="event")
    assert """kitaru events send invoice.paid --data '{"order": 1}'""" in str(raised.value.help)


def test_a_wait_that_no_list_showed_is_found(store: str) -> None:
    handle = paying.run(5)
    _journal(handle)
    forget_runs()
    opened, matching = open_store(store), Matching()
    assert matching.match_all(opened) == []
    (hint,) = opened.list(keys.SUBSCRIBED)
    opened.delete(hint)
    send_event(opened, "invoice.paid", {"order": 5})
    opened.create(hint, b"")
    assert [one.exec_id for one in matching.match_all(opened)] == [handle.exec_id]
    assert opened.list(keys.SUBSCRIBED) == []


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize("place", [keys.SUBSCRIBED, "x/"])
def test_no_event_is_missed_while_a_wait_registers(
    monkeypatch: pytest.MonkeyPatch, store: str, place: str, is_read: bool
) -> None:
    """Let an event pass completely before the subscription, or before the request, is written."""
    create = SqliteStore.create

    def race(self: SqliteStore, key: str, value: bytes) -> bool:
        is_next = key.startswith(place) and key.endswith(("/event", "/request"))
        if is_next and create(self, "raced", b""):
            send_event(open_store(store), "invoice.paid", {"order": 9})
        return create(self, key, value)

    monkeypatch.setattr(SqliteStore, "create", race)
    if not is_read:
        monkeypatch.setattr(Journal, "look_for_event", lambda self, request: None)
    handle = paying.run(9)
    assert handle.settle() == ("completed" if is_read else "waiting")
    opened = open_store(store)
    assert opened.get("raced") is not None and len(KitaruClient().events.list()) == 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"event": "a/b"}, "cannot be the name of an event"),
        ({"match": {"a": [1]}}, "match={'a': [1]} is not valid"),
        ({"match": "a"}, "match='a' is not valid"),
        ({"where": "data.a >"}, "at line 1, column 9: mismatched input"),
        ({"where": "amount > 1"}, "at line 1, column 1: there is no amount"),
        ({"where": "data.a && f(data)"}, "at line 1, column 11: there is no function f"),
        ({"where": "data.a.all(x, x.all(y, y))"}, "at line 1, column 17: at most one of all"),
        ({"where": f"'{'a' * 3000}' == ''"}, "more than 2,048 characters"),
        ({"where": ""}, "'' is not an expression"),
        ({"since": 5}, "since=5 is not a valid time"),
        ({"default": 1}, "has a default, and no deadline"),
        ({"name": "a b"}, "cannot be the name of a wait"),
    ],
)
def test_arguments_are_checked(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(errors.FlowError) as raised:
        refused.run(**asked).wait()
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("name", "data", "id", "said"),
    [
        ("a b", 1, None, "cannot be the name of an event"),
        ("a", {1: 2}, None, "is not valid JSON data"),
        ("a", "x" * 300_000, None, "more than 262,144"),
        ("a", 1, "", "cannot be the id of an event"),
        ("a", 1, "a\nb", "cannot be the id of an event"),
    ],
)
def test_what_is_sent_is_checked(name: str, data: Any, id: str | None, said: str) -> None:
    with pytest.raises(errors.UsageError, match=said):
        KitaruClient().events.send(name, data, id=id)


def test_functions_of_expressions_exist() -> None:
    from kitaru.wire.expressions import check_expression, is_true

    for expression in (
        "data.l.exists(i, i.n > 1) && size('all(x)') == 6",
        "string(1) == '1' && int('2') == 2 && double(1) == 1.0 && uint(1) == 1u",
        "'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c') && 'a'.matches('a')",
        "timestamp(at) - duration('1h') < timestamp(at) && timestamp(at).getFullYear() == 2026",
        "has(data.l) && bytes('a') == b'a'",
        "timestamp(at).getHours() == 3 && timestamp(at).getMinutes() == 4",
        "timestamp(at).getMonth() == 0 && timestamp(at).getDate() == 2",
        "name == 'a.b' && id.size() == 1",
    ):
        context = {
            "data": {"l": [{"n": 2}]},
            "name": "a.b",
            "id": "7",
            "at": "2026-01-02T03:04:00Z",
        }
        assert is_true(check_expression(expression), context), expression
