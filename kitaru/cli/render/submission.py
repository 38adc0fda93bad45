"""Show the residual pipeline of an execution, its run, and what its orchestrator was told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.cli.output import Output, label
from kitaru.cli.render.build import show, to_json
from kitaru.ops.compile import compiled_as
from kitaru.ops.resume import Place, write_residual

if TYPE_CHECKING:
    from kitaru.cli.output import Output
    from kitaru.ops.notify import Notice
    from kitaru.ops.submit import Submission
    from kitaru.runtime.journal.journal import Journal


def write(journal: Journal, place: Place, output: Output) -> int:
    """Write the residual pipeline of an execution, show its location, and return the exit code."""
    build = write_residual(journal, place)
    compiled = compiled_as(build, build.plan, (), {})
    if output.as_json:
        output.document({"exec_id": journal.exec_id, **to_json(compiled)})
        return 0
    show(compiled, output)
    output.say(f"deploy   see {build.directory / 'DEPLOY.md'}")
    return 0


def show_submission(flow: str, exec_id: str, run: Submission, output: Output) -> None:
    """Show the run that continues an execution."""
    if output.as_json:
        return
    for note in run.notes:
        output.note(f"{label('note', 'yellow')}: {note}", hang=6)
    head = label("started", "green") if run.is_new else "started by another process"
    output.note(f"{head}  the remaining steps of {flow}  {exec_id}")
    output.note(f"run      {run.run_id} on {run.target}")
    if run.url:
        output.note(f"see      {run.url}")


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
