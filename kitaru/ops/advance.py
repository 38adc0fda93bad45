"""Move a deployed execution one step forward: start, or notify, the run of its next round.

`advance` reads what decides by exact keys and then takes at most one step. Answers, `resume`,
`retry` and each pass of a dispatcher call it. It may run in many processes at once, and may be
killed anywhere:

- A run is named after its execution and its round. A service that supports names or tokens starts
  the same submission once, however often it is repeated.
- Elsewhere, a claim in the store saves a second run. A claim whose process was killed is replaced
  after a while by the next generation. Two runs of one round have no second effect: the first step
  that starts takes the round, and steps of the other run end (`kitaru.runtime.journal.rounds`).
- The hint that led here stays until nothing is left to do, so the next pass tries again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kitaru import hints
from kitaru.errors import KitaruError, StateError
from kitaru.ops import submit as submissions
from kitaru.ops.notify import Notice, notify_answer, notify_end
from kitaru.ops.submit import HERE, Submission, service_options
from kitaru.runtime.executions.deployments import Deployments
from kitaru.runtime.journal import children, launches, news, places, processes, rounds
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.journal import Journal, after_end, cancel_for
from kitaru.runtime.journal.places import Wanted
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.rounds import Round
from kitaru.runtime.journal.states import PAUSED, read_end
from kitaru.runtime.schema.example import sample
from kitaru.wire import keys
from kitaru.wire.actors import actor
from kitaru.wire.flow_limits import ExecutionLimits, planned_limits, recorded_limits
from kitaru.wire.records import (
    EndRecord,
    ExecutionRecord,
    RoundClosed,
    SubmissionRecord,
    WaitAnswer,
    WaitRequest,
)
from kitaru.wire.structs import replace
from kitaru.wire.times import digits, now

if TYPE_CHECKING:
    from kitaru_targets.base import Submitted

    from kitaru.stores.base import Store

Start = Callable[[SubmissionRecord], "Submitted"]

_CLAIM_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_GONE = "its process has ended"


class Waiting:
    """The patience of a command: it looks for the run of another process for some seconds."""

    def is_over(self, claim: str, is_done: Callable[[], bool]) -> bool:
        """Return true when `is_done` returns true or the time is over."""
        del claim
        for _ in range(round(_CLAIM_SECONDS / _LOOK_SECONDS)):
            if is_done():
                break
            time.sleep(_LOOK_SECONDS)
        return True


@dataclass
class Means:
    """How a process moves executions.

    Attributes:
        options: options of the target's service, which override those of the settings.
        patience: how long the claim of another process counts.
        may_start_here: whether a process for target `local` may be started now.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    patience: Any = field(default_factory=Waiting)
    may_start_here: Callable[[], bool] = lambda: True


@dataclass(frozen=True, slots=True)
class Advanced:
    """The result of `advance`.

    Attributes:
        is_finished: whether nothing is left to do. Each later change brings its own hint.
        submission: the run of the next round, if there is one.
        notice: the notification of an orchestrator that keeps a run open.
        waits_for: what it waits for if it is not finished: `claim`, `process`, `connection`,
            `record`, or `run`, which continues by itself; `limit` if it waits in the queue of its
            flow for a place.
        limit: the limit of the flow that it exceeds, empty without.
        is_skipped: whether it was cancelled because of the limit.
    """

    is_finished: bool
    submission: Submission | None = None
    notice: Notice | None = None
    waits_for: str = ""
    limit: str = ""
    is_skipped: bool = False


_FINISHED = Advanced(True)


def advance(store: Store, exec_id: str, means: Means | None = None) -> Advanced:
    """Take the next step of an execution, if one is due.

    Raises:
        StateError: the store does not contain the execution's code.
        UsageError: an option is unknown, or the service cannot reach the store.
        EnvironmentFailure: the SDK is missing, or the store or the service refused.
    """
    means, records = means or Means(), RecordStore(store)
    execution = records.read(ExecutionRecord, keys.execution(exec_id))
    if read_end(records, exec_id) is not None:
        return _FINISHED
    if execution is None:
        return _begun(store, exec_id, means)
    from kitaru_targets import registry

    # The target of another distribution is used only if a user names it, with `resume`. A record
    # does not suffice.
    journal = Journal(store, execution)
    if execution.mode == "local":
        return _continued_here(journal, means)
    if execution.mode != "deployed" or not registry.is_own(execution.target):
        return _FINISHED
    found = current_round(journal)
    if found.closed is None:
        return Advanced(True, _known(execution.target, found))
    if found.closed.status == "parked":
        return _answered(journal, found.closed, means)
    if found.closed.status == "lost" and not _is_given_up(records, exec_id, found):
        return _continued(journal, found.number + 1, means)
    if found.closed.status == "lost":
        news.announce(store, keys.news_lost(exec_id, found.number))
    children.tell_parent(store, exec_id, execution.parent)
    return _FINISHED


def move(
    store: Store, exec_id: str, means: Means | None = None, hints: Sequence[str] | None = None
) -> Advanced:
    """Advance an execution, and delete its hints if nothing is left to do.

    Args:
        hints: hints of the execution that were listed; default: those that a list finds now.

    Raises the errors of `advance`. The hints are then kept.
    """
    listed = store.list(keys.due_now(exec_id)) if hints is None else hints
    if (end := read_end(RecordStore(store), exec_id)) is not None:
        notice = _ended(store, exec_id, end) if keys.due_ended(exec_id) in listed else None
        # Nothing is left to do for ever. This includes hints whose record was never written,
        # because their writer was killed before it.
        rounds.drop(store, *listed, *store.list(keys.open_rounds(exec_id)))
        return Advanced(True, notice=notice)
    due = [hint for hint in listed if _is_true(store, exec_id, hint)]
    if hints and not due:
        return Advanced(False, waits_for="record")
    over = [hint for hint in due if _is_over(store, exec_id, hint)]
    due = [hint for hint in due if hint not in over]
    rounds.drop(store, *over)
    if over and not due:
        return _FINISHED
    done = advance(store, exec_id, means)
    if done.waits_for == "limit":
        # Its place in the queue replaces the hints.
        due = [hint for hint in due if not hint.startswith(keys.QUEUE)]
    if done.is_finished and due:
        rounds.drop(store, *due)
    return done


def _is_over(store: Store, exec_id: str, hint: str) -> bool:
    """Expire the wait whose deadline a hint announces; return whether the hint has done its work.

    A hint of an expired wait stays until the execution has continued: it announces the answer.
    """
    moment, _, cause = keys.due_parts(hint)
    name = keys.due_wait(cause)
    if name is None:
        return False
    records = RecordStore(store)
    execution = records.read(ExecutionRecord, keys.execution(exec_id))
    first = records.read(WaitRequest, keys.wait_request(exec_id, name))
    if execution is None or first is None:
        return True
    journal = Journal(store, execution)
    request = journal.wait_request(name) or first
    # The deadline of the record counts. A process that asked at the same time and was not the first
    # has left a hint with another moment.
    if int(digits(request.deadline)) == moment:
        journal.expire(request, is_hinted=True)
        return False
    if journal.wait_answer(name) is None:
        journal.escalate_due(request)
    return True


def _ended(store: Store, exec_id: str, end: EndRecord) -> Notice | None:
    """Tell the parent and the children of an execution that it has ended, and its orchestrator."""
    after_end(store, exec_id, children.parent_of(store, exec_id), end)
    record = RecordStore(store).read(ExecutionRecord, keys.execution(exec_id))
    is_open = end.status == "cancelled" and record is not None and record.mode == "deployed"
    return notify_end(Journal(store, record)) if is_open and record is not None else None


def _is_true(store: Store, exec_id: str, hint: str) -> bool:
    """Return whether the record exists that a hint announces."""
    truth = keys.due_truth(exec_id, keys.due_parts(hint)[2])
    return truth is None or store.get(truth) is not None


def submit(
    journal: Journal, *, again: bool = False, options: Mapping[str, str] | None = None
) -> Submission:
    """Start a run of an execution's remaining steps on its original target, as a user requested.

    Only the store is read. A run of the current round is over, because the user says so.

    Args:
        again: start another run even if one was started that has not begun.
        options: options of the target's service, which override those of the settings.

    Raises:
        StateError: the store does not contain the code.
        UsageError: an option is unknown.
        EnvironmentFailure: the SDK is missing, or the store or the service refused.
    """
    records, exec_id = RecordStore(journal.store), journal.exec_id
    found, state = current_round(journal), journal.state()
    if found.number == 0 and journal.execution.replay is not None and state.number <= 1:
        number = 1
    else:
        is_only_started = found.is_open and found.taken is None and found.run is not None
        if is_only_started and not again:
            submission = _known(journal.execution.target, found)
            assert submission is not None
            return submission
        number = max(1, found.number)
        if found.closed is None:
            has_failed = state.status == "failed"
            rounds.close(records, exec_id, number, "failed" if has_failed else "lost", by=actor())
        number += 1
    done = _continued(journal, number, Means(options or {}))
    rounds.drop(journal.store, keys.due_closed(exec_id, number - 1))
    if done.submission is None and done.limit:
        raise StateError(
            f"{exec_id} waits for a place, because its flow has a limit: {done.limit}.",
            help=f"A dispatcher continues it: {hints.command(journal.store, 'dispatcher', 'run')}",
        )
    if done.submission is None:
        raise StateError(
            f"Another process starts a run of {exec_id}.", help="Try again in a minute."
        )
    return done.submission


def current_round(journal: Journal) -> Round:
    """Return the newest round. It is closed first if its run has certainly ended.

    Runs of Kitaru 0.1 close no rounds: the state of their execution shows that they have ended.
    """
    records, exec_id = RecordStore(journal.store), journal.exec_id
    found = rounds.newest_round(records, exec_id)
    if found.closed is not None:
        return found
    if found.taken is not None:
        if _is_gone(found.taken) and journal.end() is None:
            return _closed(records, exec_id, found, "lost", _GONE)
        return found
    state = journal.state()
    earlier = launches.submissions(journal.store, exec_id, state.number)
    if earlier and found.run is None:
        return Round(found.number, run=earlier[-1])
    if state.number <= (found.run.state if found.run is not None else 1):
        return found
    if state.status == "failed":
        return _closed(records, exec_id, found, "failed", "its state")
    if state.status in PAUSED:
        open_waits = {one.name for one in journal.wait_requests()} - journal.recorded()
        return _closed(records, exec_id, found, "parked", "its state", sorted(open_waits))
    return found


def close_lost(store: Store, exec_id: str, number: int, why: str) -> None:
    """Close a round whose run has ended on its orchestrator, unless it is closed or has ended."""
    records = RecordStore(store)
    if read_end(records, exec_id) is None:
        rounds.close(records, exec_id, number, "lost", by=why)


def _closed(
    records: RecordStore, exec_id: str, found: Round, status: Any, by: str, waits: Any = ()
) -> Round:
    number = max(1, found.number)
    held = rounds.close(records, exec_id, number, status, waits, by=by)
    return replace(found, number=number, closed=held)


def _begun(store: Store, exec_id: str, means: Means) -> Advanced:
    """Start the first run of an execution whose first step has recorded nothing, once."""
    from kitaru_targets import deploy, registry

    records, launch = RecordStore(store), launches.recall(store, exec_id)
    if launch is None or not launch.deployment or store.get(keys.garbage(exec_id)) is not None:
        return _FINISHED
    if launch.is_dry_run or (launch.parent and _is_dry_run(records, launch.parent)):
        # The process that plays the parent plays this child, too.
        return _FINISHED
    version = Deployments(store).get(f"{launch.flow}@v{launch.deployment}")
    found = rounds.newest_round(records, exec_id)
    if found.is_open and found.taken is not None and _is_gone(found.taken):
        found = _closed(records, exec_id, found, "lost", _GONE)
    if not found.is_open and _is_given_up(records, exec_id, found):
        news.announce(store, keys.news_lost(exec_id, found.number))
        children.tell_parent(store, exec_id, launch.parent)
    if found.is_open or _is_given_up(records, exec_id, found):
        return Advanced(True, _known(version.target, found))
    if version.target == registry.LOCAL and not means.may_start_here():
        return Advanced(False, waits_for="process")
    number = found.number + 1

    def start(record: SubmissionRecord) -> Submitted:
        return deploy.invoke(
            version,
            store,
            inputs=launch.inputs,
            exec_id=exec_id,
            token=submissions.token_of(exec_id, number),
            options={**service_options(version.target), **means.options},
        )

    first = SubmissionRecord(number, 0, version.target, "")
    limits = planned_limits(submissions.plan_of(store, version), launch.inputs)
    return _started(store, exec_id, first, start, means, limits)


def _continued_here(journal: Journal, means: Means) -> Advanced:
    """Continue an execution of `flow.run` whose wait has ended and whose process is gone.

    Only a machine with the execution's code and a store of its own can do so.
    """
    store, exec_id, state = journal.store, journal.exec_id, journal.state()
    if state.status == "failed" or not journal.answered_names():
        return _FINISHED
    if store.remote or not Path(journal.execution.file).is_file():
        return _FINISHED

    def known() -> Submission | None:
        is_running = not processes.all_gone(store, exec_id)
        return Submission("local", HERE, HERE, "", is_new=False) if is_running else None

    if known() is not None or not means.may_start_here():
        return Advanced(False, waits_for="process")
    claim = SubmissionRecord(state.number, 0, "local", "")
    if _claim(RecordStore(store), exec_id, claim, means, known) is None:
        return Advanced(False, waits_for="claim")
    started = submissions.resume_in_process(journal, lambda: known() is not None)
    return Advanced(False, submission=started, waits_for="process")


def _is_dry_run(records: RecordStore, parent: str) -> bool:
    above = records.read(ExecutionRecord, keys.execution(parent.partition("/")[0]))
    return above is not None and above.mode == "dry-run"


def _is_given_up(records: RecordStore, exec_id: str, found: Round) -> bool:
    """Return whether too many runs in a row have ended without a word."""
    return rounds.lost_in_a_row(records, exec_id, found) > rounds.MOST_LOST


def _is_gone(run: SubmissionRecord) -> bool:
    """Return whether a run is a process of this machine that has ended."""
    return run.target == "local" and processes.is_gone(run.run)


def _answered(journal: Journal, closed: RoundClosed, means: Means) -> Advanced:
    """Continue an execution that is parked, if one of its waits is answered."""
    records = RecordStore(journal.store)
    answers = rounds.answers_of(records, journal.exec_id, closed.waits)
    if not answers:
        if journal.state().status == "running":
            # The process was killed before it recorded that the execution waits.
            journal.set_state(journal.paused(closed.waits))
        # After a restored backup, or a hint that was deleted too early by hand.
        journal.hint_again(closed.waits)
        return _FINISHED
    if any(answer.kind == "abort" for answer in answers):
        journal.finish(EndRecord("cancelled", None, now(), by=answers[0].by))
        return Advanced(True, notice=notify_end(journal))
    number = closed.round + 1
    if rounds.read_round(records, journal.exec_id, number).has_begun:
        return _FINISHED
    if (notified := _notified(journal, answers, number)) is not None:
        return notified
    return _continued(journal, number, means, completes=True)


def _notified(journal: Journal, answers: list[WaitAnswer], number: int) -> Advanced | None:
    """Notify the orchestrator that keeps the run open; return None if no run is open."""
    store, exec_id, execution = journal.store, journal.exec_id, journal.execution
    if (limits := recorded_limits(execution)) is not None:
        wanted = Wanted(exec_id, number, limits, is_start=False)
        if (refused := _without_place(store, wanted)) is not None:
            return refused
    create_or_read(store, keys.open_round(exec_id, number), b"")
    notices = [
        notify_answer(journal, one.name, _told(journal, one), is_expired=one.kind == "expired")
        for one in answers
    ]
    notice = next((one for one in notices if one is not None), None)
    if notice is None:
        return None
    if notice.outcome == "unreachable":
        return Advanced(False, notice=notice, waits_for="connection")
    if notice.outcome == "busy":
        return Advanced(False, notice=notice, waits_for="run")
    if notice.outcome == "told":
        told = SubmissionRecord(number, 0, execution.target, now(), execution.run)
        RecordStore(store).write(keys.round_part(exec_id, number, "run"), told)
    return Advanced(True, notice=notice)


def _told(journal: Journal, answer: WaitAnswer) -> Any:
    """Return the value for an orchestrator, which may accept only what fits the schema.

    The record counts. After an expiry without a default, any fitting value lets the run continue.
    """
    request = journal.wait_request(answer.name) if answer.kind == "expired" else None
    if request is None or request.default or request.kind == "timer":
        return answer.value
    return False if request.schema.get("type") == "boolean" else sample(request.schema, "expired")


def _continued(journal: Journal, number: int, means: Means, *, completes: bool = False) -> Advanced:
    """Start the run of a round; with `completes`, finish here what has no durable call left."""
    from kitaru_targets import registry

    store, exec_id, target = journal.store, journal.exec_id, journal.execution.target
    if target == registry.LOCAL and not means.may_start_here():
        return Advanced(False, waits_for="process")
    made = SubmissionRecord(number, 0, target, "", state=journal.state().number)

    def start(record: SubmissionRecord) -> Submitted:
        return submissions.start_run(journal, record, means.options, completes=completes)

    done = _started(store, exec_id, made, start, means, recorded_limits(journal.execution))
    if done.submission is not None and done.submission.run_id == HERE:
        if journal.end() is None and journal.state().status != "failed":
            # The process of this machine did not get to the end: the service runs the rest.
            rounds.close(RecordStore(store), exec_id, number, "lost", by=HERE)
            return _continued(journal, number + 1, means)
        rounds.drop(store, keys.open_round(exec_id, number))
        # This machine has completed it, so no run continues it.
        return _FINISHED
    return done


def _without_place(store: Store, wanted: Wanted) -> Advanced | None:
    """Return what a run without a place waits for; None if it has a place."""
    records, flow, exec_id = RecordStore(store), wanted.limits.flow, wanted.exec_id
    while (refused := places.ask(records, flow, [wanted])[wanted.id]) is not None:
        limit = refused.limit
        if not wanted.is_start or limit.when_full == "queue":
            places.enqueue(store, wanted, limit)
            return Advanced(True, waits_for="limit", limit=str(limit))
        if limit.when_full == "skip":
            cancel_for(store, exec_id, f"the limit of {flow}: {limit}")
            _end_now(store, exec_id)
            return Advanced(True, limit=str(limit), is_skipped=True)
        for older in refused.holders[: len(refused.holders) - limit.most + 1]:
            cancel_for(store, older, f"{exec_id}, which takes its place")
            _end_now(store, older)
    return None


def _end_now(store: Store, exec_id: str) -> None:
    """Tell everybody that an execution has ended. If that fails, a dispatcher does it later."""
    with suppress(KitaruError):
        move(store, exec_id)


def _started(
    store: Store,
    exec_id: str,
    made: SubmissionRecord,
    start: Start,
    means: Means,
    limits: ExecutionLimits | None,
) -> Advanced:
    """Claim a round, start its run and record the run, unless another process has done so.

    If the flow has limits, the run first needs a place.
    """
    records, number = RecordStore(store), made.round

    def known() -> Submission | None:
        return _known(made.target, rounds.read_round(records, exec_id, number))

    if (run := known()) is not None:
        return Advanced(True, run)
    wanted = None if limits is None else Wanted(exec_id, number, limits, number == 1)
    if wanted is not None and (refused := _without_place(store, wanted)) is not None:
        return refused
    create_or_read(store, keys.open_round(exec_id, number), b"")
    claimed = _claim(records, exec_id, made, means, known)
    # The run of an earlier claim may have been recorded meanwhile.
    if (run := known()) is not None:
        return Advanced(True, run)
    if claimed is None:
        return Advanced(False, waits_for="claim")
    try:
        started = start(claimed)
    except KitaruError:
        # Without permission to delete, the claim remains. The next submission waits until it
        # expires.
        with suppress(KitaruError):
            store.delete(keys.round_claim(exec_id, number, claimed.attempt))
        if wanted is not None:
            # Others may start meanwhile. If the service started the run after all, its first step
            # asks for the place.
            with suppress(KitaruError):
                places.leave(records, wanted)
        raise
    noted = replace(claimed, run=started.run_id, url=started.url)
    records.write(keys.round_part(exec_id, number, "run"), noted)
    return Advanced(True, submissions.submission_of(made.target, started))


def _claim(
    records: RecordStore,
    exec_id: str,
    made: SubmissionRecord,
    means: Means,
    known: Callable[[], Submission | None],
) -> SubmissionRecord | None:
    """Return the claim of this process; None if another process has one that still counts."""
    for generation in count(1):
        claim = replace(made, attempt=generation, at=now())
        key = keys.round_claim(exec_id, made.round, generation)
        if records.try_create(key, claim):
            return claim
        if not means.patience.is_over(key, lambda: known() is not None) or known() is not None:
            return None
    raise AssertionError("generations have no end")


def _known(target: str, found: Round) -> Submission | None:
    """Return the run that a round has, None before it is known."""
    run = found.run or found.taken
    return None if run is None else submissions.known_submission(target, run)
