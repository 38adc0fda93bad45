"""The command `kitaru migrate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import get_args

import click

from kitaru.cli import options
from kitaru.cli.output import Output, counted
from kitaru.wire.migrations import Library


@click.command(short_help="Rewrite a program of another engine as a flow.")
@click.argument("library", type=click.Choice(get_args(Library)))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option("--diff", is_flag=True, help="Write nothing, and print what would change.")
@options.as_json
@options.pass_output
def migrate(output: Output, library: Library, file: Path, diff: bool) -> int:
    """Rewrite a program of another engine as a flow of Kitaru, in place.

    Nothing is imported or run. What has no equivalent stays, below a comment "# MIGRATE: ...".

    Exit code 1 if there is such a comment.
    """
    from kitaru.ops.migrate import migrate as rewrite

    done = rewrite(library, file, diff=diff)
    marks = [asdict(mark) for mark in done.marks]
    if output.as_json:
        output.document({"file": str(file), "marks": marks, "diff": done.diff})
        return 1 if marks else 0
    if diff:
        output.say(done.diff.removesuffix("\n"), block=True)
    else:
        output.note(f"wrote {file}")
    for mark in done.marks:
        output.note(f"{file}:{mark.line}: {mark.text}", hang=4)
    if marks:
        output.note(f"{counted(len(marks), 'line')} for you to decide")
    if not diff:
        output.note(f"check it  kitaru check {file}")
    return 1 if marks else 0
