"""Compare the calls of a resumed flow with the records of its earlier run, by order and name.

Records are found by call id. If the code has changed meanwhile, the id alone is not enough:

    before                       now
    1  research  (recorded)      1  research
    2  send      (recorded)      2  pay            the same call under another name, or a new one?

`pay` has no record. It would run, and the payment would be made twice. Kitaru therefore counts the
calls in the order of the flow's body. Before a call without a record runs, Kitaru looks up the
earlier run's record at the same position. If this run has not used that record, the execution
stops: only the author knows what `pay` stands for (`kitaru.runtime.engine.declared_changes`).

The count is exact only for calls in a fixed order. Calls from threads started by the body, or from
tasks of an event loop, arrive in any order. They are neither counted nor compared. In a compiled
flow, the count travels with the frames. A step compares its calls if it belongs to another plan
than the one that started the execution.

A replay may take another path than its source. A process that resumes the replay compares its calls
with the records of the replay's earlier processes, not with the reused records.

A call with a record sets the count to that record's position. One removed or added call therefore
does not shift the calls after it.

Threads that the flow starts itself, or that a framework starts for it, take numbers in order of
arrival. In a resumed execution, another thread may arrive first:

    recorded     work(left): work      work(right): work_2
    now          work(right) arrives first and takes `work`

`work(right)` then uses the record `work_2`, and the id `work` is free for the next call that cannot
use its own number. If no record has the arguments of a call, its number or a free id is used. If
that id has a record, the arguments differ, and the execution stops as in any other divergence.
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
from kitaru.wire.ids import Counters, is_numbered
from kitaru.wire.records import InvocationKind, InvocationRecord
from kitaru.wire.structs import Struct

# The kinds of calls whose order counts. Log entries and memories may be added or removed freely.
COUNTED = ("checkpoint", "wait", "llm", "child")


class Unasked(Struct):
    """Records and questions of an earlier run that this run has not used."""

    id: str
    name: str
    kind: InvocationKind
    ordinal: int
    site: str = ""


class _Arrivals:
    """The calls of one checkpoint from threads that the flow started.

    `equal` are the recorded ids that no call uses yet, by the digest of their arguments. `free` are
    the numbers of such calls that use another id.
    """

    __slots__ = ("equal", "free", "recorded")

    def __init__(self, records: Sequence[InvocationRecord]) -> None:
        self.free: dict[str, None] = {}
        self.recorded = {record.id for record in records}
        self.equal: dict[str, dict[str, None]] = {}
        for record in sorted(records, key=lambda one: (len(one.id), one.id)):
            self.equal.setdefault(record.arguments_digest, {})[record.id] = None

    def first_free(self) -> str:
        """Return a free id; one that has a record comes before others."""
        return next((id for id in self.free if id in self.recorded), next(iter(self.free)))


class Course:
    """The order of a run's calls. Created on the thread of the flow's body; safe for threads."""

    def __init__(
        self, journal: Journal, counters: Callable[[], Counters], *, compares: bool
    ) -> None:
        """`counters` returns the run's counters.

        `compares` is true if an earlier run may have left records of other code.
        """
        self._journal = journal
        self._counters = counters
        self._thread = threading.get_ident()
        self._compares = compares
        self._later = declared_changes.later_than(journal.execution.changes)
        self._newest: tuple[int, str] = (0, "")
        self._recorded: dict[int, Unasked] | None = None
        self._arrivals: dict[str, _Arrivals] = {}
        # The ids that calls of threads use before their number has been taken.
        self._ahead: dict[str, _Arrivals] = {}
        self._lock = threading.Lock()

    def name_of(self, kind: InvocationKind, name: str) -> str:
        """Return the name under which this execution records what the code calls `name`."""
        return declared_changes.earlier_name(self._later, kind, name)

    def count(self, kind: InvocationKind, name: str) -> int:
        """Return the next call's position in the body's order, 0 if its order does not count."""
        if kind not in COUNTED or threading.get_ident() != self._thread or _is_in_a_task():
            return 0
        if any((c.kind, c.old, c.new) == (kind, "", name) for c in self._later):
            return 0
        counters = self._counters()
        if counters.ordinal is None:
            return 0
        counters.ordinal += 1
        return counters.ordinal

    def id_in_thread(self, call: Call) -> str:
        """Return the id for a call from a thread that the flow started. Not safe for threads.

        It is the id of an unused record with the same arguments, if there is one. Such calls are
        equal, so it does not matter which thread uses which record.
        """
        name = self.name_of(call.spec.kind, call.spec.name)
        if (arrivals := self._arrivals.get(name)) is None:
            arrivals = self._arrivals[name] = _Arrivals(self._unused(name, call))
        if self._ahead.pop(call.id, None) is None:
            arrivals.free[call.id] = None
        equal = arrivals.equal.get(call.digest, {})
        id = call.id
        if id not in (equal or arrivals.free):
            id = next(iter(equal)) if equal else arrivals.first_free()
        equal.pop(id, None)
        if id in arrivals.free:
            del arrivals.free[id]
        else:
            self._ahead[id] = arrivals
        return id

    def id_in_body(self, id: str) -> str:
        """Return the id for any other call: its own, unless a thread uses that already."""
        arrivals = self._ahead.pop(id, None)
        if arrivals is None:
            return id
        free = arrivals.first_free()
        del arrivals.free[free]
        return free

    def _unused(self, name: str, call: Call) -> list[InvocationRecord]:
        """Return the records of a checkpoint's calls that this or a later number may use.

        Lower numbers belong to the body before this call, or to an earlier step.
        """
        ids = {
            id
            for id in self._journal.recorded()
            if is_numbered(id, name) and (id == call.id or not self._counters().has(id))
        }
        names = (name, call.spec.name)
        return [r for r in self._journal.outcomes(ids) if r.name in names and not r.ordinal]

    def found(self, call: Call, record: InvocationRecord) -> None:
        """Note that a call has a record; log a warning if the order of the calls has changed."""
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
        """Raise Diverged if the earlier run recorded another call at the position of this call."""
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
        if any(id in arrivals.free for arrivals in self._arrivals.values()):
            return False
        return id in self._ahead or self._counters().has(id)

    def unasked(self) -> list[Unasked]:
        """Return the records and questions of earlier runs that this run has not used."""
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
    # All tasks of a loop run on one thread, in an order that depends on their waits.
    events: Any = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


def _warn(text: str, *values: str) -> None:
    # The import takes milliseconds, and most executions never need it.
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
    """Log the recorded invocations that the run which just ended did not use."""
    # The import takes milliseconds, and most executions have no unused records.
    import logging

    replay = journal.execution.replay
    text = "this execution recorded, and its code did not ask for: %s"
    if replay is not None:
        text = f"the flow never asked for what this replay of {replay.source} reused: %s"
    logging.getLogger("kitaru").warning(text, ", ".join(ids))
