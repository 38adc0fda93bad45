"""Show whether an orchestrator was notified of an answer, or of a cancelled execution."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kitaru.cli.output import Output
    from kitaru.ops.notify import Notice


def show_answer(notice: Notice | None, output: Output) -> None:
    """Write a line about an answer."""
    if notice is None:
        return
    if notice.outcome == "told":
        output.note(f"notified {notice.title}: the run continues")
    elif notice.outcome == "unreachable":
        output.note(
            f"recorded; {notice.title} was not notified, because {notice.variable} is not "
            "set. On its page, any response continues a waiting task with this answer. A run that "
            "has ended continues after you clear its last successful task and the tasks behind it.",
            hang=0,
        )


def show_end(notice: Notice | None, output: Output) -> None:
    """Write a line about the end of a cancelled execution."""
    if notice is None:
        return
    if notice.outcome == "told":
        output.note(f"notified {notice.title}: the run has ended")
    else:
        output.note(
            f"recorded; the run on {notice.title} ends at its next step. A run that waits does not "
            f"end: mark it as failed there, or set {notice.variable} and run this command again.",
            hang=0,
        )
