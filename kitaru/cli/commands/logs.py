"""`kitaru executions logs`: the recorded output of an execution, line by line."""

from __future__ import annotations

import re
from dataclasses import asdict
from itertools import islice

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.output import Output, part
from kitaru.cli.render.execution import clock
from kitaru.errors import UsageError

# Colors are removed from recorded output.
_SGR = re.compile("\x1b\\[[0-9;]*m")


@click.command()
@options.execution
@click.option("--invocation", metavar="ID", help="Only the output of this invocation.")
@click.option("--follow", is_flag=True, help="Continue until the execution has ended.")
@options.page
@options.store
@options.as_json
@options.pass_output
def logs(
    output: Output, execution: str, invocation: str | None, follow: bool, limit: int | None,
    skip: int, store: str | None,
) -> None:  # fmt: skip
    """Show what an execution wrote to stdout, stderr and through logging."""
    found = reader_of(store).executions
    if follow and output.as_json:
        raise UsageError("--follow and --json exclude each other: --json is one document.")
    if output.as_json:
        some = part(found.logs(execution, invocation), output, limit, skip)
        output.document(some.document([asdict(line) for line in some.items]))
        return
    empty = True
    stop = None if limit is None else skip + limit
    for line in islice(found.logs(execution, invocation, follow=follow), skip, stop):
        output.say(f"{clock(line.at)}  {line.invocation or '-'}  {_SGR.sub('', line.text)}")
        empty = False
    if empty:
        output.note("no output was recorded")
