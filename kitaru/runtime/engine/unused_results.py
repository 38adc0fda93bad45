"""Report recorded results that a run never asked for, because its flow took another path."""

from __future__ import annotations

from collections.abc import Sequence

from kitaru.runtime.journal.journal import Journal


def warn_unasked(journal: Journal, ids: Sequence[str]) -> None:
    """Log which recorded invocations were without effect in the run that has just ended."""
    # Costs milliseconds to import, and most executions have none.
    import logging

    replay = journal.execution.replay
    text = "this execution recorded, and its code did not ask for: %s"
    if replay is not None:
        text = f"the flow never asked for what this replay of {replay.source} reused: %s"
    logging.getLogger("kitaru").warning(text, ", ".join(ids))
