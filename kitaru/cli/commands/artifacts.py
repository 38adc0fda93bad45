"""Decides what `kitaru artifacts` shows: the stored values of an execution."""

from __future__ import annotations

from dataclasses import asdict

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of
from kitaru.cli.execution import text_of
from kitaru.cli.output import Output, table


@click.group(short_help="List and read what an execution stored.")
def artifacts() -> None:
    """Results of invocations, and what they kept with kitaru.save."""


@artifacts.command("list")
@options.execution
@options.store
@options.as_json
@options.pass_output
def list_artifacts(output: Output, execution: str, store: str | None) -> None:
    """List the values of an execution in program order: who made each, its type, its size."""
    from kitaru.runtime.executions.artifacts import artifacts_of

    found = artifacts_of(client_of(store).executions.get(execution).journal)
    if output.as_json:
        items = [asdict(one) for one in found]
        output.document({"exec_id": execution, "items": items, "count": len(items)})
        return
    rows = [
        (one.name, one.type, f"{one.size} bytes", f"saved by {one.invocation}" if one.saved else "")
        for one in found
    ]
    for line in table(rows) if rows else ["no artifacts"]:
        output.say(line)


@artifacts.command()
@options.execution
@click.argument("name", metavar="NAME")
@options.store
@options.as_json
@options.pass_output
def get(output: Output, execution: str, name: str, store: str | None) -> None:
    """Show a value: what was saved as NAME, or the result of the invocation NAME.

    Shown as JSON, whatever it is; nothing of the user's is imported.
    """
    from kitaru.runtime.executions.artifacts import find_artifact
    from kitaru.runtime.recording.shown import as_json

    journal = client_of(store).executions.get(execution).journal
    found = find_artifact(journal, name)
    value = as_json(journal.fetch(found))
    if output.as_json:
        shown = {"exec_id": execution, "name": name, "type": found.type, "digest": found.digest}
        output.document({**shown, "value": value})
        return
    output.say(text_of(value))
