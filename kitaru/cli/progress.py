"""Decides how progress is shown: a line for each invocation that ends, a clock in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from kitaru.cli.output import Output, label
from kitaru.errors import WaitTimeout

if TYPE_CHECKING:
    from kitaru.handle import Handle
    from kitaru.runtime.journal import Journal
    from kitaru.wire.records import InvocationRecord, Status

FIRST_LOOK = 0.05
LAST_LOOK = 0.25
COLUMN = 16


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

    def follow(self, handle: Handle[Any]) -> Status:
        """Show progress until the execution has ended or waits for an answer; return which."""
        pause = FIRST_LOOK
        with self._clock() as tick:
            while True:
                try:
                    status = handle.settle(pause)
                    break
                except WaitTimeout:
                    self._show_new()
                    tick(len(self._shown))
                    pause = min(pause * 1.5, LAST_LOOK)
        self._show_new()
        return status

    def _show_new(self) -> None:
        if self._output.as_json:
            return
        new = [record for record in self._journal.invocations() if record.id not in self._shown]
        self._shown.update(record.id for record in new)
        for line in lines(new):
            self._output.note(line)

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


def lines(records: Iterable[InvocationRecord]) -> list[str]:
    """Return invocations as aligned lines: mark, id, how long it took, what is special about it."""
    shown = [record for record in records if record.kind != "log"]
    width = max([COLUMN, *(len(record.id) for record in shown)])
    return [f"  {_mark(r)} {r.id:<{width}}  {', '.join(_facts(r))}".rstrip() for r in shown]


def _mark(record: InvocationRecord) -> str:
    return label("✗", "red") if record.status == "failed" else label("✓", "green")


def _facts(record: InvocationRecord) -> Iterator[str]:
    if record.cached_from:
        yield f"cached, from {record.cached_from.partition('/')[0]}"
    elif record.kind == "wait":
        yield "answered"
    else:
        yield duration(record)
    if record.attempts > 1:
        yield f"{record.attempts} attempts"
    if record.status == "failed" and record.error:
        yield f"{record.error.type}: {record.error.message}, caught by the flow"


def duration(record: InvocationRecord) -> str:
    """Return how long an invocation took, such as `0.41 s`."""
    start, end = map(datetime.fromisoformat, (record.started_at, record.ended_at))
    seconds = (end - start).total_seconds()
    return f"{seconds:.2f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
