"""What events do to flows: start their deployed version, and cancel their executions.

Which flows events start is a part of the log of events. An entry names the flows that its events
start, each with a version and a condition, so each event is judged by exactly one definition,
however often and by whom. A move of the tag `default` appends an entry without events.

    declare      event/triggers/<digest>, then event/log/<k> that names it
    start        hint, x/<execution of flow and event>/launch, then event/effect/<event>/…
    cancel       subscribed/<name>/<values>/<execution>/.cancel.<i>, then the launch with `from`

A start is done once: the id of the execution is that of flow and event. After the launch, the note
of the effect says that it was done, also when the execution was removed.

An execution that fails or asks is an event, too, if a flow declares what it starts; see
`kitaru.ops.execution_events`. `on_failure` and `on_waiting` of its flow name a flow and a tag,
which the launch resolves.

Events cancel an execution from the entry `from` on, which was free when the execution was started.
As for a wait, all who compute the first event that fits find the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kitaru.errors import EnvironmentFailure, InputError, NotFound, RecordCorrupt, StateError
from kitaru.ops.cancel import cancel_execution
from kitaru.ops.event_log import append
from kitaru.ops.submit import plan_of
from kitaru.runtime.executions.deployments import DEFAULT_TAG, Deployment, Deployments, parse
from kitaru.runtime.journal import events as log
from kitaru.runtime.journal import launches, rounds
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.states import read_end
from kitaru.runtime.journal.subscriptions import cancel_hints, newest_entry
from kitaru.wire import canonical, expressions, keys
from kitaru.wire.actors import acting_as, actor
from kitaru.wire.events import event_digest
from kitaru.wire.flow_events import HANDLERS, FlowEvents, recorded_cancels, started_inputs
from kitaru.wire.ids import triggered_execution_id
from kitaru.wire.records import EventEffect, EventEntry, EventRecord, LaunchRecord
from kitaru.wire.times import later, now

if TYPE_CHECKING:
    from kitaru.stores.base import Store

_BEFORE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """What events do to the version of a flow with the tag `default`."""

    flow: str
    version: int
    events: FlowEvents

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON that the commands print for a trigger."""
        return {"flow": self.flow, "version": f"v{self.version}", **self.events.to_json()}

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> Trigger:
        """Return the trigger of a document of `to_dict`, such as that of a service."""
        version = int(document["version"].lstrip("v"))
        return Trigger(document["flow"], version, FlowEvents.from_json(document))


@dataclass(frozen=True, slots=True)
class Delivery:
    """What an event did to an execution.

    `kind` is `answer`, of its wait `wait`, `start`, `cancel`, or `refuse` if it could not start
    it, and `why`.
    """

    event: str
    id: str
    exec_id: str
    wait: str = ""
    kind: str = "answer"
    flow: str = ""
    why: str = ""


def list_triggers(store: Store, flow: str | None = None) -> list[Trigger]:
    """Return what events do to the deployed flows, by flow; only to `flow` if it is passed."""
    records = RecordStore(store)
    found = triggers_of(records, newest_entry(records))
    return [
        Trigger(name, one["version"], FlowEvents.from_json(one))
        for name, one in sorted(found.items())
        if flow in (None, name)
    ]


def triggers_of(records: RecordStore, entry: EventEntry | None) -> dict[str, Any]:
    """Return the flows that the events of an entry start, each with its version and condition."""
    if entry is None or not entry.triggers:
        return {}
    key = keys.event_triggers(entry.triggers)
    data = records.store.get(key)
    try:
        found = json.loads(data) if data is not None and _digest(data) == entry.triggers else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise RecordCorrupt(f"The stored object {key} is missing or damaged.")
    return found


def declare_events(store: Store, flow: str) -> None:
    """Let events do what the version of a flow with the tag `default` declares.

    Called when that tag moves. Events that have their place in the log already started the version
    before.
    """
    records = RecordStore(store)
    while True:
        version = Deployments(store).get(f"{flow}@{DEFAULT_TAG}")
        events = plan_of(store, version).events
        head = newest_entry(records)
        held = triggers_of(records, head)
        wanted = {"version": version.number, **events} if events else None
        if wanted is not None and is_about_executions(wanted):
            # What happened long before is no news. Clocks may differ by minutes.
            since = held.get(flow, {}).get("since")
            wanted["since"] = since or later(now(), -_BEFORE_SECONDS)
        if held.get(flow) != wanted:
            others = {name: one for name, one in held.items() if name != flow}
            made = others if wanted is None else {**others, flow: wanted}
            if not append(records, head, triggers=_stored(store, made)):
                continue
        # Another process may have moved the tag meanwhile.
        if Deployments(store).get(f"{flow}@{DEFAULT_TAG}").number == version.number:
            return


def is_about_executions(trigger: Mapping[str, Any]) -> bool:
    """Return whether a flow declares what an execution starts that fails or asks."""
    return any(trigger.get(option) or name in trigger["on"] for option, name in HANDLERS.items())


def start_by_event(
    records: RecordStore, event: EventRecord, flow: str, trigger: Mapping[str, Any]
) -> list[Delivery]:
    """Start what an event starts by what a flow declares, once; return what was not done before.

    Raises:
        EnvironmentFailure: the library for conditions is missing, or the store failed.
    """
    found = list[Delivery | None]()
    for option, name in HANDLERS.items():
        # The event is one of an execution of the flow that declares it.
        if event.name == name and trigger.get(option) and event.data["flow"] == flow:
            handler, wanted = parse(trigger[option])
            tag = wanted if isinstance(wanted, str) else ""
            found.append(_start(records, event, handler, trigger[option], tag))
    is_true = event.name in trigger["on"] and (
        not trigger["where"] or expressions.is_true(trigger["where"], log.as_context(event))
    )
    if is_true:
        version = f"{flow}@v{trigger['version']}"
        found.append(_start(records, event, flow, version, DEFAULT_TAG))
    return [one for one in found if one is not None]


def _start(
    records: RecordStore, event: EventRecord, flow: str, version: str, tag: str
) -> Delivery | None:
    store, digest = records.store, event_digest(event.name, event.id)
    exec_id = triggered_execution_id(flow, digest)
    note = keys.event_effect(digest, exec_id, "start")
    if store.get(note) is not None:
        return None
    number, kind, why = 0, "start", ""
    try:
        # Another process may have started it, from the version that had the tag then.
        launch = launches.recall(store, exec_id)
        if launch is None:
            deployed = Deployments(store).get(version)
            number = deployed.number
            launch = launch_of(store, event, deployed, tag)
            # It has been removed by `kitaru store gc` meanwhile: then it has run.
            with suppress(StateError):
                launch = launches.record_launch(store, exec_id, launch)
        number = launch.deployment
    except (InputError, NotFound) as error:
        # For a version, it is the same whenever it is tried. A tag that does not exist is late.
        kind, why = "refuse", error.message
    records.write(note, EventEffect(kind, exec_id, flow, now(), number, why))  # type: ignore[arg-type]
    return Delivery(event.name, event.id, exec_id, kind=kind, flow=flow, why=why)


def launch_of(store: Store, event: EventRecord, version: Deployment, tag: str) -> LaunchRecord:
    """Return what the execution is started from that an event starts.

    Raises InputError if the event's data does not fit the inputs of the version.
    """
    from kitaru_targets.common import parameters

    plan = plan_of(store, version)
    inputs = started_inputs(plan.parameters, log.as_context(event), event.data)
    parameters.values(plan, inputs)
    return LaunchRecord(
        version.flow, inputs, version.number, tag=tag, event=f"{event.name}/{event.id}",
        cancel_on=recorded_cancels(plan.events, plan.parameters, inputs),
    )  # fmt: skip


def cancel_by_events(
    records: RecordStore, key: str, which: int, start: int, event: EventRecord | None
) -> tuple[Delivery | None, int]:
    """Cancel the execution of a hint if an event does; delete the hint of one that has ended.

    Args:
        which: the number of the pattern among those of the execution.
        start: entries before this number are known not to contain such an event.
        event: nothing is cancelled unless this event fits.

    Returns what was done, and the number of the next entry to look at.
    """
    store, exec_id = records.store, key.split("/")[-2]
    launch = launches.recall(store, exec_id)
    if launch is None:
        # Its process is about to write it.
        return None, start
    if key not in cancel_hints(exec_id, launch):
        # A start with other inputs that lost.
        rounds.drop(store, key)
        return None, start
    if event is not None and not log.cancels(launch, which, event):
        return None, start
    end = read_end(records, exec_id)
    if end is not None or store.get(keys.garbage(exec_id)) is not None:
        if event is not None and end is not None and end.by == _by(event):
            _note_cancel(records, event, launch, exec_id)
        rounds.drop(store, key)
        return None, start
    found, number = log.first_cancel(records, launch, which, start)
    if found is None:
        return None, number
    done = _cancelled(records, found, launch, exec_id)
    rounds.drop(store, key)
    return done, number


def _cancelled(
    records: RecordStore, event: EventRecord, launch: LaunchRecord, exec_id: str
) -> Delivery | None:
    store = records.store
    with acting_as(f"event {event.name}/{event.id}"):
        try:
            cancel_execution(store, exec_id)
        except StateError:
            # It has completed meanwhile.
            return None
        except EnvironmentFailure:
            # If it is cancelled and its orchestrator does not answer, its run ends by itself.
            if read_end(records, exec_id) is None:
                raise
    end = read_end(records, exec_id)
    if end is None or end.by != _by(event):
        return None
    _note_cancel(records, event, launch, exec_id)
    return Delivery(event.name, event.id, exec_id, kind="cancel", flow=launch.flow)


def _note_cancel(
    records: RecordStore, event: EventRecord, launch: LaunchRecord, exec_id: str
) -> None:
    digest = event_digest(event.name, event.id)
    note = EventEffect("cancel", exec_id, launch.flow, now())
    records.write(keys.event_effect(digest, exec_id, "cancel"), note)


def _by(event: EventRecord) -> str:
    """Return who cancels, as the end of the execution records it."""
    with acting_as(f"event {event.name}/{event.id}"):
        return actor()


def _stored(store: Store, triggers: Mapping[str, Any]) -> str:
    """Store the flows that events start, and return their digest; empty for none."""
    if not triggers:
        return ""
    data = canonical.dumps(triggers)
    digest = _digest(data)
    create_or_read(store, keys.event_triggers(digest), data)
    return digest


def _digest(data: bytes) -> str:
    return canonical.sha256(data).removeprefix("sha256:")
