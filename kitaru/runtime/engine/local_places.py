"""Let a run in its caller's process wait until the limits of its flow have a place for it."""

from __future__ import annotations

import sys
from typing import Protocol

from kitaru.runtime.journal import places, processes
from kitaru.runtime.journal.journal import Journal, cancel_for
from kitaru.runtime.journal.record_store import RecordStore
from kitaru.wire.flow_limits import ExecutionLimits
from kitaru.wire.printable import line

_LOOK_SECONDS = 0.5


class _Run(Protocol):
    def pause(self, seconds: float) -> bool:
        """Wait, unless the run is abandoned meanwhile."""
        ...


def admit(run: _Run, journal: Journal, limits: ExecutionLimits, *, is_new: bool) -> bool:
    """Wait for a place; return False if the execution was cancelled or the run abandoned.

    The execution keeps the place until it ends or fails, or this process ends. One that is not new
    is never skipped, but may count twice for a rate: its process may have been killed before it had
    a place.
    """
    records, exec_id = RecordStore(journal.store), journal.exec_id
    is_start = is_new or journal.state().number <= 1
    wanted = places.Wanted(exec_id, 0, limits, is_start, processes.own_token())
    is_told = False
    while (refused := places.ask(records, limits.flow, [wanted])[wanted.id]) is not None:
        limit = refused.limit
        policy = limit.when_full if is_new else "queue"
        if policy == "skip":
            cancel_for(journal.store, exec_id, f"the limit of {limits.flow}: {limit}")
        elif policy == "cancel":
            for older in refused.holders[: len(refused.holders) - limit.most + 1]:
                cancel_for(journal.store, older, f"{exec_id}, which takes its place")
            continue
        elif not is_told:
            is_told = True
            sys.stderr.write(line(f"kitaru: {exec_id} waits for a place: {limit}") + "\n")
        if journal.end() is not None or not run.pause(_LOOK_SECONDS):
            return False
    return journal.end() is None
