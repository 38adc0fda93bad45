"""Progress of a run: a line for each invocation that ends, and a clock in between."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from kitaru.cli import layout
from kitaru.cli.output import Output, label
from kitaru.cli.render.execution import moment, progress_text
from kitaru.errors import WaitTimeout
from kitaru.runtime.engine.local_run import running_here
from kitaru.runtime.telemetry.output import on_top
from kitaru.wire.printable import line, rendered
from kitaru.wire.structs import fields_of
from kitaru.wire.times import seconds_until

if TYPE_CHECKING:
    from kitaru.handle import Handle
    from kitaru.runtime.journal.journal import Journal
    from kitaru.status import ExecutionStatus
    from kitaru.wire.records import AttemptRecord, InvocationRecord

Write = Callable[[str], None]

FIRST_LOOK = 0.05
LAST_LOOK = 0.25
COLUMN = 16
_NAMED = 3
# A sleep that ends sooner is not announced.
_SHORT_SECONDS = 2.0
# The number of lines that one look may add. A replay of a long execution begins with many.
MOST = 500
# A look lists all recorded invocations, so it is left out the more often, the more there are.
PER_LOOK = 4_000


class Progress:
    """Writes each recorded invocation of an execution once, as it appears in the journal.

    With `--json` it stays silent.
    """

    def __init__(self, journal: Journal, output: Output, shown: Iterable[str] = ()) -> None:
        """`shown` are invocations that are not written any more."""
        self._journal = journal
        self._output = output
        self._shown = set(shown)
        self._asleep: set[str] = set()
        self._turns = 0

    def follow(self, handle: Handle[Any]) -> ExecutionStatus:
        """Show progress until the execution has ended or waits for an answer; return which."""
        if not self._output.live:
            note = partial(self._output.note, block=True)
            return self._follow(handle, note, lambda text: None)
        with _live() as (write, clock):
            return self._follow(handle, write, clock)

    def _follow(self, handle: Handle[Any], write: Write, clock: Write) -> ExecutionStatus:
        start, pause = time.monotonic(), FIRST_LOOK
        while True:
            try:
                status = handle.settle(pause)
                self._show_new(write)
                return status
            except WaitTimeout:
                if self._is_due():
                    self._show_new(write)
                    self._show_sleeps(write)
                clock(self._clock(start))
                pause = min(pause * 1.5, LAST_LOOK)

    def _clock(self, start: float) -> str:
        """Return what runs now and for how long, the oldest first."""
        now, run = time.monotonic(), running_here(self._journal)
        since = sorted((run.attempting if run else {}).items(), key=lambda one: one[1])
        reported = run.progress if run else {}
        named = [
            f"{id} {now - began:.0f} s"
            + (f", {progress_text(fields_of(reported[id]))}" if id in reported else "")
            for id, began in since[:_NAMED]
        ]
        named += [f"{len(since) - _NAMED} more"] if len(since) > _NAMED else []
        recorded = f"{len(self._shown)} recorded, {now - start:.0f} s"
        if not named and run and (moments := run.sleeping.values()):
            return f"sleeping  until {moment(min(moments))}  ({recorded})"
        return f"running  {', '.join(named)}  ({recorded})" if named else f"running  {recorded}"

    def _is_due(self) -> bool:
        self._turns += 1
        return self._turns % (1 + len(self._shown) // PER_LOOK) == 0

    def _show_new(self, write: Write) -> None:
        if self._output.as_json:
            return
        before = len(self._shown)
        new = self._journal.unseen(self._shown, MOST)
        if (left_out := len(self._shown) - before - len(new)) > 0:
            write(f"  … {left_out:,} other invocations")
        for shown in lines(new):
            write(layout.wrap(line(shown, 4), self._output.width, 4))

    def _show_sleeps(self, write: Write) -> None:
        """Report each long sleep once, with its end."""
        run = running_here(self._journal)
        if self._output.as_json or run is None:
            return
        for id, until in run.sleeping.items():
            if id not in self._asleep and seconds_until(until) > _SHORT_SECONDS:
                self._asleep.add(id)
                write(line(f"  {label('…', 'cyan')} {id:<{COLUMN}}  until {moment(until)}", 4))


@contextmanager
def _live() -> Iterator[tuple[Write, Write]]:
    """Keep a line with a clock at the bottom of the terminal; others are written above it."""
    # Rich costs a tenth of a second to import, worth it only on a terminal.
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    console, spinner = Console(stderr=True), Spinner("dots", "running")
    # What the flow prints goes above the line as well, unless it goes to a file.
    to_terminal = sys.stdout.isatty()
    with Live(spinner, console=console, transient=True, redirect_stdout=to_terminal), on_top():
        yield (
            lambda text: console.print(Text.from_ansi(rendered(text, color=True)), soft_wrap=True),
            lambda text: spinner.update(text=text),
        )


def lines(records: Iterable[InvocationRecord]) -> list[str]:
    """Return invocations as aligned lines: mark, id, how long it took, what is special about it."""
    shown = [record for record in records if record.kind != "log"]
    width = max([COLUMN, *(len(record.id) for record in shown)])
    return [f"  {_mark(r)} {r.id:<{width}}  {', '.join(_facts(r))}".rstrip() for r in shown]


def failed_attempts(attempts: Iterable[AttemptRecord]) -> Iterator[str]:
    """Yield a line for each attempt that failed: which one, how long it took, and of what."""
    for attempt in attempts:
        error = attempt.error
        why = f"{error.type}: {error.message}" if error else "failed"
        shown = f"{attempt.id}, attempt {attempt.number}"
        yield f"  {label('✗', 'red')} {shown:<{COLUMN}}  {duration(attempt)}, {why}"


def _mark(record: InvocationRecord) -> str:
    if record.status == "completed":
        return label("✓", "green")
    return label("✗", "red") if record.status == "failed" else label("-", "yellow")


def _facts(record: InvocationRecord) -> Iterator[str]:
    if record.adopted_from:
        yield f"from {record.adopted_from.partition('/')[0]}"
    elif record.given:
        yield "injected"
    elif record.cached_from:
        yield f"cached, from {record.cached_from.partition('/')[0]}"
    elif record.status == "cancelled":
        yield "cancelled"
    elif record.kind == "wait":
        is_expired = record.callee == "kitaru.sleep" or record.status == "failed"
        yield "ended" if is_expired else "answered"
    else:
        yield duration(record)
    if record.attempts > 1:
        yield f"{record.attempts} attempts"
    if record.status == "failed" and record.error:
        yield f"{record.error.type}: {record.error.message}, caught by the flow"


def duration(record: InvocationRecord | AttemptRecord) -> str:
    """Return how long an invocation or an attempt took, such as `0.41 s`."""
    start, end = map(datetime.fromisoformat, (record.started_at, record.ended_at))
    seconds = (end - start).total_seconds()
    return f"{seconds:.2f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
