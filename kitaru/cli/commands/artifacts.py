"""`kitaru artifacts`: the recorded values of an execution."""

from __future__ import annotations

from dataclasses import asdict

import click

from kitaru.cli import options
from kitaru.cli.clients import reader_of
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, counted, part, show_more
from kitaru.cli.render.execution import text_of


@click.group(cls=Group, short_help="List and read the values of an execution.")
def artifacts() -> None:
    """List and read the results of invocations, and values saved with kitaru.save."""


@artifacts.command("list")
@options.execution
@options.page
@options.store
@options.as_json
@options.pass_output
def list_artifacts(
    output: Output, execution: str, limit: int | None, skip: int, store: str | None
) -> None:
    """List the values of an execution in program order: name, type, size, invocation."""
    from kitaru.runtime.executions.artifacts import each_artifact

    found = each_artifact(reader_of(store).executions.get(execution).journal)
    some = part(found, output, limit, skip)
    if output.as_json:
        items = [asdict(one) for one in some.items]
        output.document({"exec_id": execution, **some.document(items)})
        return
    rows = [
        (
            one.name,
            one.type,
            counted(one.size, "byte"),
            f"saved by {one.invocation}" if one.saved else "",
        )
        for one in some.items
    ]
    output.table(rows, empty="no artifacts")
    show_more(output, some)


@artifacts.command()
@options.execution
@click.argument("name", metavar="NAME")
@options.store
@options.as_json
@options.pass_output
def get(output: Output, execution: str, name: str, store: str | None) -> None:
    """Show the value saved as NAME, or the result of the invocation NAME.

    Every type of value is shown as JSON. No code of the project is imported.
    """
    from kitaru.runtime.executions.artifacts import find_artifact
    from kitaru.runtime.journal.to_json import as_json

    journal = reader_of(store).executions.get(execution).journal
    found = find_artifact(journal, name)
    value = as_json(journal.fetch(found))
    if output.as_json:
        shown = {"exec_id": execution, "name": name, "type": found.type, "digest": found.digest}
        output.document({**shown, "value": value})
        return
    output.answer(text_of(value))
