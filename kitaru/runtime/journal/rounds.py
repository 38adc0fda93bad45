"""Rounds: which run of the orchestrator executes a deployed execution now.

A deployed execution runs in rounds. Round 1 is its first run. A round ends when its run is parked
at a wait, when it has failed, or when its run ended without a word; the next round is the run that
continues it. Each fact about a round has one key, and its first writer decides:

    run      the run that a service returned for a submission
    taken    the run whose step started first: the fence. A step of another run ends before it runs
             any code of the flow, so a service may start a round twice without an effect.
    closed   why the round's run does not continue the execution

Before a record that somebody must act on, its writer creates a hint below `due/`. A hint is deleted
only by a process that has read its record and then found nothing left to do. A process that is
killed between the two leaves the hint behind, and the next pass of a dispatcher finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Literal

from kitaru.errors import StoreDenied, WaitConflict
from kitaru.runtime.journal.blobs import create_or_read
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.journal.states import read_state
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.records import (
    ExecutionRecord,
    RoundClosed,
    SubmissionRecord,
    WaitAnswer,
    WaitRefusal,
)
from kitaru.wire.structs import Struct, replace
from kitaru.wire.times import now

VARIABLE = "KITARU_ROUND"
# Runs that end without a word are started again, but an execution that kills each of them is not.
MOST_LOST = 3


class Round(Struct):
    """What is recorded of a round. Number 0: no round has begun."""

    number: int = 0
    run: SubmissionRecord | None = None
    taken: SubmissionRecord | None = None
    closed: RoundClosed | None = None

    @property
    def has_begun(self) -> bool:
        """Whether a run was started or has taken the round, or the round is closed."""
        return (self.run or self.taken or self.closed) is not None

    @property
    def is_open(self) -> bool:
        """Whether a run executes the round, as far as the store shows."""
        return self.closed is None and self.has_begun


class Entered(Struct):
    """How a step may use the round that it starts in.

    `running`: its run has the round. `parked`: its run has the round, which is closed at waits
    without an answer; with `is_full`, an answer is there, and the limits of the flow leave no place
    for the next round. `superseded`: the run `other` has the round, or the round is over. `full`:
    the limits of the flow leave no place for it.
    """

    status: Literal["running", "parked", "superseded", "full"]
    round: int
    other: str = ""
    waits: tuple[str, ...] = ()
    is_full: bool = False


def read_round(records: RecordStore, exec_id: str, number: int) -> Round:
    """Return what is recorded of a round, from exact reads."""
    places = [keys.round_part(exec_id, number, what) for what in ("run", "taken", "closed")]
    run, taken, closed = records.store.get_all(places)
    return Round(
        number,
        None if run is None else records.verify(SubmissionRecord, places[0], run),
        None if taken is None else records.verify(SubmissionRecord, places[1], taken),
        None if closed is None else records.verify(RoundClosed, places[2], closed),
    )


def newest_round(records: RecordStore, exec_id: str) -> Round:
    """Return the newest round that has begun. A list says where to look; exact reads decide."""
    listed = records.store.list(keys.rounds(exec_id))
    number = max((keys.round_number(key) for key in listed), default=0)
    found = read_round(records, exec_id, number) if number else Round()
    # The newest round may only be claimed.
    while found.number and not found.has_begun:
        found = read_round(records, exec_id, found.number - 1) if found.number > 1 else Round()
    while (later := read_round(records, exec_id, found.number + 1)).has_begun:
        found = later
    return found


def lost_in_a_row(records: RecordStore, exec_id: str, found: Round) -> int:
    """Return how many rounds up to `found` were lost, without another one between them."""
    lost = 0
    while found.number and found.closed is not None and found.closed.status == "lost":
        lost += 1
        found = read_round(records, exec_id, found.number - 1)
    return lost


def effective_answer(records: RecordStore, exec_id: str, wait: str) -> WaitAnswer | None:
    """Return the answer of a wait, or None if it certainly has no answer yet."""
    number = 1
    while True:
        held = records.read(WaitAnswer, keys.wait_answer(exec_id, wait, number))
        if held is None:
            return None
        refusal = keys.wait_refusal(exec_id, wait, number)
        if records.read(WaitRefusal, refusal) is None:
            return held
        number += 1


def write_answer(
    records: RecordStore,
    execution: ExecutionRecord,
    answer: WaitAnswer,
    *,
    is_hinted: bool = False,
    number: int | None = None,
) -> WaitAnswer:
    """Write an answer of a wait; return the first one that the flow has not rejected.

    Args:
        is_hinted: a hint announces the answer already.
        number: write only the answer of that number. Default: the first that is not rejected.

    Raises WaitConflict if the answer of that number was rejected.
    """
    exec_id, only, number = execution.exec_id, number, number or 1
    while True:
        is_continued = execution.mode == "deployed" or answer.kind == "event"
        if is_continued and not is_hinted:
            # Before the answer: if this process dies after it, a dispatcher finds the hint.
            hint = keys.due_answer(exec_id, answer.name, number)
            create_or_read(records.store, hint, now().encode("ascii"))
        key = keys.wait_answer(exec_id, answer.name, number)
        held = records.write(key, replace(answer, number=number))
        refusal = keys.wait_refusal(exec_id, answer.name, number)
        if records.read(WaitRefusal, refusal) is None:
            return held
        if only is not None:
            raise WaitConflict(f'The flow has rejected answer {only} of the wait "{answer.name}".')
        number += 1


def answers_of(records: RecordStore, exec_id: str, waits: Iterable[str]) -> list[WaitAnswer]:
    """Return the answers of those waits that have one."""
    found = (effective_answer(records, exec_id, wait) for wait in waits)
    return [answer for answer in found if answer is not None]


# Returns whether the limits of the flow have a place for a round.
Admits = Callable[[int], bool]


def enter(
    records: RecordStore,
    exec_id: str,
    run: str,
    *,
    target: str,
    number: int | None = None,
    admits: Admits | None = None,
) -> Entered:
    """Take the current round for a run whose step starts, or return why it may not run.

    Args:
        run: the run of the step, which is the same for all steps of one native run.
        number: the round that the step's document was made for, None for a document of no
            particular round, such as that of the first run.
        admits: asked before a round is taken; None for a flow without limits.
    """
    found = newest_round(records, exec_id)
    if found.number == 0 or (number is not None and number > found.number):
        return _take(records, exec_id, number or 1, run, target, admits)
    holder = found.taken.run if found.taken is not None else None
    if found.closed is None:
        if holder == run:
            return Entered("running", found.number)
        if holder is None and number in (None, found.number):
            return _take(records, exec_id, found.number, run, target, admits)
        if number is not None or read_state(records, exec_id, "").status != "failed":
            return Entered("superseded", found.number, holder or "")
        # A person started the document again after the execution had failed.
        found = Round(found.number, closed=close(records, exec_id, found.number, "failed", by=run))
    if holder != run and number is not None:
        return Entered("superseded", found.number, holder or "")
    assert found.closed is not None
    if found.closed.status == "parked" and not answers_of(records, exec_id, found.closed.waits):
        return Entered("parked", found.number, waits=found.closed.waits)
    # The same run continues: it was cleared, notified or retried on its orchestrator.
    entered = take_next(records, exec_id, found.number, run, target=target, admits=admits)
    if entered.status == "full" and found.closed.status == "parked":
        return Entered("parked", found.number, waits=found.closed.waits, is_full=True)
    return entered


def take_next(
    records: RecordStore,
    exec_id: str,
    number: int,
    run: str,
    *,
    target: str,
    admits: Admits | None = None,
) -> Entered:
    """Take the round after the closed round `number`, and delete the hints that asked for it.

    Without a place the hints stay, and a dispatcher continues the execution later.
    """
    entered = _take(records, exec_id, number + 1, run, target, admits)
    if entered.status == "running":
        drop(records.store, *_hints_before(records, exec_id, number))
    return entered


def close(
    records: RecordStore,
    exec_id: str,
    number: int,
    status: Literal["parked", "failed", "lost"],
    waits: Iterable[str] = (),
    *,
    by: str,
) -> RoundClosed:
    """Close a round unless it is closed already; return the record that counts."""
    create_or_read(records.store, keys.due_closed(exec_id, number), now().encode("ascii"))
    made = RoundClosed(number, status, now(), tuple(waits), by)
    return records.write(keys.round_part(exec_id, number, "closed"), made)


def park(
    records: RecordStore,
    exec_id: str,
    number: int,
    run: str,
    waits: list[str],
    *,
    target: str,
    admits: Admits | None = None,
) -> Entered:
    """Close a round whose run ends at waits without an answer.

    Returns `parked`; `running` with the next round if an answer arrived meanwhile; `superseded` if
    another process has closed the round, or the next round has another run.
    """
    held = close(records, exec_id, number, "parked", waits, by=run)
    if held.status != "parked":
        return Entered("superseded", number, held.by)
    if answers_of(records, exec_id, held.waits):
        entered = take_next(records, exec_id, number, run, target=target, admits=admits)
        if entered.status != "full":
            return entered
        return Entered("parked", number, waits=held.waits, is_full=True)
    # The record was read, and no answer is there: an answer brings its own hint.
    drop(records.store, keys.due_closed(exec_id, number), keys.open_round(exec_id, number))
    return Entered("parked", number, waits=held.waits)


def drop(store: Store, *hints: str) -> None:
    """Delete hints, if this process may delete. A hint that stays costs another look, no more."""
    with suppress(StoreDenied):
        store.delete(*hints)


def _take(
    records: RecordStore,
    exec_id: str,
    number: int,
    run: str,
    target: str,
    admits: Admits | None = None,
) -> Entered:
    if admits is not None and not admits(number):
        return Entered("full", number)
    # Before the round is taken: if this process dies, a dispatcher must look at the run.
    create_or_read(records.store, keys.open_round(exec_id, number), b"")
    made = SubmissionRecord(number, 0, target, now(), run)
    held = records.write(keys.round_part(exec_id, number, "taken"), made)
    closed = records.store.get(keys.round_part(exec_id, number, "closed"))
    if held.run != run or closed is not None:
        return Entered("superseded", number, held.run if held.run != run else "")
    return Entered("running", number)


def _hints_before(records: RecordStore, exec_id: str, number: int) -> list[str]:
    """Return the hints of a closed round and of the answers to its waits, which were read."""
    closed = read_round(records, exec_id, number).closed
    answers = answers_of(records, exec_id, closed.waits) if closed is not None else []
    return [
        keys.due_closed(exec_id, number),
        keys.open_round(exec_id, number),
        *(keys.due_answer(exec_id, answer.name, answer.number) for answer in answers),
    ]
