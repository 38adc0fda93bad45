"""Show the invocations of an execution. If there are many, show the first, the last, and counts.

For example, for an execution of 100,000 checkpoints:

      ✓ step              0.00 s
      ✓ other             0.00 s
      …
      … 99,970 more invocations: kitaru executions get EXEC --after other_10
      ✓ step_50000        0.00 s
      ✓ other_50000       0.00 s
    100,000 invocations
      step    50,000
      other   50,000
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.cli.output import Output, counted, label
from kitaru.cli.render.execution import command
from kitaru.cli.render.progress import failed_attempts, lines

if TYPE_CHECKING:
    from kitaru.runtime.executions.overview import Count, Overview

# An execution with up to this many invocations is shown completely.
PAGE = 50
TAIL = 10
_COUNTS = 20


def show_invocations(seen: Overview, output: Output, *, exec_id: str, store: str | None) -> None:
    """Write a page of invocations, and a summary of the others."""
    for line in lines(seen.page):
        output.note(line, hang=4)
    if seen.next is not None:
        shown = len(seen.page) + len(seen.last)
        more = command("get", exec_id, "--after", seen.next, store=store)
        what = counted(max(seen.total - shown, 0), "other invocation")
        output.note(f"  … {what}, the next ones: {more}")
        for line in lines([*seen.failed, *seen.last]):
            output.note(line, hang=4)
    for line in failed_attempts(seen.attempts):
        output.note(line, hang=4)
    if seen.attempts_total > len(seen.attempts):
        hidden = counted(seen.attempts_total - len(seen.attempts), "more failed attempt")
        output.note(f"  … {hidden}")
    if seen.next is not None:
        output.note(counted(seen.total, "invocation"))
        for line in output.rows([_row(count) for count in seen.counts[:_COUNTS]], note=True):
            output.note(f"  {line}", hang=4)
        if len(seen.counts) > _COUNTS:
            output.note(f"  … {counted(len(seen.counts) - _COUNTS, 'other name')}")


def _row(count: Count) -> tuple[str, ...]:
    return (
        count.name,
        f"{count.count:,}",
        label(f"{count.failed:,} failed", "red") if count.failed else "",
        f"{count.reused:,} not run here" if count.reused else "",
        f"{count.seconds:.2f} s" if count.seconds else "",
    )
