"""Decides what `kitaru executions logs` shows: the output of an execution, line by line."""

from __future__ import annotations

from dataclasses import asdict

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of
from kitaru.cli.output import Output
from kitaru.errors import UsageError


@click.command()
@options.execution
@click.option("--invocation", metavar="ID", help="Only the output of this invocation.")
@click.option("--follow", is_flag=True, help="Go on until the execution has ended.")
@options.store
@options.as_json
@options.pass_output
def logs(
    output: Output, execution: str, invocation: str | None, follow: bool, store: str | None
) -> None:
    """Show what an execution wrote to stdout, stderr and through logging."""
    found = client_of(store).executions
    if follow and output.as_json:
        raise UsageError("--follow and --json exclude each other: --json is one document.")
    if output.as_json:
        items = [asdict(line) for line in found.logs(execution, invocation)]
        output.document({"items": items, "count": len(items)})
        return
    empty = True
    for line in found.logs(execution, invocation, follow=follow):
        output.say(f"{line.at[11:23]}  {line.invocation or '-'}  {line.text}")
        empty = False
    if empty:
        output.note("no output was kept")
