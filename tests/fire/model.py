"""Scenarios of concurrent processes of one execution.

They run the engine itself, on a store that `explore` simulates.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any, NoReturn
from unittest.mock import patch

from kitaru import checkpoint, memory, wait
from kitaru.errors import WaitConflict
from kitaru.runtime import codec
from kitaru.runtime.engine import awaiting
from kitaru.runtime.engine.execution import Execution, Scope, Stop, entered
from kitaru.runtime.journal import blobs, presence, segments
from kitaru.runtime.journal.journal import Journal
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.runtime.memory.memories import Memory
from kitaru.runtime.telemetry import beats
from kitaru.wire.records import (
    EndRecord,
    ExitRecord,
    WaitAnswer,
)

from .explore import Asking, Model, Objects, Process, Visited
from .promises import (
    AT,
    LARGE,
    RECORD,
    SCOPE,
    START,
    acts,
    answered_or_cancelled,
    cancelled_for_good,
    changes,
    one_answer,
    one_end,
    one_frame,
    one_value,
    one_version_each,
)


class Left(BaseException):
    """The process ended before the flow did: it waits, or another process cancelled the flow."""


class Host:
    retries_here = True

    def pause(self, seconds: float) -> None:
        raise AssertionError("nothing is tried again here")

    def suspend(self, wait: str) -> NoReturn:
        raise Left("waiting")

    def release(self, waits: list[str], wake: Callable[[], None]) -> NoReturn:
        raise Left("waiting")

    def occupy(self) -> None:
        raise AssertionError("no body here has a loop")

    def stop(self, why: Stop, error: BaseException | None) -> NoReturn:
        raise error or Left(why)


def body(
    flow: Callable[[Asking], Any],
    store: Asking,
    *,
    whole: bool = False,
    remote: bool = False,
    began: bool = False,
    goes_on: bool = False,
) -> Any:
    """Run a process of the execution: the flow's body, and with `whole` the end.

    `remote` means that the store is distant. `began` means that the process created the execution
    before any crash. `goes_on` means that it first reads the records of other processes.
    """
    store.remote = remote
    journal = Journal(store, RECORD, began=began and store.life == 0)
    if goes_on:
        journal.mark_running()
    execution = Execution(journal, Host(), awaiting.result_of)
    try:
        with entered(Scope(execution)):
            result = flow(store)
            if not whole:
                return result
            end = execution.complete(result)
    except Left as left:
        return str(left)
    assert end.result is not None
    store.note("ended", "", codec.decode(journal.fetch(end.result)))
    return result


def step(store: Asking, id: str) -> Any:
    """Call a checkpoint whose value differs in every process that runs it."""

    @checkpoint(name=id)
    def work() -> list[str]:
        store.note("called", id)
        calls.append(id)
        return [f"by {Journal(store, RECORD).writer}", "x" * LARGE]

    calls: list[str] = []
    value = work()
    assert len(calls) <= 1, "I6: called twice in one attempt"
    store.note("returned", id, value)
    return value


# What a process of the execution does


def one_step(store: Asking) -> Any:
    return step(store, "a")


def two_steps(store: Asking) -> Any:
    step(store, "b")
    return step(store, "a")


def remembers(store: Asking) -> Any:
    version = memory.set("k", "x" * LARGE, scope="execution")
    store.note("returned", "memory_set", version)
    return version


def asks(store: Asking) -> Any:
    answer = wait(name="ok")
    store.note("returned", "ok", answer)
    return answer


def nothing(store: Asking) -> Any:
    return "x" * LARGE


# What else may happen to an execution


def answering(value: bool) -> Process:
    def answer(store: Asking) -> str:
        try:
            Journal(store, RECORD).answer(WaitAnswer("ok", "value", value, AT))
        except WaitConflict:
            return "conflict"
        return f"answered {value}"

    return Process(f"answer-{value}", answer)


def cancelling(store: Asking) -> str:
    return Journal(store, RECORD).finish(EndRecord("cancelled", None, AT)).status


def writing(store: Asking) -> tuple[str, int]:
    """Write like a client outside the flow: after a restart, it is a new operation."""
    operation = f"outside/{RecordStore(store).writer}"
    return operation, Memory(store, SCOPE, operation).set("k", "theirs")


def crosses_a_cut(store: Asking) -> Any:
    """End a step as its process does: record its exit with the frame, then the pointer to it."""
    value = step(store, "a")
    journal = Journal(store, RECORD)
    journal.record_exit(ExitRecord("a", "go", "b", journal.store_document(value, "frame")))
    journal.set_frame_pointer("b", {"from": "a"})
    return value


def goes_on(store: Asking) -> Any:
    """Start as the next step's process does, which control may not have reached yet."""
    journal = Journal(store, RECORD)
    pointer = journal.frame_pointer("b")
    if pointer is None:
        return "skipped"
    left = journal.exit(pointer["from"])
    assert left is not None and left.frame is not None, "I2: a pointer before its frame"
    return journal.fetch(left.frame)


def failing_late(store: Asking) -> None:
    """Record that the execution failed, like a process that outlived its successor."""
    Journal(store, RECORD).set_state("failed")


# What is explored


def runner(flow: Callable[[Asking], Any], **how: Any) -> Process:
    return Process(flow.__name__, partial(body, flow, **how))


Budget = tuple[int, int]


@dataclass(frozen=True)
class Scenario:
    """Processes, a check of the end, and the maximum numbers of faults and crashes.

    Every test run explores `budgets`, the command `whole`.
    """

    processes: tuple[Process, ...]
    ended: Callable[[Objects, list[Any]], None]
    budgets: tuple[Budget, ...]
    whole: tuple[Budget, ...]

    def explore(self, budget: Budget) -> Visited:
        """Visit every state; raises the error of a check."""
        named = [replace(p, name=f"{p.name}-{n}.") for n, p in enumerate(self.processes)]
        # Values of checkpoints become blobs here, so that their records refer to blobs.
        small, fresh = (blobs, "INLINE_VALUE_BYTES", LARGE), (presence, "_FRESH_SECONDS", inf)
        # Each record goes into a separate segment, concurrently with the next record's write.
        # Beats depend on the time, and their thread would use the stores of the model.
        silent = patch.object(beats.Beats, "_start", lambda beats: None)
        each = patch.object(segments, "_RECORDS", 1)
        with patch.object(*small), patch.object(*fresh), each, silent:
            return Model(named, changes, acts, self.ended, *budget).explore(START)


STEP, WRITER = runner(one_step), Process("writing", writing)
ANSWERS = answering(True), answering(False)
SCENARIOS = {
    "a checkpoint by two": Scenario((STEP, STEP), one_value, ((1, 1),), ((2, 2),)),
    "a checkpoint by three": Scenario(
        (STEP, STEP, STEP), one_value, ((1, 0), (0, 1)), ((1, 1), (2, 1))
    ),
    "one who began, and one who joins, far away": Scenario(
        (runner(two_steps, remote=True, began=True), runner(one_step, remote=True)),
        one_value,
        ((0, 1), (1, 0)),
        ((1, 1), (2, 1), (2, 2)),
    ),
    "one who began, and one who resumes, far away": Scenario(
        (
            runner(two_steps, remote=True, began=True),
            runner(two_steps, remote=True, goes_on=True),
        ),
        one_value,
        ((0, 1),),
        ((1, 0), (1, 1)),
    ),
    "an end by two, and a cancellation": Scenario(
        (runner(nothing, whole=True), runner(nothing, whole=True), Process("end", cancelling)),
        one_end,
        ((0, 1),),
        ((1, 0), (1, 1)),
    ),
    "a checkpoint to the end by two": Scenario(
        (runner(one_step, whole=True), runner(one_step, whole=True), Process("end", cancelling)),
        one_end,
        (),
        ((0, 0), (0, 1)),
    ),
    "two answers to one wait": Scenario((runner(asks), *ANSWERS), one_answer, ((1, 1),), ((2, 2),)),
    "an answer and a cancellation": Scenario(
        (runner(asks, whole=True), ANSWERS[0], Process("end", cancelling)),
        answered_or_cancelled,
        ((1, 0),),
        ((0, 1), (1, 1), (2, 1)),
    ),
    "an end and a late state": Scenario(
        (Process("end", cancelling), Process("late", failing_late)),
        cancelled_for_good,
        ((1, 1),),
        ((2, 2),),
    ),
    "a version by two, and another": Scenario(
        (runner(remembers), WRITER), one_version_each, ((1, 0), (0, 1)), ((1, 1), (2, 1), (2, 2))
    ),
    "a version by two processes": Scenario(
        (runner(remembers), runner(remembers), WRITER), one_version_each, (), ((0, 0), (0, 1))
    ),
    "a cut, and the next step": Scenario(
        (runner(crosses_a_cut), runner(crosses_a_cut), Process("next", goes_on)),
        one_frame,
        ((0, 1),),
        ((1, 0), (1, 1), (2, 1)),
    ),
}
