"""Places: which executions of a flow with limits may run now.

The limits of a flow are a log of entries, numbered without gaps. The newest entry contains all
places and the state of the rates, so one create decides about all limits of a start at once:

    limit/<flow>/log/<k>      holders: {"<execution>.<round>": …}, rates: {…}
    queue/<flow>/<moment>/<execution>/q-<round>      a start that waits for a place

Nobody gives a place back. A holder has lost its place when a record shows that it does not run:
its round is closed, the execution has ended, has failed or was removed, or its process on this
machine is gone. A process that was killed loses its place in this way, and no clock takes a place
from a process that is merely slow.

Rates follow GCRA, which needs one number: the theoretical arrival time of the next start. It is the
only part that reads a clock. In any time T, at most `burst + T * most / per` executions start, plus
those that the difference between two clocks allows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from kitaru.errors import RecordCorrupt, StoreDenied
from kitaru.runtime.journal import processes
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.numbered_logs import newest
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.states import read_state
from kitaru.stores.base import Store
from kitaru.wire import canonical, keys
from kitaru.wire.flow_limits import ExecutionLimits, Limit
from kitaru.wire.records import LimitEntry, StateRecord
from kitaru.wire.structs import Struct
from kitaru.wire.times import digits, later, now, written

# Entries that are kept. A list that is out of date must lead to one of them.
_KEPT = 2_000
# One more of priority counts like this many seconds longer in the queue.
_SECONDS_OF_PRIORITY = 600
_AT_ONCE = 1_000


class Wanted(Struct):
    """A run of an execution that needs a place.

    `round` is 0 for an execution that runs in its caller's process, whose token is `process`.
    `is_start` is false for an execution that continues: only starts count for rates, and a policy
    skips or cancels only for a start.
    """

    exec_id: str
    round: int
    limits: ExecutionLimits
    is_start: bool
    process: str = ""

    @property
    def id(self) -> str:
        """The name of the place."""
        return f"{self.exec_id}.{self.round}"


class Refused(Struct):
    """Why there is no place: the limit, and for concurrency its holders, the oldest first."""

    limit: Limit
    holders: tuple[str, ...] = ()


def ask(records: RecordStore, flow: str, wanted: Sequence[Wanted]) -> dict[str, Refused | None]:
    """Give places to those runs for which there is room, in order; return the refusals.

    A run that has its place keeps it. The result contains each place's name, with None for a place
    that was given.
    """
    while True:
        head = newest(records, LimitEntry, keys.limit_log(flow))
        answers, made = _decided(records, flow, head, wanted)
        if made is None or _append(records, made):
            return answers


def has_place(records: RecordStore, flow: str, id: str) -> bool:
    """Return whether a run has a place, as far as the newest entry shows."""
    head = newest(records, LimitEntry, keys.limit_log(flow))
    return head is not None and id in head.holders


def leave(records: RecordStore, wanted: Wanted) -> None:
    """Give the place of a run back that certainly was not started."""
    flow = wanted.limits.flow
    while True:
        head = newest(records, LimitEntry, keys.limit_log(flow))
        if head is None or wanted.id not in head.holders:
            return
        holders = {id: one for id, one in head.holders.items() if id != wanted.id}
        rates = dict(head.rates)
        for limit in wanted.limits.limits.rate_limit if wanted.is_start else ():
            key = _rate_key(wanted, limit)
            if key in rates:
                rates[key] -= _interval(limit)
        if _append(records, LimitEntry(flow, head.number + 1, now(), holders, rates)):
            return


def enqueue(store: Store, wanted: Wanted, limit: Limit) -> None:
    """Let a run wait for a place, which `limit` does not leave.

    The key in the queue replaces the hints that led to the run, and is deleted like them. A note of
    when it first asked gives it one place in the queue, however often it asks.
    """
    place = keys.queue_note(wanted.exec_id, wanted.round)
    note = canonical.dumps({"since": now(), "limit": str(limit)})
    since, _ = _read_note(place, create_or_read(store, place, note))
    ahead = wanted.limits.priority * _SECONDS_OF_PRIORITY
    moment = digits(later(since, -ahead))
    # Before the start waits, so that no list lacks its flow.
    flow = wanted.limits.flow
    create_or_read(store, keys.queue_listed(flow), flow.encode("utf-8"))
    key = keys.queued(flow, moment, wanted.exec_id, wanted.round)
    create_or_read(store, key, canonical.dumps(_to_json(wanted)))


def dequeue(store: Store, flow: str, exec_id: str) -> None:
    """Take an execution that has ended out of its queue. Otherwise it stays until its turn."""
    listed = store.list(keys.queue(flow))
    with suppress(StoreDenied):
        store.delete(*(key for key in listed if keys.due_parts(key)[1] == exec_id))


def waits_since(store: Store, exec_id: str, round: int) -> tuple[str, str] | None:
    """Return since when a run has waited for a place, and for which limit; None if it has not."""
    place = keys.queue_note(exec_id, round)
    note = store.get(place)
    return None if note is None else _read_note(place, note)


def queues(store: Store) -> list[str]:
    """Return the flows whose starts have waited for a place."""
    read = store.get_all(store.list(keys.QUEUES_LISTED))
    return [flow.decode("utf-8") for flow in read if flow is not None]


def take(store: Store, flow: str, is_ready: Callable[[str], bool]) -> list[str]:
    """Give places to the executions of a flow that wait for one; return the keys of their queue.

    An execution that is not ready, because its service refused it a moment ago, is passed over.
    """
    every = store.list(keys.queue(flow), limit=_AT_ONCE)
    listed = [key for key in every if is_ready(keys.due_parts(key)[1])]
    read = zip(listed, store.get_all(listed), strict=True)
    found = {key: _from_json(key, data) for key, data in read if data is not None}
    if not found:
        return []
    answers = ask(RecordStore(store), flow, list(found.values()))
    # A policy of a start, such as `skip`, was applied when it first asked.
    return [key for key, one in found.items() if answers[one.id] is None]


def _decided(
    records: RecordStore, flow: str, head: LimitEntry | None, wanted: Sequence[Wanted]
) -> tuple[dict[str, Refused | None], LimitEntry | None]:
    """Return the answers, and the entry that gives the places; None if it would change nothing."""
    known = {} if head is None else head.holders
    gone = _released(records, known)
    holders = {id: one for id, one in known.items() if id not in gone}
    moment = now()
    clock = int(digits(moment))
    rates = {} if head is None else {k: at for k, at in head.rates.items() if at > clock}
    answers, is_changed = dict[str, Refused | None](), False
    for one in wanted:
        if one.id in holders:
            answers[one.id] = None
            continue
        refused = _refusal(one, holders, rates, clock)
        answers[one.id] = refused
        if refused is None and records.store.get(keys.end(one.exec_id)) is None:
            is_changed = True
            holders[one.id] = _holder(records, one, moment)
            for limit in one.limits.limits.rate_limit if one.is_start else ():
                key = _rate_key(one, limit)
                rates[key] = max(clock, rates.get(key, 0)) + _interval(limit)
    if not is_changed:
        return answers, None
    number = 1 if head is None else head.number + 1
    return answers, LimitEntry(flow, number, moment, holders, rates)


def _refusal(
    one: Wanted, holders: dict[str, dict[str, Any]], rates: dict[str, int], clock: int
) -> Refused | None:
    values = one.limits.values
    for limit in one.limits.limits.concurrency:
        value = values.get(limit.key, "")
        same = [
            id for id, held in holders.items()
            if not limit.key or held["values"].get(limit.key) == value
        ]  # fmt: skip
        if len(same) >= limit.most:
            same.sort(key=lambda id: (holders[id]["at"], id))
            return Refused(limit, tuple(id.rpartition(".")[0] for id in same))
    for limit in one.limits.limits.rate_limit if one.is_start else ():
        ahead = rates.get(_rate_key(one, limit), 0) - clock
        if ahead > (limit.burst - 1) * _interval(limit):
            return Refused(limit)
    return None


def _rate_key(one: Wanted, limit: Limit) -> str:
    value = one.limits.values.get(limit.key, "")
    return f"{limit.key}={value}/{limit.per:g}"


def _interval(limit: Limit) -> int:
    """Return the microseconds between two starts."""
    return max(1, round(limit.per * 1e6 / limit.most))


def _holder(records: RecordStore, one: Wanted, moment: str) -> dict[str, Any]:
    """Return what an entry records of a holder: also the state before it runs."""
    state = read_state(records, one.exec_id, "").number
    held: dict[str, Any] = {"values": one.limits.values, "at": moment, "state": state}
    return {**held, "process": one.process} if one.process else held


def _released(records: RecordStore, holders: dict[str, dict[str, Any]]) -> set[str]:
    """Return the holders that have lost their place, from exact reads."""
    found, places = set[str](), list[tuple[str, str]]()
    for id, held in holders.items():
        exec_id, _, number = id.rpartition(".")
        if held.get("process") and processes.is_gone(held["process"]):
            found.add(id)
        ends = [keys.end(exec_id), keys.garbage(exec_id)]
        if int(number):
            ends.append(keys.round_part(exec_id, int(number), "closed"))
        places += [(id, key) for key in ends]
    read = records.store.get_all([key for _, key in places])
    found |= {id for (id, _), data in zip(places, read, strict=True) if data is not None}
    rest = [id for id in holders if id not in found]
    return found | {id for id in rest if _has_failed(records, id, holders[id]["state"])}


def _has_failed(records: RecordStore, id: str, number: int) -> bool:
    """Return whether the newest state after `number` is a failure, from exact reads."""
    exec_id, newest = id.rpartition(".")[0], None
    while (state := records.read(StateRecord, keys.state(exec_id, number + 1))) is not None:
        newest, number = state, number + 1
    return newest is not None and newest.status == "failed"


def _append(records: RecordStore, entry: LimitEntry) -> bool:
    """Create an entry; return False if another process created one with its number."""
    home = keys.limit_log(entry.flow)
    if not records.try_create(keys.numbered(home, entry.number), entry):
        return False
    if entry.number > _KEPT:
        with suppress(StoreDenied):
            records.store.delete(keys.numbered(home, entry.number - _KEPT))
    return True


def _to_json(wanted: Wanted) -> dict[str, Any]:
    return {
        "exec_id": wanted.exec_id, "round": wanted.round, "is_start": wanted.is_start,
        "limits": wanted.limits.to_json(),
    }  # fmt: skip


def _from_json(key: str, data: bytes) -> Wanted:
    try:
        body = json.loads(data)
        limits = ExecutionLimits.from_json(body["limits"])
        return Wanted(body["exec_id"], body["round"], limits, body["is_start"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(key) from None


def _read_note(key: str, data: bytes) -> tuple[str, str]:
    try:
        body = json.loads(data)
        since = written(datetime.fromisoformat(body["since"]))
        return since, str(body["limit"])
    except (ValueError, KeyError, TypeError):
        raise _damaged(key) from None


def _damaged(key: str) -> RecordCorrupt:
    return RecordCorrupt(
        f"The stored object {key} is damaged.",
        help="Kitaru never overwrites it. Restore it from a backup, or cancel its execution.",
    )
