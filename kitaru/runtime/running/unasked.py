"""Decides what a replay says of results that it took over or was given, and nobody asked for."""

from __future__ import annotations

from kitaru.runtime.recording.journal import Journal
from kitaru.wire.ids import Counters


def warn_unasked(journal: Journal, counters: Counters) -> None:
    """Log which invocations of a replay were without effect: its flow took a way without them.

    `counters` are those of the flow's end; what `kitaru.log` noted does not count.
    """
    if journal.execution.replay is None:
        return
    unasked = [
        record.id
        for record in journal.invocations()
        if (record.adopted_from or record.given)
        and record.kind != "log"
        and not counters.has(record.id)
    ]
    if unasked:
        # Costs milliseconds to import, and most executions are no replays.
        import logging

        logging.getLogger("kitaru").warning(
            "the flow never asked for what this replay of %s took over or was given: %s",
            journal.execution.replay.source,
            ", ".join(unasked),
        )
