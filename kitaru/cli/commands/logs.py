"""`kitaru executions logs`: the recorded output of an execution, line by line."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import asdict
from itertools import islice

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.output import Output, part
from kitaru.cli.render.execution import clock, progress_text
from kitaru.errors import UsageError
from kitaru.runtime.telemetry.logs import EVENT, MODEL, PROGRESS, LogLine

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
    """Show what an execution wrote to stdout, stderr and through logging, and its events.

    With --follow, also the text that a model streams.
    """
    found = reader_of(store).executions
    if follow and output.as_json:
        raise UsageError("--follow and --json exclude each other: --json is one document.")
    if output.as_json:
        some = part(found.logs(execution, invocation), output, limit, skip)
        output.document(some.document([asdict(line) for line in some.items]))
        return
    empty = True
    stop = None if limit is None else skip + limit
    streamed = None
    for line in islice(found.logs(execution, invocation, follow=follow), skip, stop):
        empty = False
        if line.stream == MODEL and streamed == line.invocation:
            output.piece(_SGR.sub("", line.text))
            continue
        if streamed is not None:
            output.say()
        streamed = line.invocation if line.stream == MODEL else None
        write = output.say if streamed is None else output.piece
        write(f"{clock(line.at)}  {line.invocation or '-'}  {_shown(line)}")
    if streamed is not None:
        output.say()
    if empty:
        output.note("no output was recorded")


def _shown(line: LogLine) -> str:
    if line.stream == PROGRESS:
        with suppress(ValueError, KeyError, TypeError):
            return f"progress {progress_text(json.loads(line.text))}"
    of = f"{line.stream} " if line.stream in (EVENT, MODEL) else ""
    return f"{of}{_SGR.sub('', line.text)}"
