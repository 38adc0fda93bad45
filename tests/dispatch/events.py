"""Events in virtual time: senders, sequencers, waiters, kills, late writes and old lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from kitaru.ops import events as ops
from kitaru.runtime.journal import events
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.wire import keys
from kitaru.wire.envelope import decode
from kitaru.wire.events import event_digest
from kitaru.wire.records import EventEntry, WaitAnswer, WaitRequest
from kitaru.wire.times import later, now
from tests.dispatch.world import EXPIRED, Report, Violation, World, simulate
from tests.simulation import service
from tests.simulation.service import opened

# A wait for an event by its values, by an expression, for any event, and with a deadline.
_KINDS = ("match", "where", "any", "expires")
_NAME, _ALL = "thing.happened", "everybody.hears"


class EventWorld(World):
    """Executions that wait for events, and people who send them, some of them twice."""

    def __init__(self, seed: int, *, keeps_trace: bool = False) -> None:
        super().__init__(seed, keeps_trace=keeps_trace)
        self.kinds = {wait: self.chance.choice(_KINDS) for wait in self.kinds}
        self.sent: dict[str, Any] = {}
        self.end = 6_000.0

    def _request(self, exec_id: str, wait: str) -> WaitRequest:
        kind = self.kinds[exec_id, wait]
        place = f"{exec_id}/{wait}"
        asked = {
            "name": _ALL if kind == "any" else _NAME,
            "match": {} if kind in ("any", "where") else {"to.place": place},
            "where": f"data.to.place == '{place}'" if kind == "where" else "",
            "since": "",
        }
        deadline = later(now(), self.chance.choice([1.0, 30.0, 300.0]))
        return WaitRequest(
            wait, "", {}, asked_at=now(), kind="event", event=asked, default=(EXPIRED,),
            deadline=deadline if kind == "expires" else "",
        )  # fmt: skip

    def _answer_later(self, exec_id: str, wait: str, value: Any) -> None:
        """Send the event that a wait asks for as soon as it asks; two people may send it."""
        id, kind = f"{exec_id}.{wait}", self.kinds[exec_id, wait]
        for _ in range(self.chance.choice([1, 1, 2])):
            self._persist(lambda: self.send(exec_id, wait, id, _ALL if kind == "any" else _NAME))
        if self.chance.random() < 0.5:
            self._persist(lambda: self.send(exec_id, wait, f"{id}.other", _NAME, before=True))

    def send(self, exec_id: str, wait: str, id: str, name: str, *, before: bool = False) -> None:
        """Send an event, as `kitaru events send` does, and send it again if that failed."""
        store = opened(self.service)
        if before:
            self.run.block(self.chance.uniform(1.0, 300.0))
        else:
            self._until(lambda: store.get(keys.wait_request(exec_id, wait)) is not None)
        data = {"to": {"place": "nowhere" if before else f"{exec_id}/{wait}"}, "id": id}
        delivers = self.chance.random() < 0.3

        def is_sent() -> bool:
            ops.send_event(store, name, data, id=id, delivers=delivers)
            return True

        self._until(is_sent)
        self.sent[event_digest(name, id)] = data

    def _left(self) -> list[str]:
        # A sender that was killed before its event leaves the hint. It costs a look.
        stored = self.service.objects
        left = [
            one
            for one in super()._left()
            if not (one.startswith(keys.due_events()) and not self._is_known(one))
        ]
        return [*left, *(one for one in self._order() if stored.get(keys.event(one)) is None)]

    def _is_known(self, hint: str) -> bool:
        cause = keys.due_parts(hint)[2]
        kind, _, what = cause.partition("-")
        place = keys.event(what) if kind == "n" else keys.event_entry(int(what))
        return self.service.objects.get(place) is not None

    def _order(self) -> list[str]:
        """Return the digests of the log's events in order."""
        found, number = list[str](), 1
        while (data := self.service.objects.get(keys.event_entry(number))) is not None:
            entry = decode(keys.event_entry(number), data)
            assert isinstance(entry, EventEntry)
            found += [digest for digest, _ in entry.events]
            number += 1
        return found

    def check(self) -> None:
        """Raise Violation if an event was lost or doubled, or a wait has another than the first."""
        order = self._order()
        if len(order) != len(set(order)):
            raise Violation(f"events are in the log twice: {order}")
        if lost := self.sent.keys() - set(order):
            raise Violation(f"events were acknowledged and are not in the log: {lost}")
        records = RecordStore(self.service.objects)
        for exec_id, number in self.waits.items():
            for wait in (f"w{one}" for one in range(number if self._has_completed(exec_id) else 0)):
                self._check_wait(records, exec_id, wait)
        super().check()

    def _check_wait(self, records: RecordStore, exec_id: str, wait: str) -> None:
        request = records.read(WaitRequest, keys.wait_request(exec_id, wait))
        answer = records.read(WaitAnswer, keys.wait_answer(exec_id, wait, 1))
        assert request is not None and answer is not None
        if self._used(exec_id, wait) != answer.value:
            raise Violation(f"{wait} of {exec_id} has a value that is not its answer")
        if answer.kind == "expired":
            if not request.deadline:
                raise Violation(f"{wait} of {exec_id} expired and has no deadline")
            return
        first, _ = events.first_match(records, request)
        if first is None or first.data != answer.value:
            raise Violation(f"{wait} of {exec_id} got {answer.value}, and the first is {first}")


def _hint_of(*_: Any) -> str:
    return "other/hint"


MUTANTS: dict[str, Callable[[], list[AbstractContextManager[object]]]] = {
    "an event has no hint": lambda: [patch.object(ops.keys, "due_event", _hint_of)],
}


def play(
    seed: int,
    wrong: Sequence[AbstractContextManager[object]] = (),
    **more: Any,
) -> Report:
    """Run a seed. Lists of subscriptions and of the log may be old, as those of hints."""
    is_old = service._may_be_old

    def may_be_old(prefix: str) -> bool:
        return is_old(prefix) or prefix.startswith((keys.SUBSCRIBED, "event/"))

    with patch.object(service, "_may_be_old", may_be_old):
        return simulate(seed, wrong=wrong, make=EventWorld, **more)
