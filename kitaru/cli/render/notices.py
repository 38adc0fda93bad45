"""Show what an orchestrator was told of an answer, or of the end of an execution."""

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
        output.note(f"told {notice.title}: the run goes on")
    elif notice.outcome == "unreachable":
        output.note(
            f"recorded; {notice.title} is not told without {notice.variable}: there any response "
            "lets a task that asks go on with it, and a run that has ended goes on when its last "
            "successful task is cleared with what is behind it",
            hang=0,
        )


def show_end(notice: Notice | None, output: Output) -> None:
    """Write a line about the end of a cancelled execution."""
    if notice is None:
        return
    if notice.outcome == "told":
        output.note(f"told {notice.title}: the run has ended")
    else:
        output.note(
            f"recorded; the run on {notice.title} ends at its next step, and one that asks stays: "
            f"mark it as failed there, or name {notice.variable} to this command",
            hang=0,
        )
