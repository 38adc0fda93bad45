"""Decides how progress is shown: a line for each invocation that ends, a clock in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from kitaru.cli.output import Output, label

if TYPE_CHECKING:
    from kitaru.runtime.journal import Journal
    from kitaru.wire.records import InvocationRecord

FIRST_LOOK = 0.01
LAST_LOOK = 0.25
SHOWN = ("checkpoint", "llm", "wait")


class Progress:
    """Writes each recorded invocation of an execution once, as it appears in the journal.

    With `--json` it stays silent.
    """

    def __init__(self, journal: Journal, output: Output) -> None:
        self._journal = journal
        self._output = output
        self._shown: set[str] = set()

    def skip_recorded(self) -> None:
        """Count what is recorded already as shown."""
        self._shown.update(record.id for record in self._journal.invocations())

    def follow(self, status: Callable[[], str]) -> str:
        """Show progress until the execution no longer runs; return its status then."""
        pause = FIRST_LOOK
        with self._clock() as tick:
            while (now := status()) == "running":
                self._show_new()
                tick(len(self._shown))
                time.sleep(pause)
                pause = min(pause * 1.5, LAST_LOOK)
        self._show_new()
        return now

    def _show_new(self) -> None:
        if self._output.as_json:
            return
        for record in self._journal.invocations():
            if record.id not in self._shown and record.kind in SHOWN:
                self._shown.add(record.id)
                self._output.note(line(record))

    @contextmanager
    def _clock(self) -> Iterator[Callable[[int], None]]:
        if not self._output.live:
            yield lambda done: None
            return
        # Rich costs a tenth of a second to import, worth it only on a terminal.
        from rich.console import Console

        start = time.monotonic()
        with Console(stderr=True).status("running") as status:
            yield lambda done: status.update(
                f"running  {done} recorded, {time.monotonic() - start:.0f} s"
            )


def line(record: InvocationRecord, width: int = 20) -> str:
    """Return one invocation as a line: mark, id, how long it took, what is special about it."""
    failed = record.status == "failed"
    mark = label("✗", "red") if failed else label("✓", "green")
    facts = [duration(record)]
    if record.cached_from:
        facts = [f"cached from {record.cached_from.partition('/')[0]}"]
    if record.attempts > 1:
        facts.append(f"{record.attempts} attempts")
    if failed and record.error:
        facts.append(f"{record.error.type}: {record.error.message}, caught by the flow")
    return f"  {mark} {record.id:<{width}}  {', '.join(fact for fact in facts if fact)}".rstrip()


def duration(record: InvocationRecord) -> str:
    """Return how long an invocation took, such as `0.41 s`; empty when nobody knows."""
    if not record.started_at or not record.ended_at:
        return ""
    moments = map(datetime.fromisoformat, (record.started_at, record.ended_at))
    start, end = moments
    seconds = (end - start).total_seconds()
    return f"{seconds:.2f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
