"""List executions, newest first, from verified index entries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from itertools import groupby, islice, takewhile
from typing import Any, NamedTuple

from kitaru.errors import NotFound, RecordCorrupt
from kitaru.runtime.executions.where import Where
from kitaru.runtime.journal import launches, places
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.rounds import Round, answers_of, newest_round
from kitaru.runtime.journal.states import (
    FINAL,
    PAUSED,
    read_end,
    read_state,
    shown_status,
    still,
)
from kitaru.runtime.journal.summaries import inputs_of
from kitaru.runtime.telemetry import beats
from kitaru.runtime.telemetry.beats import Signs
from kitaru.status import ExecutionStatus
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.flow_limits import recorded_limits
from kitaru.wire.records import ExecutionRecord, StateRecord, SubmissionRecord, Summary
from kitaru.wire.structs import Struct, fields_of
from kitaru.wire.times import invert, uninvert

# The page size of a bucket.
_PAGE = 1000
_AT_ONCE = 20
# An execution with one of these statuses does nothing until its status changes.
_AT_REST = (*FINAL, "failed", *PAUSED, "answered", "resuming")


# The statuses of an execution whose first step has recorded nothing. No index contains it.
_BEFORE = ("queued", "starting")


class _Hint(Struct):
    started: str
    exec_id: str
    number: int
    status: str
    flow: str


class _Looked(NamedTuple):
    """The current status of an execution, and the recorded state that it comes from."""

    status: str
    recorded: str
    number: int


class Listed(dict[str, Any]):
    """`{"exec_id", "flow", "status", "started_at"}` of an execution, also as attributes.

    Those of a `Page` have the fields of `kitaru.wire.records.Summary` as well. `state_at` is the
    time of the last status, `ended_at` the same for an execution that has ended or failed, else
    empty. `up` is `{"kind", "id", "text"}`; of a running execution, the attempt that is under way.
    `silent_since` is the last sign of a running execution if it is over two minutes old.
    """

    @property
    def exec_id(self) -> str:
        """Execution id."""
        return str(self["exec_id"])

    @property
    def flow_name(self) -> str:
        """Name of the flow."""
        return str(self["flow"])

    flow_id = flow_name

    @property
    def status(self) -> ExecutionStatus:
        """Status at the time of listing."""
        return ExecutionStatus(self["status"])

    @property
    def started_at(self) -> str:
        """Start time, UTC."""
        return str(self["started_at"])


class Page(Struct):
    """A page of executions, newest first; see `Listed`.

    `looked_at` is the number of executions that were checked for this page. `next` is the execution
    after which the next page starts, None if there are no more. If a page with fewer items than
    requested has a `next`, only the newest executions were checked, and the next page continues.
    `total` is the number of executions of the flow. It is None if anything else was selected, or
    the store is remote, since counting would take too many requests.
    """

    items: list[Listed]
    looked_at: int = 0
    next: str | None = None
    total: int | None = None


def list_executions(
    store: Store, *, flow: str | None = None, status: str | None = None, limit: int = 20
) -> list[Listed]:
    """Return the newest matching executions, however old they are.

    Args:
        flow: only executions of this flow.
        status: only executions with this current status, such as `interrupted` or `answered`.
        limit: maximum number of executions, newest start first.

    Raises:
        EnvironmentFailure: the store cannot be read.
    """
    return list(islice(each_execution(store, flow=flow, status=status), limit))


def page_of(
    store: Store,
    where: Where,
    *,
    limit: int,
    within: int,
    after: str = "",
    page: int = 1,
    counts: bool = True,
) -> Page:
    """Return a page of the executions that `where` selects, checking the newest `within`.

    `after` is the id of the last execution on the previous page; raises NotFound. `page` counts
    pages of `limit` executions after that. `counts` is false to leave out `total`, for which the
    whole index is read.
    """
    if where.status in _BEFORE:
        return _page_before(store, where, limit, within, after, page)
    hints = _hints_of(store, where, _place_of(store, after) if after else "")
    looked: list[_Hint] = []
    near = _verified(store, _noting(islice(hints, within), looked), where)
    found = list(islice(near, (page - 1) * limit, page * limit))
    last, count, total = None, len(looked), None
    if len(found) == limit:
        last = found[-1].hint.exec_id
        count = looked.index(found[-1].hint) + 1
        last = last if next(near, None) is not None or next(hints, None) is not None else None
    elif next(hints, None) is not None:
        last = looked[-1].exec_id
    if counts and last is not None and where.counts_everything:
        total = (
            None
            if store.remote
            else sum(where.flow in (None, one.flow) for one in _newest_hints(store))
        )
    return Page(_rows(store, found), count, last, total)


class Launched(NamedTuple):
    """An execution whose first step has recorded nothing: its status, since when, and its run."""

    status: ExecutionStatus
    at: str
    run: SubmissionRecord | None = None


def launched(store: Store, exec_id: str) -> Launched:
    """Return the status of an execution that was invoked and has recorded nothing yet."""
    records = RecordStore(store)
    found = newest_round(records, exec_id)
    claim = records.read(SubmissionRecord, keys.round_claim(exec_id, found.number + 1, 1))
    run = found.run or found.taken or claim
    hint = store.get(keys.due_launch(exec_id))
    queued = places.waits_since(store, exec_id, 1)
    at = run.at if run is not None else (hint or b"").decode("ascii")
    if run is None and queued is not None:
        at = queued[0]
    if (end := read_end(records, exec_id)) is not None:
        # It was cancelled before its first step.
        return Launched(ExecutionStatus(end.status), at or end.at, run)
    return Launched(ExecutionStatus.QUEUED if run is None else ExecutionStatus.STARTING, at, run)


def _before(store: Store, where: Where) -> Iterator[Listed]:
    """Yield the executions that were invoked and have recorded nothing yet, newest first.

    Nothing lists them but the hints that lead to them: of their launch, in a queue, or of a round.
    """
    if where.needs_summary:
        return
    hints = [*store.list(keys.due_now_of_all()), *store.list(keys.QUEUE)]
    named = {keys.due_parts(hint)[1] for hint in hints}
    named |= {key.split("/")[1] for key in store.list(keys.OPEN)}
    found = [one for one in map(partial(_launched, store, where), sorted(named)) if one is not None]
    yield from sorted(found, key=lambda one: (one.started_at, one.exec_id), reverse=True)


def _launched(store: Store, where: Where, exec_id: str) -> Listed | None:
    launch = launches.recall(store, exec_id)
    if launch is None or not launch.deployment or store.get(keys.execution(exec_id)) is not None:
        return None
    found = launched(store, exec_id)
    is_asked = where.allows(found.status) and where.flow in (None, launch.flow)
    is_early = bool(where.since) and found.at < where.since
    is_late = bool(where.until) and found.at > where.until
    if not is_asked or is_early or is_late or not where.fits_inputs(launch.inputs):
        return None
    return Listed(exec_id=exec_id, flow=launch.flow, status=found.status, started_at=found.at)


def _page_before(
    store: Store, where: Where, limit: int, within: int, after: str, page: int
) -> Page:
    """Return a page of executions that wait; those of `flow.run` wait in a process."""
    hints = islice(_hints_of(store, where), within)
    here = (_item(one.hint, one.looked.status) for one in _verified(store, hints, where))
    every = [*_before(store, where), *here]
    first = next((n for n, one in enumerate(every, 1) if one.exec_id == after), 0)
    first += (page - 1) * limit
    items = every[first : first + limit]
    rows = [
        _row(_Found(_Hint(invert(one.started_at), one.exec_id, 0, one.status, one.flow_name),
                    _Looked(one.status, one.status, 0), None), None)
        for one in items
    ]  # fmt: skip
    is_more = first + limit < len(every)
    return Page(rows, len(items), items[-1].exec_id if is_more else None, None)


def _hints_of(store: Store, where: Where, start: str = "") -> Iterator[_Hint]:
    """Yield the newest hint of each execution in the period of a selection, after `start`."""
    until = keys.started_before(where.until) if where.until else ""
    hints = _newest_hints(store, max(start, until))
    if where.since:
        oldest = invert(where.since)
        return takewhile(lambda hint: hint.started <= oldest, hints)
    return hints


def _noting(hints: Iterator[_Hint], looked: list[_Hint]) -> Iterator[_Hint]:
    for hint in hints:
        looked.append(hint)
        yield hint


def _place_of(store: Store, exec_id: str) -> str:
    record = RecordStore(store).read(ExecutionRecord, keys.execution(exec_id))
    if record is None:
        raise NotFound(f"There is no execution {exec_id} in {store.url}.")
    # "0" sorts directly after "/", so the hints of this execution are skipped.
    return keys.indexed(record.started_at, exec_id)[:-1] + "0"


def each_execution(
    store: Store, *, flow: str | None = None, status: str | None = None, started_before: str = ""
) -> Iterator[Listed]:
    """Yield the items of `list_executions` on demand.

    `started_before` leaves out executions that started after that moment.
    """
    return matching(store, Where(flow=flow, status=status, until=started_before))


def matching(store: Store, where: Where) -> Iterator[Listed]:
    """Yield the executions that `where` selects on demand, newest first."""
    if where.status in _BEFORE:
        yield from _before(store, where)
    for found in _verified(store, _hints_of(store, where), where):
        yield _item(found.hint, found.looked.status)


def executions_since(store: Store, moment: str, *, flow: str | None = None) -> Iterator[Listed]:
    """Yield the items of `list_executions` that may have been active since a moment.

    Executions that reached their last status before that moment are omitted. Ended, failed or
    waiting, they have done nothing since. Reads one or two records per execution.
    """
    found = each_execution(store, flow=flow)
    while some := list(islice(found, _AT_ONCE)):
        early = [one for one in some if one["started_at"] < moment and one["status"] in _AT_REST]
        last: dict[str, str] = {}
        if early:
            store.concurrently(*[partial(_learn_last, store, one, last) for one in early])
        yield from (one for one in some if last.get(one["exec_id"], moment) >= moment)


def _learn_last(store: Store, item: dict[str, Any], last: dict[str, str]) -> None:
    last[item["exec_id"]] = read_state(RecordStore(store), item["exec_id"], item["started_at"]).at


class _Found(NamedTuple):
    hint: _Hint
    looked: _Looked
    summary: Summary | None


def _verified(store: Store, hints: Iterator[_Hint], where: Where) -> Iterator[_Found]:
    asked = (one for one in hints if where.flow in (None, one.flow) and _may_be(one, where))
    while some := list(islice(asked, _AT_ONCE)):
        looked: dict[str, _Looked] = {}
        store.concurrently(*[partial(_look, store, hint, looked) for hint in some])
        found = [
            _Found(hint, looked[hint.exec_id], None)
            for hint in some
            if where.allows(looked[hint.exec_id].status)
        ]
        if where.needs_summary:
            found = [
                one
                for one in _summarised(store, found)
                if one.summary is not None and where.fits(one.summary)
            ]
        if where.inputs:
            found = _with_inputs(store, found, where)
        yield from found


def _with_inputs(store: Store, found: list[_Found], where: Where) -> list[_Found]:
    """Return the executions whose inputs are selected."""
    inputs: dict[str, Any] = {}
    if found:
        reads = [partial(_read_inputs, store, one.hint.exec_id, inputs) for one in found]
        store.concurrently(*reads)
    return [one for one in found if where.fits_inputs(inputs.get(one.hint.exec_id))]


def _read_inputs(store: Store, exec_id: str, inputs: dict[str, Any]) -> None:
    # The execution may have been removed since it was listed.
    with suppress(NotFound):
        inputs[exec_id] = inputs_of(store, Journal.open(store, exec_id).execution)


def _summarised(store: Store, found: list[_Found]) -> list[_Found]:
    """Add the summaries: one small read for each, or several reads for one that was not written."""
    places = [keys.summary(one.hint.exec_id, one.looked.number) for one in found]
    verify = RecordStore(store).verify
    read: dict[str, Summary] = {}
    for one, place, data in zip(found, places, store.get_all(places), strict=True):
        if (
            data is not None
            and (held := verify(Summary, place, data)).status == one.looked.recorded
        ):
            read[one.hint.exec_id] = held
    missing = [one.hint.exec_id for one in found if one.hint.exec_id not in read]
    for start in range(0, len(missing), _AT_ONCE):
        some = missing[start : start + _AT_ONCE]
        store.concurrently(*[partial(_compute, store, exec_id, read) for exec_id in some])
    return [one._replace(summary=read.get(one.hint.exec_id)) for one in found]


def _compute(store: Store, exec_id: str, read: dict[str, Summary]) -> None:
    # The execution may have been removed since it was listed.
    with suppress(NotFound):
        read[exec_id] = Journal.open(store, exec_id).summary()


def _rows(store: Store, found: list[_Found]) -> list[Listed]:
    if any(one.summary is None for one in found):
        found = _summarised(store, found)
    signs: dict[str, Signs] = {}
    running = [one for one in found if one.looked.status == "running" and one.summary is not None]
    for start in range(0, len(running), _AT_ONCE):
        some = running[start : start + _AT_ONCE]
        store.concurrently(*[partial(_read_signs, store, one, signs) for one in some])
    return [_row(one, signs.get(one.hint.exec_id)) for one in found]


def _read_signs(store: Store, found: _Found, signs: dict[str, Signs]) -> None:
    assert found.summary is not None
    signs[found.hint.exec_id] = beats.read(store, found.hint.exec_id, found.summary.at)


def _row(found: _Found, signs: Signs | None) -> Listed:
    row = _item(found.hint, found.looked.status)
    held = found.summary
    if held is None:
        held = Summary(0, "running", "", found.hint.flow, "local", row.started_at)
    fields = fields_of(held)
    for name in ("number", "status", "flow", "started_at"):
        del fields[name]
    state_at, up = (
        fields.pop("at"),
        dict(zip(("kind", "id", "text"), fields.pop("up"), strict=True)),
    )
    ended_at = state_at if found.looked.status in (*FINAL, "failed") else ""
    if signs is not None and signs.under_way:
        doing = signs.under_way[0]
        up = {"kind": "running", "id": doing.id, "text": doing.site}
    silent = signs.silent_since if signs is not None else ""
    return Listed(**row, state_at=state_at, ended_at=ended_at, silent_since=silent, up=up, **fields)


def _newest_hints(store: Store, after: str = "") -> Iterator[_Hint]:
    hints = (_parse(key) for key in _index(store, after))
    for _, states in groupby(hints, key=lambda hint: (hint.started, hint.exec_id)):
        yield list(states)[-1]


def _index(store: Store, after: str) -> Iterator[str]:
    while page := store.list(keys.INDEX, after=after, limit=_PAGE):
        yield from page
        after = page[-1]


def _parse(key: str) -> _Hint:
    try:
        _, started, exec_id, number, status, flow = key.split("/")
        return _Hint(started, exec_id, int(number), status, flow)
    except ValueError as error:
        raise RecordCorrupt(f"{key} is not an entry of the index of executions.") from error


def _may_be(hint: _Hint, where: Where) -> bool:
    # The hint of an end is written after the end. Any other hint may be older than the journal.
    return where.allows(hint.status) or hint.status not in FINAL


def _look(store: Store, hint: _Hint, found: dict[str, _Looked]) -> None:
    found[hint.exec_id] = _Looked(hint.status, hint.status, hint.number)
    if hint.status not in FINAL:
        record_store = RecordStore(store)
        now = still(record_store, hint.exec_id, hint.number)
        now = now or read_state(record_store, hint.exec_id, uninvert(hint.started))
        shown: str = now.status
        if now.status not in FINAL:
            shown, _ = settled_status(Journal.open(store, hint.exec_id), now)
        found[hint.exec_id] = _Looked(shown, now.status, now.number)


def settled_status(
    journal: Journal, state: StateRecord
) -> tuple[ExecutionStatus, SubmissionRecord | None]:
    """Return the status of an execution that has not ended, and the run that will continue it.

    The recorded status does not show whether an answer has arrived, and whether anything continues
    the execution. Answers and rounds show that. `state` is the newest state.
    """
    recorded = ExecutionStatus(shown_state(journal, state))
    if journal.execution.mode == "deployed":
        found = newest_round(RecordStore(journal.store), journal.exec_id)
        if found.closed is not None or found.taken is not None:
            return _status_of_round(journal, found, recorded)
        if found.run is not None and state.number <= max(1, found.run.state):
            return ExecutionStatus.RESUMING, found.run
    elif recorded == "running" and _waits_for_place(journal):
        return ExecutionStatus.QUEUED, None
    if recorded not in PAUSED or journal.pending_names():
        return recorded, None
    # An execution of Kitaru 0.1, or a local one.
    earlier = launches.submissions(journal.store, journal.exec_id, state.number)
    if earlier:
        return ExecutionStatus.RESUMING, earlier[-1]
    return ExecutionStatus.ANSWERED, None


def _waits_for_place(journal: Journal) -> bool:
    """Return whether an execution waits for a place in its caller's process."""
    execution = journal.execution
    limits = recorded_limits(execution) if execution.mode == "local" else None
    if limits is None:
        return False
    records = RecordStore(journal.store)
    return not places.has_place(records, limits.flow, f"{execution.exec_id}.0")


def shown_state(journal: Journal, state: StateRecord) -> str:
    """Return the recorded status, `interrupted` if its process is certainly gone."""
    return shown_status(journal.store, journal.exec_id, journal.execution.started_at, state)


def _status_of_round(
    journal: Journal, found: Round, recorded: ExecutionStatus
) -> tuple[ExecutionStatus, SubmissionRecord | None]:
    if found.closed is None:
        # The step that took the round has not recorded yet that the execution runs.
        is_before = recorded in PAUSED
        return (ExecutionStatus.RUNNING if is_before else recorded), None
    records, exec_id = RecordStore(journal.store), journal.exec_id
    idle = {"failed": ExecutionStatus.FAILED, "lost": ExecutionStatus.INTERRUPTED}
    status = idle.get(found.closed.status, ExecutionStatus.ANSWERED)
    if status == "answered" and not answers_of(records, exec_id, found.closed.waits):
        return ExecutionStatus(journal.paused(found.closed.waits)), None
    claim = records.read(SubmissionRecord, keys.round_claim(exec_id, found.number + 1, 1))
    return (status, None) if claim is None else (ExecutionStatus.RESUMING, claim)


def _item(hint: _Hint, status: str) -> Listed:
    started_at = uninvert(hint.started)
    return Listed(exec_id=hint.exec_id, flow=hint.flow, status=status, started_at=started_at)
