"""Schedules: start a deployed flow at the instants of a cron expression, without a server.

A schedule is a log of entries, numbered without gaps. The newest entry contains the whole state:
the definition, and the instant up to which all is decided. A tick and a change of the definition
both need the next number, so no tick of an old definition follows a change. The process that
creates an entry has decided; a process that loses reads the winner.

Before an entry is created, a hint below `due/` is created at the instant of the next tick. A
dispatcher that finds a hint for the entry k looks at entry k + 1: it decides it if it is absent and
due, executes it, and only then deletes the hint. The id of an execution consists of schedule and
instant, so a tick that is executed twice starts one execution.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from kitaru import hints
from kitaru.errors import (
    EnvironmentFailure,
    InputError,
    NotFound,
    StateError,
    UsageError,
)
from kitaru.ops.cancel import cancel
from kitaru.ops.submit import cancels_of, plan_of
from kitaru.runtime.executions.deployments import DEFAULT_TAG, Deployment, Deployments, parse
from kitaru.runtime.journal import launches, rounds
from kitaru.runtime.journal.audit import Action, audited
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.numbered_logs import newest
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.states import read_end, read_state
from kitaru.wire import keys
from kitaru.wire.actors import actor
from kitaru.wire.cron import (
    Catchup,
    Overlap,
    check_catchup,
    check_cron,
    check_overlap,
    check_timezone,
    instants,
    newest_instants,
    next_instant,
)
from kitaru.wire.ids import scheduled_execution_id
from kitaru.wire.names import suggestion
from kitaru.wire.records import ExecutionRecord, LaunchRecord, ScheduleEntry
from kitaru.wire.structs import replace
from kitaru.wire.times import later, now, written

if TYPE_CHECKING:
    from kitaru.stores.base import Store

# Missed instants that `catchup="all"` starts, and instants that may wait in a queue.
MOST_MISSED = 100
MOST_QUEUED = 100
# An instant that is decided later than this was missed.
LATE = timedelta(minutes=5)
# How often a dispatcher looks whether the execution has ended that a queue waits for.
_POLL_SECONDS = 10
_COUNTED = 1_000
# Entries that are kept. A list that is out of date must lead to one of them.
_KEPT = 2_000
_RESTORED = 10
_THREADS = 8
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule, as its newest entry describes it.

    Attributes:
        entry: the newest entry.
        next: the next instants, ascending; empty if it is paused.
        runs: the newest ticks and starts by a person, newest first.
    """

    entry: ScheduleEntry
    next: tuple[str, ...] = ()
    runs: tuple[ScheduleEntry, ...] = ()

    @property
    def id(self) -> str:
        """Id of the schedule."""
        return self.entry.schedule

    @property
    def name(self) -> str:
        """The version that it starts, such as `review@stable`."""
        return f"{self.entry.flow}@{self.entry.version}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON that the commands print for a schedule."""
        entry = self.entry
        return {
            "id": entry.schedule,
            "flow": entry.flow,
            "version": entry.version,
            "cron": entry.cron,
            "timezone": entry.timezone,
            "inputs": entry.inputs,
            "overlap": entry.overlap,
            "catchup": entry.catchup,
            "status": entry.status,
            "declared": entry.declared,
            "queued": list(entry.queue),
            "next": list(self.next),
            "runs": [_run(one) for one in self.runs],
        }

    @staticmethod
    def from_dict(document: Mapping[str, Any]) -> Schedule:
        """Return the schedule of a document of `to_dict`, such as that of a service."""
        known = {name: document[name] for name in _SHARED}
        entry = ScheduleEntry(
            schedule=document["id"], number=0, kind="change", at="", last="", **known,
            queue=tuple(document["queued"]),
        )  # fmt: skip
        runs = (
            replace(_plain(entry), **{**one, "deployment": int(one["deployment"].lstrip("v") or 0)})
            for one in document["runs"]
        )
        return Schedule(entry, tuple(document["next"]), tuple(runs))


_SHARED = (
    "flow", "version", "cron", "timezone", "inputs", "overlap", "catchup", "status", "declared",
)  # fmt: skip


def _run(entry: ScheduleEntry) -> dict[str, Any]:
    return {
        "instant": entry.instant,
        "kind": entry.kind,
        "decision": entry.decision,
        "exec_id": entry.exec_id,
        "deployment": f"v{entry.deployment}" if entry.deployment else "",
        "why": entry.why,
        "skipped": entry.skipped,
        "at": entry.at,
        "by": entry.by,
    }


def create_schedule(
    store: Store,
    name: str,
    cron: str,
    *,
    timezone: str = "UTC",
    inputs: Mapping[str, Any] | None = None,
    overlap: Overlap = "skip",
    catchup: Catchup = "last",
    id: str | None = None,
) -> Schedule:
    """Create a schedule that starts a deployed flow.

    Args:
        name: `FLOW` (its tag `default`), `FLOW@TAG` or `FLOW@vN`. A tag is resolved at each tick.
        cron: five fields: minute, hour, day of month, month, day of week.
        timezone: IANA name of the time zone of `cron`.
        inputs: inputs of the executions, as JSON.
        overlap: what a tick does while the previous execution has not ended: `skip` it, `queue` it,
            `cancel` the previous execution, or `allow` both.
        catchup: which instants start that no dispatcher decided in time: `none`, the `last` one, or
            `all`, at most 100.
        id: id of the schedule, default the name of the flow.

    Raises:
        NotFound: the flow is not deployed, or has no such version or tag.
        UsageError: the expression, the zone, the id or a policy is not valid.
        InputError: an input is missing, unknown or of the wrong type.
        StateError: there is a schedule with this id.
    """
    found = Deployments(store).get(name)
    given = _checked_inputs(store, found, inputs or {})
    flow, version = parse(name)
    made = ScheduleEntry(
        schedule=_id_of(flow, id), number=0, kind="change", at="", last="", status="active",
        flow=flow, version=f"v{version}" if isinstance(version, int) else version,
        cron=check_cron(cron), timezone=check_timezone(timezone), inputs=given,
        overlap=check_overlap(overlap),
        catchup=check_catchup(catchup),
    )  # fmt: skip

    def next_entry(head: ScheduleEntry | None) -> ScheduleEntry:
        if head is not None and head.status != "deleted":
            raise StateError(
                f"There is a schedule {head.schedule}, of {head.flow}@{head.version}.",
                help="Set another id: --id ID. Or delete it: "
                + hints.command(store, "schedule", "delete", head.schedule),
            )
        return made

    with audited(store, "create schedule", made.schedule, flow=flow):
        return _shown(store, _change(store, made.schedule, next_entry))


def get_schedule(store: Store, id: str, *, ticks: int = 5, runs: int = 10) -> Schedule:
    """Return a schedule with its next ticks and its last runs. Raises NotFound."""
    return _shown(store, _existing(store, id), ticks=ticks, runs=runs)


def list_schedules(store: Store, flow: str | None = None, *, runs: int = 1) -> list[Schedule]:
    """Return the schedules of a store, or of one flow, by id."""

    def shown(key: str) -> Schedule | None:
        head = newest_entry(store, key.removeprefix(keys.SCHEDULES_LISTED))
        if head is None or head.status == "deleted" or flow not in (None, head.flow):
            return None
        return _shown(store, head, ticks=1, runs=runs)

    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(shown, store.list(keys.SCHEDULES_LISTED))
        return [one for one in found if one is not None]


def next_ticks(store: Store, id: str, count: int = 5) -> list[str]:
    """Return the next instants of a schedule, also of one that is paused, in UTC."""
    head = _existing(store, id)
    return list(islice(instants(head.cron, head.timezone, max(head.last, now())), count))


def pause_schedule(store: Store, id: str) -> Schedule:
    """Pause a schedule: its ticks do not start anything, and are not caught up later."""
    with _audited(store, "pause schedule", id):
        return _set_status(store, id, "paused")


def resume_schedule(store: Store, id: str) -> Schedule:
    """Resume a paused schedule from now on."""
    with _audited(store, "resume schedule", id):
        return _set_status(store, id, "active")


def delete_schedule(store: Store, id: str) -> None:
    """Delete a schedule. Its executions remain."""
    with _audited(store, "delete schedule", id):
        _delete(store, id)


def _delete(store: Store, id: str) -> None:
    def deleted(head: ScheduleEntry | None) -> ScheduleEntry:
        return replace(_known(store, id, head), status="deleted", queue=())

    _change(store, id, deleted)


def trigger_schedule(store: Store, id: str) -> ScheduleEntry:
    """Start an execution of a schedule now, also of one that is paused, whatever else runs.

    Raises:
        NotFound: there is no such schedule, or its flow has no such version or tag.
        InputError: the inputs are not those of the version.
    """
    with _audited(store, "trigger schedule", id):
        return _trigger(store, id)


def _trigger(store: Store, id: str) -> ScheduleEntry:
    while True:
        head = _known(store, id, newest_entry(store, id))
        found = Deployments(store).get(f"{head.flow}@{head.version}")
        _checked_inputs(store, found, head.inputs)
        number = head.number + 1
        made = replace(
            _plain(head), number=number, kind="trigger", at=now(), by=actor(), decision="start",
            instant=now(), deployment=found.number, exec_id=f"{id}-run-{number}",
            run=f"{id}-run-{number}",
        )  # fmt: skip
        # If this process is killed, a dispatcher starts the execution.
        hint = keys.due_tick(id, head.number)
        create_or_read(store, hint, now().encode("ascii"))
        if _append(store, made):
            _execute(store, made)
            rounds.drop(store, hint)
            return made


def declare_schedule(store: Store, flow: str) -> Schedule | None:
    """Let the schedule of a flow be what the version with the tag `default` declares.

    Called when that tag moves. Returns the schedule, None if the version declares none.
    """
    id = _id_of(flow, None)
    while True:
        version = Deployments(store).get(f"{flow}@{DEFAULT_TAG}")
        wanted = _declared(store, version, id)
        head = newest_entry(store, id)
        exists = head is not None and head.status != "deleted"
        if head is not None and exists and (head.flow != flow or not head.declared):
            if wanted is None:
                return None
            raise StateError(
                f"{flow} declares a schedule, but there is a schedule {id} of "
                f"{head.flow}@{head.version} already.",
                help="Delete it, and deploy again: "
                + hints.command(store, "schedule", "delete", id),
            )
        if wanted is None and exists:
            _delete(store, id)
        elif wanted is not None and (not exists or head is None or _differs(head, wanted)):
            made = wanted if head is None or not exists else _redefined(head, wanted)
            _change(store, id, lambda _, made=made: made)  # type: ignore[misc]
        # Another process may have moved the tag meanwhile.
        if Deployments(store).get(f"{flow}@{DEFAULT_TAG}").number == version.number:
            return None if wanted is None else get_schedule(store, id)


def restore_hints(store: Store) -> list[tuple[str, bytes]]:
    """Return hints for all schedules of a restored store, which has none."""
    at, found = now().encode("ascii"), list[tuple[str, bytes]]()
    for one in list_schedules(store, runs=0):
        number = one.entry.number
        if (moment := _due_moment(one.entry)) is not None:
            found.append((keys.due_tick(one.id, number, moment), at))
        # The newest entries may not have been executed yet.
        places = range(max(1, number - _RESTORED), number)
        found += [(keys.due_tick(one.id, place), at) for place in places]
    return found


def fire(store: Store, id: str, due: Sequence[str]) -> list[ScheduleEntry]:
    """Decide and execute the ticks of a schedule that are due; return the new entries.

    Args:
        due: the hints of the schedule that were listed.

    Raises EnvironmentFailure if the store fails. The hints are then kept.
    """
    decided = list[ScheduleEntry]()
    for hint in sorted(due, key=keys.due_number):
        number = keys.due_number(hint)
        entry = _read(store, id, number + 1)
        if entry is None:
            head = newest_entry(store, id, number)
            if head is None or keys.due_parts(hint)[0] == 0:
                # The writer of entry `number`, or a person who starts an execution, is about to
                # create the entry, or was killed before.
                continue
            if head.number == number:
                made = _decided(store, head, now())
                if made is None:
                    _move_hint(store, head, hint)
                    continue
                if _append(store, made):
                    decided.append(made)
            # Another process may have created it meanwhile.
            entry = _read(store, id, number + 1)
        # Without an entry: it is one of the old entries that were deleted.
        if entry is None or _execute(store, entry):
            rounds.drop(store, hint)
    return decided


def newest_entry(store: Store, id: str, at_least: int = 0) -> ScheduleEntry | None:
    """Return the newest entry of a schedule; None before the first."""
    return newest(RecordStore(store), ScheduleEntry, keys.schedule_log(id), at_least)


def _decided(store: Store, head: ScheduleEntry, moment: str) -> ScheduleEntry | None:
    """Return the entry that follows at a moment, None if nothing is due."""
    if head.status != "active":
        return None
    base = replace(_plain(head), number=head.number + 1, kind="tick", at=moment, by="")
    running = _is_running(store, head.run)
    if head.queue and not running:
        first, *rest = head.queue
        return _start(store, replace(base, instant=first, queue=tuple(rest)))
    due = newest_instants(head.cron, head.timezone, head.last, moment, MOST_MISSED)
    if not due:
        return None
    chosen = _chosen(head.catchup, due, moment)
    base = replace(base, last=chosen or due[-1], instant=chosen or due[-1])
    base = _with_skipped(base, head.last, inclusive=not chosen)
    if not chosen:
        return replace(base, decision="skip", why="no dispatcher ran in time")
    if not running or head.overlap == "allow":
        return _start(store, base)
    if head.overlap == "cancel":
        return _start(store, replace(base, cancels=head.run))
    if head.overlap == "queue" and len(head.queue) < MOST_QUEUED:
        return replace(base, decision="queue", queue=(*head.queue, chosen))
    return replace(base, decision="skip", why=f"{head.run} has not ended")


def _chosen(catchup: Catchup, due: Sequence[str], moment: str) -> str:
    """Return the instant to start, empty if all were missed and are skipped."""
    if catchup == "all":
        return due[0]
    if catchup == "last":
        return due[-1]
    earliest = written(datetime.fromisoformat(moment) - LATE)
    return next((one for one in due if one >= earliest), "")


def _with_skipped(entry: ScheduleEntry, last: str, *, inclusive: bool) -> ScheduleEntry:
    """Return the entry with the instants after `last` that it passes over."""
    end = later(entry.instant, 60 if inclusive else 0)
    passed = takewhile(lambda one: one < end, instants(entry.cron, entry.timezone, last))
    found = list(islice(passed, _COUNTED))
    if not found:
        return entry
    (newest,) = newest_instants(entry.cron, entry.timezone, last, later(end, -1), 1)
    return replace(entry, skipped=len(found), skipped_from=found[0], skipped_to=newest)


def _start(store: Store, entry: ScheduleEntry) -> ScheduleEntry:
    """Return the entry as one that starts its version, or that records why it cannot."""
    try:
        found = Deployments(store).get(f"{entry.flow}@{entry.version}")
        _checked_inputs(store, found, entry.inputs)
    except (NotFound, InputError) as error:
        return replace(entry, decision="fail", why=error.message, cancels="")
    exec_id = scheduled_execution_id(entry.schedule, entry.instant)
    return replace(entry, decision="start", deployment=found.number, exec_id=exec_id, run=exec_id)


def _execute(store: Store, entry: ScheduleEntry) -> bool:
    """Do what an entry decided, once, however often it is called; return whether it is done."""
    if entry.decision != "start":
        return True
    if entry.cancels and _is_running(store, entry.cancels):
        if store.get(keys.execution(entry.cancels)) is None:
            # It was started, but its first step has not begun, so there is nothing to cancel yet.
            return False
        # The execution is cancelled even if its orchestrator cannot be notified.
        with suppress(StateError, EnvironmentFailure):
            cancel(store, entry.cancels)
        if _is_running(store, entry.cancels):
            return False
    tag = "" if entry.version.startswith("v") and entry.version[1:].isdigit() else entry.version
    if store.get(keys.launch(entry.exec_id)) is None:
        made = LaunchRecord(
            entry.flow, dict(entry.inputs), entry.deployment, tag=tag, schedule=entry.schedule,
            cancel_on=cancels_of(store, entry.flow, entry.deployment, entry.inputs),
        )  # fmt: skip
        # It has been removed by `kitaru store gc` meanwhile: then it has run.
        with suppress(StateError):
            launches.record_launch(store, entry.exec_id, made)
    return True


def _is_running(store: Store, exec_id: str) -> bool:
    """Return whether an execution was started and has neither ended nor failed for good."""
    records = RecordStore(store)
    if not exec_id or store.get(keys.garbage(exec_id)) is not None:
        return False
    if read_end(records, exec_id) is not None:
        return False
    if (
        records.read(ExecutionRecord, keys.execution(exec_id)) is not None
        and read_state(records, exec_id, "").status == "failed"
    ):
        return False
    found = rounds.newest_round(records, exec_id)
    return rounds.lost_in_a_row(records, exec_id, found) <= rounds.MOST_LOST


def _append(store: Store, entry: ScheduleEntry) -> bool:
    """Create an entry after the hint for the next one; return False if another process did."""
    moment = _due_moment(entry)
    if entry.number == 1:
        # Before the schedule exists, so that no list lacks it.
        create_or_read(store, keys.SCHEDULES_LISTED + entry.schedule, b"")
    if moment is not None:
        hint = keys.due_tick(entry.schedule, entry.number, moment)
        create_or_read(store, hint, now().encode("ascii"))
    key = keys.schedule_entry(entry.schedule, entry.number)
    if not RecordStore(store).try_create(key, entry):
        return False
    if entry.number > _KEPT:
        rounds.drop(store, keys.schedule_entry(entry.schedule, entry.number - _KEPT))
    return True


def _due_moment(entry: ScheduleEntry) -> str | None:
    """Return when somebody must look at the entry after this one; None if never."""
    if entry.status != "active":
        return None
    moment = next_instant(entry.cron, entry.timezone, entry.last)
    if not entry.queue:
        return moment
    # Rounded, so that several dispatchers create one hint.
    seconds = int(datetime.fromisoformat(now()).timestamp()) // _POLL_SECONDS + 1
    look = later("1970-01-01T00:00:00.000000Z", seconds * _POLL_SECONDS)
    return look if moment is None else min(look, moment)


def _move_hint(store: Store, head: ScheduleEntry, hint: str) -> None:
    """Delete a hint that came too early, after the one at the right moment was created."""
    moment = _due_moment(head)
    wanted = None if moment is None else keys.due_tick(head.schedule, head.number, moment)
    if wanted == hint:
        return
    if wanted is not None:
        create_or_read(store, wanted, now().encode("ascii"))
    rounds.drop(store, hint)


def _change(
    store: Store, id: str, next_entry: Callable[[ScheduleEntry | None], ScheduleEntry]
) -> ScheduleEntry:
    """Append the entry that `next_entry` makes of the newest one, and return it.

    Instants up to now belong to the definition before, so they are decided first.
    """
    while True:
        head, moment = newest_entry(store, id), now()
        made = next_entry(head)
        if made is head:
            return made
        if head is not None and (tick := _decided(store, head, moment)) is not None:
            # Its hint exists, so a dispatcher executes it.
            _append(store, tick)
            continue
        number = 1 if head is None else head.number + 1
        last = moment if head is None else max(head.last, moment)
        made = replace(
            _plain(made), number=number, kind="change", at=now(), by=actor(), last=last,
            run="" if head is None else head.run,
        )  # fmt: skip
        if _append(store, made):
            return made


def _audited(store: Store, action: Action, id: str) -> AbstractContextManager[None]:
    """Record a change of a schedule; raise NotFound if it does not exist."""
    return audited(store, action, id, flow=_existing(store, id).flow)


def _set_status(store: Store, id: str, status: Any) -> Schedule:
    def changed(head: ScheduleEntry | None) -> ScheduleEntry:
        found = _known(store, id, head)
        return found if found.status == status else replace(found, status=status)

    return _shown(store, _change(store, id, changed))


def _plain(entry: ScheduleEntry) -> ScheduleEntry:
    """Return the state of an entry, without what it decided."""
    return replace(
        entry, decision="", instant="", deployment=0, exec_id="", cancels="", why="", skipped=0,
        skipped_from="", skipped_to="",
    )  # fmt: skip


def _shown(store: Store, head: ScheduleEntry, *, ticks: int = 5, runs: int = 10) -> Schedule:
    start = max(head.last, now())
    next = islice(instants(head.cron, head.timezone, start), ticks)
    is_active = head.status == "active"
    found = list[ScheduleEntry]()
    number = head.number
    while number > 0 and len(found) < runs:
        places = [
            keys.schedule_entry(head.schedule, one)
            for one in range(number, max(0, number - 2 * runs), -1)
        ]
        read = RecordStore(store).read_all(ScheduleEntry, places)
        found += [one for one in read if one.kind != "change"]
        number -= len(places)
        if len(read) < len(places):
            break
    return Schedule(head, tuple(next) if is_active else (), tuple(found[:runs]))


def _existing(store: Store, id: str) -> ScheduleEntry:
    return _known(store, id, newest_entry(store, id) if _ID.fullmatch(id) else None)


def _known(store: Store, id: str, head: ScheduleEntry | None) -> ScheduleEntry:
    if head is None or head.status == "deleted":
        ids = [one.id for one in list_schedules(store, runs=0)]
        listed = hints.command(store, "schedule", "list")
        raise NotFound(
            f"There is no schedule {id!a} in {store.url}.", help=suggestion(id, ids, listed)
        )
    return head


def _read(store: Store, id: str, number: int) -> ScheduleEntry | None:
    return RecordStore(store).read(ScheduleEntry, keys.schedule_entry(id, number))


def _id_of(flow: str, id: str | None) -> str:
    """Return a valid id of a schedule. Default: the name of the flow."""
    made = re.sub(r"[^a-z0-9]+", "-", flow.lower()).strip("-")[:40].strip("-") or "flow"
    if _ID.fullmatch(made if id is None else id):
        return made if id is None else id
    raise UsageError(
        f"{id!a} cannot be the id of a schedule.",
        help="Use 1 to 40 lower-case letters, digits and dashes, such as nightly-review.",
    )


def _checked_inputs(store: Store, found: Deployment, inputs: Mapping[str, Any]) -> dict[str, Any]:
    from kitaru_targets.common import parameters

    from kitaru.ops.invoke import as_json

    given = as_json(found.flow, inputs)
    parameters.values(plan_of(store, found), given)
    return given


def _declared(store: Store, version: Deployment, id: str) -> ScheduleEntry | None:
    """Return the definition that a version declares, None if no dispatcher starts it."""
    declared = plan_of(store, version).schedule
    if declared is None or declared.by == "target":
        return None
    return ScheduleEntry(
        schedule=id, number=0, kind="change", at="", last="", status="active", flow=version.flow,
        version=DEFAULT_TAG, cron=declared.cron, timezone=declared.timezone, inputs={},
        overlap=declared.overlap, catchup=declared.catchup, declared=True,
    )  # fmt: skip


_DEFINITION = ("flow", "version", "cron", "timezone", "inputs", "overlap", "catchup", "declared")


def _differs(head: ScheduleEntry, wanted: ScheduleEntry) -> bool:
    return any(getattr(head, name) != getattr(wanted, name) for name in _DEFINITION)


def _redefined(head: ScheduleEntry, wanted: ScheduleEntry) -> ScheduleEntry:
    """Return the existing schedule with another definition: paused if it is paused."""
    return replace(head, **{name: getattr(wanted, name) for name in _DEFINITION})
