"""Child executions: who started whom, and how a parent learns that its child has ended.

    parent                                        child
    note x/<parent>/child/<k>
    its own end is not recorded?
    hint, then x/<child>/launch{parent}           a dispatcher starts it
    wait for <invocation>.result                  …
                                                  hint, then x/<child>/end
    x/<parent>/wait/<invocation>.result/answer/1  <- written by everybody who sees the end

A note precedes the launch, and its number has no gap, so exact reads find every child that may have
started. A cancellation writes the parent's end first and then reads the notes. A child that is
noted later is not started: its parent has read the end.

Everybody who sees that a child has ended writes the same answer, and the first one counts.
"""

from __future__ import annotations

from typing import Literal

from kitaru.runtime.journal import launches, processes, rounds, states
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.stores.base import Store
from kitaru.wire import keys
from kitaru.wire.records import (
    ChildRecord,
    ErrorInfo,
    ExecutionRecord,
    WaitAnswer,
)
from kitaru.wire.structs import Struct
from kitaru.wire.times import now

_AT_ONCE = 100
_LOST = ErrorInfo("", f"its run ended without a word {rounds.MOST_LOST + 1} times in a row")


class Ending(Struct):
    """How a child has ended. A failed one can be retried; then it has not ended any more."""

    status: Literal["completed", "failed", "cancelled"]
    error: ErrorInfo | None = None

    def answer(self, child: str, wait: str) -> WaitAnswer:
        """Return the answer to a parent's wait."""
        error = self.error or ErrorInfo("", "")
        value = {
            "execution": child,
            "status": self.status,
            "error": error.type,
            "message": error.message,
        }
        return WaitAnswer(wait, "child", value, now(), by=child)


def wait_of(invocation: str) -> str:
    """Return the name of the wait for the child that an invocation starts."""
    return f"{invocation}.result"


def note(store: Store, exec_id: str, made: ChildRecord) -> None:
    """Note a child under the next free number. A call that is repeated may note it twice."""
    records = RecordStore(store)
    number = len(store.list(keys.children(exec_id))) + 1
    while records.write(keys.child(exec_id, number), made).exec_id != made.exec_id:
        number += 1


def notes(store: Store, exec_id: str) -> list[ChildRecord]:
    """Return the noted children in order, each once, from exact reads."""
    records, found = RecordStore(store), dict[str, ChildRecord]()
    number, many = 1, 1
    while True:
        places = [keys.child(exec_id, one) for one in range(number, number + many)]
        read = records.read_all(ChildRecord, places)
        for one in read:
            found.setdefault(one.exec_id, one)
        if len(read) < many:
            return [*found.values()]
        number, many = number + many, _AT_ONCE


def parent_of(store: Store, exec_id: str) -> str:
    """Return `<execution>/<invocation>` of the call that started an execution, or empty."""
    record = RecordStore(store).read(ExecutionRecord, keys.execution(exec_id))
    if record is not None:
        return record.parent
    launch = launches.recall(store, exec_id)
    return launch.parent if launch is not None else ""


def ending(store: Store, exec_id: str) -> Ending | None:
    """Return how an execution has ended, None while it may still continue by itself."""
    records = RecordStore(store)
    end = states.read_end(records, exec_id)
    if end is not None:
        return Ending(end.status)
    record = records.read(ExecutionRecord, keys.execution(exec_id))
    if record is None and store.get(keys.launch(exec_id)) is None:
        return None
    state = None
    if record is not None:
        state = states.read_state(records, exec_id, record.started_at)
    has_failed = state is not None and state.status == "failed"
    error = state.error if state is not None else None
    if record is not None and record.mode != "deployed":
        return Ending("failed", error) if has_failed else None
    newest = rounds.newest_round(records, exec_id)
    closed = newest.closed.status if newest.closed is not None else None
    if closed == "failed" or (closed is None and has_failed and _is_gone(newest)):
        return Ending("failed", error)
    if closed == "lost" and rounds.lost_in_a_row(records, exec_id, newest) > rounds.MOST_LOST:
        return Ending("failed", _LOST)
    return None


def look(store: Store, exec_id: str, wait: str, child: str) -> bool:
    """Answer a wait of an execution if its child has ended; return whether it is answered."""
    records = RecordStore(store)
    if rounds.effective_answer(records, exec_id, wait) is not None:
        return True
    found = ending(store, child)
    if found is None or states.read_end(records, exec_id) is not None:
        return False
    parent = records.read(ExecutionRecord, keys.execution(exec_id))
    if parent is not None:
        # Another process may have written an earlier end, such as a failure before a retry.
        rounds.write_answer(records, parent, found.answer(child, wait))
    return parent is not None


def has_changed(store: Store, answer: WaitAnswer) -> bool:
    """Return whether a child that had failed, as an answer says, was retried meanwhile."""
    if answer.kind != "child" or answer.value["status"] != "failed":
        return False
    found = ending(store, answer.value["execution"])
    return found is None or found.status != "failed"


def tell_parent(store: Store, exec_id: str, parent: str) -> None:
    """Answer the wait of the parent of an execution, if the execution has ended."""
    if parent:
        above, _, invocation = parent.partition("/")
        look(store, above, wait_of(invocation), exec_id)


def _is_gone(newest: rounds.Round) -> bool:
    taken = newest.taken
    return taken is not None and taken.target == "local" and processes.is_gone(taken.run)
