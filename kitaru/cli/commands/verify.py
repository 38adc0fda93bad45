"""Decides what `kitaru verify` says of a build: every file against what was compiled."""

from __future__ import annotations

from pathlib import Path

import click

from kitaru.cli import options
from kitaru.cli.output import Output, label
from kitaru.errors import FlowError

EPILOG = "Exit codes: 0 it is what was compiled; 1 it is not; 2 there is no build in DIR."


@click.command(short_help="Check that a build is what was compiled.", epilog=EPILOG)
@click.argument("directory", type=click.Path(path_type=Path), metavar="DIR")
@options.as_json
@options.pass_output
def verify(output: Output, directory: Path) -> None:
    """Check every file of the build in DIR against its digest, and what else lies there.

    Warns of an image that is named by a tag, which may be another one tomorrow.
    """
    from kitaru_targets.verification import verify

    found = verify(directory)
    if found.problems:
        raise FlowError(
            f"{directory} is not what was compiled: {'; '.join(found.problems)}",
            help="Compile again, and find out who changed it: kitaru compile FLOW --target T",
        )
    if output.as_json:
        checked = {"directory": str(directory), "ok": True, "files": list(found.files)}
        output.document({**checked, "digest": found.digest, "warnings": list(found.warnings)})
        return
    output.say(f"{label('good', 'green')}  {len(found.files)} files  {found.digest}")
    for warning in found.warnings:
        output.note(f"{label('warning', 'yellow')}: {warning}", hang=9)
