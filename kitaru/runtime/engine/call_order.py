"""Compare the calls of a resumed flow with the records of its earlier run, by order and name.

A record is found by the id of its call. If the code changed meanwhile, an id alone is not enough:

    before                       now
    1  research  (recorded)      1  research
    2  send      (recorded)      2  pay            the same call under another name, or a new one?

`pay` has no record, so that it would run, and a payment would be made twice. Therefore calls are
counted in the order of the flow's body. Before a call without a record runs, the record that the
earlier run left at that place is looked up. If it is one that this run has not asked for, the
execution stops: only the author knows what `pay` is (`kitaru.runtime.engine.declared_changes`).

The count is exact only where order is: calls from threads that the body started, or from tasks of
an event loop, come in any order. They are not counted, and not compared. In a compiled flow the
count travels with the frames; calls are compared where a step belongs to another plan than the one
that the execution started with.

A replay may take another path than its source. A process that resumes it compares the calls with
the records of earlier processes of the replay, not with the reused records.

A call that has a record sets the count to the place of that record. So one removed or added call
does not shift all that follow.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from kitaru import hints
from kitaru.errors import Diverged
from kitaru.runtime.engine import declared_changes
from kitaru.runtime.engine.calls import Call
from kitaru.runtime.journal.journal import Journal
from kitaru.wire.ids import Counters
from kitaru.wire.records import InvocationKind, InvocationRecord
from kitaru.wire.structs import Struct

# The calls whose order counts. Notes and memories may come and go.
COUNTED = ("checkpoint", "wait", "llm")


class Unasked(Struct):
    """What an earlier run recorded, or asked a person, and this one has not called so far."""

    id: str
    name: str
    kind: InvocationKind
    ordinal: int
    site: str = ""


class Course:
    """The order of a run's calls; made on the thread of the flow's body, safe for threads."""

    def __init__(
        self, journal: Journal, counters: Callable[[], Counters], *, compares: bool
    ) -> None:
        """`counters` returns those of the run, `compares` is true where an earlier run may have
        left records of other code."""
        self._journal = journal
        self._counters = counters
        self._thread = threading.get_ident()
        self._compares = compares
        self._later = declared_changes.later_than(journal.execution.changes)
        self._newest: tuple[int, str] = (0, "")
        self._recorded: dict[int, Unasked] | None = None
        self._lock = threading.Lock()

    def name_of(self, kind: InvocationKind, name: str) -> str:
        """Return the name under which this execution knows what the code calls `name`."""
        return declared_changes.earlier_name(self._later, kind, name)

    def count(self, kind: InvocationKind, name: str) -> int:
        """Return the place of the next call in the body's order, 0 where order does not count."""
        if kind not in COUNTED or threading.get_ident() != self._thread or _is_in_a_task():
            return 0
        if any((c.kind, c.old, c.new) == (kind, "", name) for c in self._later):
            return 0
        counters = self._counters()
        if counters.ordinal is None:
            return 0
        counters.ordinal += 1
        return counters.ordinal

    def found(self, call: Call, record: InvocationRecord) -> None:
        """Note that a call has a record; log it when the calls have another order than before."""
        if not (self._compares and call.ordinal and record.ordinal) or _is_reused(record):
            return
        before, other = self._newest
        if record.ordinal < before:
            text = "%s: %s was recorded before %s, and is called after it now"
            _warn(text, call.site, call.id, other)
        self._newest = max(self._newest, (record.ordinal, call.id))
        counters = self._counters()
        if call.ordinal == counters.ordinal:
            counters.ordinal = record.ordinal

    def check_may_run(self, call: Call) -> None:
        """Raise Diverged when the earlier run recorded another call at the place of this one."""
        if not (self._compares and call.ordinal):
            return
        with self._lock:
            if self._recorded is None:
                own = self._unasked(lambda record: not _is_reused(record))
                self._recorded = {one.ordinal: one for one in own if one.ordinal}
        other = self._recorded.get(call.ordinal)
        if other is not None and other.id != call.id and not self._is_asked(other.id):
            raise _diverged(self._journal, call, other)

    def _is_asked(self, id: str) -> bool:
        return self._counters().has(id)

    def unasked(self) -> list[Unasked]:
        """Return what earlier runs recorded or asked, and this one has not called."""
        return self._unasked(lambda record: True)

    def _unasked(self, counts: Callable[[InvocationRecord], bool]) -> list[Unasked]:
        ids = {id for id in self._journal.recorded() if not self._is_asked(id)}
        records = filter(counts, self._journal.outcomes(ids))
        found = [Unasked(r.id, r.name, r.kind, r.ordinal, r.site) for r in records]
        found += [
            Unasked(w.name, w.name, "wait", w.ordinal)
            for w in self._journal.wait_requests(
                lambda name: name not in ids and not self._is_asked(name)
            )
        ]
        return [one for one in found if one.kind != "log" and not self._is_removed(one)]

    def _is_removed(self, one: Unasked) -> bool:
        gone = {c.old for c in self._later if c.kind == one.kind and not c.new}
        return one.name in gone or one.id in gone


def _is_reused(record: InvocationRecord) -> bool:
    """Return whether a replay reused a record. Its code may take another path than the source."""
    return bool(record.adopted_from) or record.given


def _is_in_a_task() -> bool:
    # The tasks of a loop run on one thread, in an order that their waiting decides.
    events: Any = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


def _warn(text: str, *values: str) -> None:
    # Costs milliseconds to import, and most executions never need it.
    import logging

    logging.getLogger("kitaru").warning(text, *values)


def _diverged(journal: Journal, call: Call, other: Unasked) -> Diverged:
    kind, name = call.spec.kind, call.spec.name
    at = f"recorded at {other.site}, " if other.site else ""
    what = "asked" if other.kind == "wait" else "called"
    old, new = (other.name, name) if name != other.name else (other.id, call.id)
    lines = [
        *(
            [f'    kitaru.renamed("{old}", {kind}="{new}")    # it was renamed']
            if kind == other.kind
            else []
        ),
        f'    kitaru.added({kind}="{name}")    # {name} is new',
        f'    kitaru.removed({other.kind}="{other.name}")    # it is no longer called',
    ]
    return Diverged(
        f'Non-deterministic replay: the execution {what} {other.kind} "{other.id}" here, and its '
        f'code now calls {kind} "{call.id}" ({at}now at {call.site}). {call.id} did not run.',
        help="\n".join(
            [
                "If the code changed, declare the change of "
                f'"{other.id}" at the top level of its file:',
                *lines,
                f"Then: {hints.command(journal.store, 'executions', 'retry', journal.exec_id)}",
                "If it did not change, the body is not deterministic: read times, random numbers "
                "and other external values inside checkpoints.",
            ]
        ),
    )


def warn_unasked(journal: Journal, ids: Sequence[str]) -> None:
    """Log which recorded invocations were without effect in the run that has just ended."""
    # Costs milliseconds to import, and most executions have none.
    import logging

    replay = journal.execution.replay
    text = "this execution recorded, and its code did not ask for: %s"
    if replay is not None:
        text = f"the flow never asked for what this replay of {replay.source} reused: %s"
    logging.getLogger("kitaru").warning(text, ", ".join(ids))
