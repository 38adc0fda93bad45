"""Events in virtual time: senders, sequencers, waiters, kills, late writes and old lists.

Some executions fail, which starts another flow, while a dispatcher with channels deletes the hints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import count
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from kitaru.errors import EnvironmentFailure, KitaruError
from kitaru.ops import events as ops
from kitaru.ops import notifications, triggers
from kitaru.runtime.journal import events, rounds, subscriptions
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.launches import recall
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.subscriptions import newest_entry
from kitaru.wire import keys
from kitaru.wire.events import FAILED, event_digest
from kitaru.wire.ids import triggered_execution_id
from kitaru.wire.plan import Parameter
from kitaru.wire.records import (
    EndRecord,
    ErrorInfo,
    EventEntry,
    EventRecord,
    LaunchRecord,
    StateRecord,
    WaitAnswer,
    WaitRequest,
)
from kitaru.wire.structs import replace
from kitaru.wire.times import later, now
from tests.dispatch.world import EXPIRED, Report, Violation, World, execution, simulate
from tests.simulation import service
from tests.simulation.service import opened

# A wait for an event by its values, by an expression, for any event, and with a deadline.
_KINDS = ("match", "where", "any", "expires")
_NAME, _ALL = "thing.happened", "everybody.hears"
# Events that start executions of a flow, and that cancel them.
_STARTS, _GONE = "thing.wanted", "thing.gone"
_FLOW = "wanted"
# The flow that starts when an execution of that flow fails, and executions that fail.
_HANDLER = "tell"
_FAILING = ("f0", "f1", "f2")
# When an event comes that cancels: before the start, after it, or about then.
_MOMENTS = ("before", "after", "about")


class EventWorld(World):
    """Executions that wait for events, and people who send them, some of them twice."""

    def __init__(self, seed: int, *, keeps_trace: bool = False) -> None:
        super().__init__(seed, keeps_trace=keeps_trace)
        self.kinds = {wait: self.chance.choice(_KINDS) for wait in self.kinds}
        self.sent: dict[str, Any] = {}
        self.end = 6_000.0
        self.version = 0
        # Nobody answers the wait of an execution that is cancelled after its start.
        self.moments = {f"c{one}": moment for one, moment in enumerate(_MOMENTS)}
        for exec_id, moment in self.moments.items():
            self.children[exec_id] = {}
            self.waits[exec_id] = 0 if moment == "before" else 1
            self.kinds[exec_id, "w0"] = "match"
        self.unanswered.add(self._of("after"))

    def _of(self, moment: str) -> str:
        return next(one for one, found in self.moments.items() if found == moment)

    def play(self) -> None:
        """Start everything. Versions are deployed, and events start executions meanwhile."""
        self._persist(self.deploy)
        for number in range(self.chance.randrange(2, 6)):
            id, is_wanted = f"start {number}", self.chance.random() < 0.8
            for _ in range(self.chance.choice([1, 1, 2])):
                self._persist(lambda id=id, wanted=is_wanted: self.want(id, wanted))  # type: ignore[misc]
        for exec_id in self.moments:
            self._persist(lambda exec_id=exec_id: self.forget(exec_id))  # type: ignore[misc]
        for exec_id in _FAILING:
            self._persist(lambda exec_id=exec_id: self.fail(exec_id))  # type: ignore[misc]
        self.forever(self.notify)
        super().play()

    def deploy(self) -> None:
        """Move the tag `default` of the flow that events start, twice, as `kitaru deploy` does."""
        store = opened(self.service)
        for _ in range(self.version, 2):
            self.run.block(self.chance.uniform(0.0, 60.0))
            self.version += 1
            self._until(lambda: triggers.declare_events(store, _FLOW) or True)
        self._until(lambda: triggers.declare_events(store, _FLOW) or True)

    def want(self, id: str, wanted: bool) -> None:
        """Send an event that starts an execution, if a version is deployed, and if it is wanted."""
        self.run.block(self.chance.uniform(0.0, 120.0))
        self._sent(_STARTS, id, {"wanted": wanted, "place": id})

    def forget(self, exec_id: str) -> None:
        """Send an event that cancels an execution, at its moment."""
        store = opened(self.service)
        if self.moments[exec_id] == "after":
            self._until(lambda: store.get(keys.launch(exec_id)) is not None)
        self.run.block(self.chance.uniform(0.0, 60.0))
        self._sent(_GONE, exec_id, {"id": exec_id})

    def fail(self, exec_id: str) -> None:
        """Fail, as an execution of the flow that events start does, after its deployment."""
        store = opened(self.service)
        self._until(lambda: newest_entry(RecordStore(store)) is not None)
        self.run.block(self.chance.uniform(0.0, 120.0))

        def has_failed() -> bool:
            made = replace(execution(exec_id, "", "", None), flow=_FLOW)
            Journal.create(store, made).set_state("failed", ErrorInfo("E", "no"))
            return True

        self._until(has_failed)

    def notify(self) -> None:
        """Delete hints of failures, as a dispatcher does whose channels have accepted them."""
        store = opened(self.service)
        found = notifications.Notifier(store, ())
        while True:
            with suppress(KitaruError):
                listed = store.list(keys.NEWS)
                found._events.refresh()
                for key in listed:
                    exec_id, _, _, subject = keys.news_parts(key)
                    if store.get(keys.state(exec_id, int(subject))) is not None:
                        found._drop(key)
            # More often than the others: it would be the first to see a hint.
            self.run.block(self.chance.uniform(1.0, 5.0))

    def _sent(self, name: str, id: str, data: Any) -> None:
        store, delivers = opened(self.service), self.chance.random() < 0.3

        def is_sent() -> bool:
            ops.send_event(store, name, data, id=id, delivers=delivers)
            return True

        self._until(is_sent)
        self.sent[event_digest(name, id)] = data

    def _invoked(self, store: Any, exec_id: str) -> bool:
        if self.moments.get(exec_id) == "before":
            # Its event has a place in the log.
            placed = store.get(keys.event_place(event_digest(_GONE, exec_id)))
            if placed is None and event_digest(_GONE, exec_id) not in self._order():
                raise EnvironmentFailure("the event has not come yet")
        return super()._invoked(store, exec_id)

    def _launch(self, exec_id: str) -> LaunchRecord:
        if exec_id not in self.moments:
            return super()._launch(exec_id)
        where = "data.id == input.id" if self.kinds[exec_id, "w0"] == "match" else ""
        cancels = {
            "events": [{"name": _GONE, "match": {"id": exec_id}, "where": where}],
            "defaults": {"id": exec_id},
        }
        return LaunchRecord("flow", {}, 1, cancel_on=cancels)

    def _may_be_cancelled(self) -> set[str]:
        ends = {self._of("after"), self._of("about")}
        return super()._may_be_cancelled() | ends

    def plan(self, version: Any) -> Any:
        """Return the plan of a version of the flow that events start, or of the handler."""
        if version.flow == _HANDLER:
            failed = Parameter("exec_id", "positional_or_keyword", "str", "str", True, False)
            return SimpleNamespace(events={}, parameters=(failed,))
        events = {"on": [_STARTS], "where": "data.wanted", "cancel_on": [], "on_failure": _HANDLER}
        place = Parameter("place", "positional_or_keyword", "str", "str", True, False)
        return SimpleNamespace(events={**events, "number": version.number}, parameters=(place,))

    def deployments(self) -> Any:
        """Return the deployed versions: the tag `default` points to the newest."""

        def get(name: str) -> Any:
            flow, _, wanted = name.partition("@")
            number = self.version if wanted in ("", "default") else int(wanted[1:])
            return SimpleNamespace(number=number, flow=flow)

        return SimpleNamespace(get=get)

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
        self._sent(name, id, data)

    def _left(self) -> list[str]:
        # A sender that was killed before its event leaves the hint. It costs a look.
        stored = self.service.objects
        left = [
            one
            for one in super()._left()
            if not (one.startswith(keys.due_events()) and not self._is_known(one))
        ]
        left += [one for one in self._order() if stored.get(keys.event(one)) is None]
        for id in self._handlers():
            is_announced = stored.get(f"{keys.NEWS}{id}") is not None
            if not is_announced and stored.get(keys.event(event_digest(FAILED, id))) is None:
                raise Violation(f"the hint {id} was deleted before its event was sent")
        started = [*self._started(), *self._handlers().values()]
        left += [one for one in started if stored.get(keys.end(one)) is None]
        return left + [one for one in _FAILING if not self._failures(one)]

    def _failures(self, exec_id: str) -> list[StateRecord]:
        records = RecordStore(self.service.objects)
        found = records.read_all(StateRecord, self.service.objects.list(keys.states(exec_id)))
        return [one for one in found if one.status == "failed"]

    def _handlers(self) -> dict[str, str]:
        """Return the execution that each failure starts, by the failure."""
        ids = {
            f"{exec_id}/f-{state.number:08d}"
            for exec_id in _FAILING
            for state in self._failures(exec_id)
        }
        return {id: triggered_execution_id(_HANDLER, event_digest(FAILED, id)) for id in ids}

    def _started(self) -> list[str]:
        """Return the executions of the flow that events start."""
        ids = (triggered_execution_id(_FLOW, one) for one in self._order())
        return [one for one in ids if self.service.objects.get(keys.launch(one)) is not None]

    def _is_known(self, hint: str) -> bool:
        cause = keys.due_parts(hint)[2]
        kind, _, what = cause.partition("-")
        place = keys.event(what) if kind == "n" else keys.event_entry(int(what))
        return self.service.objects.get(place) is not None

    def _order(self) -> list[str]:
        """Return the digests of the log's events in order."""
        return [digest for entry in self._entries() for digest, _ in entry.events]

    def _entries(self) -> list[EventEntry]:
        records = RecordStore(self.service.objects)
        head = newest_entry(records)
        numbers = range(1, 1 if head is None else head.number + 1)
        return records.read_all(EventEntry, [keys.event_entry(one) for one in numbers])

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
        self._check_starts(records)
        self._check_handlers()
        for exec_id, moment in self.moments.items():
            self._check_cancel(records, exec_id, moment)
        super().check()

    def _check_starts(self, records: RecordStore) -> None:
        """Raise Violation unless each wanted event started one execution, of its version."""
        wanted: dict[str, int] = {}
        for entry in self._entries():
            held = triggers.triggers_of(records, entry).get(_FLOW)
            for digest, name in entry.events:
                event = records.read(EventRecord, keys.event(digest))
                assert event is not None
                if held is not None and name == _STARTS and event.data["wanted"]:
                    wanted[triggered_execution_id(_FLOW, digest)] = held["version"]
        launched = {
            key.split("/")[1]: recall(self.service.objects, key.split("/")[1])
            for key in self.service.objects.list("x/")
            if key.endswith("/launch")
        }
        found = {
            one: launch.deployment
            for one, launch in launched.items()
            if launch is not None and launch.flow == _FLOW
        }
        if found != wanted:
            raise Violation(f"events started {found}, not {wanted}")

    def _check_handlers(self) -> None:
        """Raise Violation unless each failure started one execution of the handler."""
        wanted = {one: {"exec_id": id.partition("/")[0]} for id, one in self._handlers().items()}
        places = [key.split("/")[1] for key in self.service.objects.list("x/")]
        launched = {one: recall(self.service.objects, one) for one in places}
        found = {
            one: launch.inputs
            for one, launch in launched.items()
            if launch is not None and launch.flow == _HANDLER
        }
        if found != wanted:
            raise Violation(f"failures started {found}, not {wanted}")

    def _check_cancel(self, records: RecordStore, exec_id: str, moment: str) -> None:
        launch = recall(self.service.objects, exec_id)
        end = records.read(EndRecord, keys.end(exec_id))
        assert launch is not None and end is not None
        event, _ = events.first_cancel(records, launch, 0)
        if end.status == "cancelled" and (moment == "before" or event is None):
            raise Violation(f"{exec_id} was cancelled by an event before its start: {end.by}")
        if moment == "after" and (event is None or end.by != f"event {_GONE}/{exec_id}"):
            raise Violation(f"{exec_id} was not cancelled by its event: {end}")

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


_numbers = count(1)


def _hint_of(*_: Any) -> str:
    return "other/hint"


def _own_id(*_: Any) -> str:
    return f"own{next(_numbers)}"


MUTANTS: dict[str, Callable[[], list[AbstractContextManager[object]]]] = {
    "an event has no hint": lambda: [patch.object(ops.keys, "due_event", _hint_of)],
    "an entry has no hint": lambda: [patch.object(ops.keys, "due_entry", _hint_of)],
    "a start has an id of its own": lambda: [
        patch.object(triggers, "triggered_execution_id", _own_id),
        patch.object(triggers.keys, "event_effect", lambda *_: f"other/{next(_numbers)}"),
    ],
    "events cancel from the first one": lambda: [patch.object(events, "_from", lambda launch: 1)],
    "a hint is deleted before its event": lambda: [
        patch.object(
            notifications.Notifier, "_drop", lambda self, key: rounds.drop(self.store, key)
        )
    ],
    "a start subscribes to nothing": lambda: [
        patch.object(subscriptions, "subscribe_cancels", lambda store, exec_id, launch: None)
    ],
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

    worlds: list[EventWorld] = []

    def make(seed: int, **options: Any) -> EventWorld:
        worlds.append(EventWorld(seed, **options))
        return worlds[-1]

    with (
        patch.object(service, "_may_be_old", may_be_old),
        patch.object(triggers, "Deployments", lambda store: worlds[0].deployments()),
        patch.object(triggers, "plan_of", lambda store, version: worlds[0].plan(version)),
    ):
        return simulate(seed, wrong=wrong, make=make, **more)
