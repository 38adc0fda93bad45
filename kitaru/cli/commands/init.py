"""`kitaru init`: create a project, and show the files that were written."""

from __future__ import annotations

from pathlib import Path

import click

from kitaru.cli import options
from kitaru.cli.output import Output, label
from kitaru.ops.init import init as start


@click.command(short_help="Create a project: a flow and a pyproject.toml.")
@click.argument("directory", type=click.Path(path_type=Path), default=Path())
@options.as_json
@options.pass_output
def init(output: Output, directory: Path) -> None:
    """Create a project in DIRECTORY (default: the current directory).

    Existing files are left unchanged. An existing review_flow.py is an error.
    """
    written = start(directory)
    if output.as_json:
        output.document({"directory": str(directory), "files": written})
        return
    for name in written:
        output.say(f"{label('wrote', 'green')} {directory / name}")
    where = "" if directory == Path() else f"cd {directory} && "
    output.say(f"next  {where}kitaru run review_flow.py --input topic=kayaks")
