"""`kitaru artifacts`: the recorded values of an execution."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of, reader_of
from kitaru.cli.groups import Group
from kitaru.cli.output import Output, counted, part, show_more
from kitaru.cli.render.execution import text_of
from kitaru.errors import UsageError
from kitaru.wire.structs import fields_of


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
@click.option(
    "--url", "is_url", is_flag=True,
    help="Print a URL of the bucket from which anybody can read the value as a file.",
)  # fmt: skip
@click.option(
    "--expires", callback=options.optional_age, metavar="AGE",
    help="With --url: how long it is valid, such as 60s or 1h, the maximum. Default: 5m.",
)  # fmt: skip
@options.store
@options.as_json
@options.pass_output
def get(
    output: Output, execution: str, name: str, is_url: bool, expires: timedelta | None,
    store: str | None,
) -> None:  # fmt: skip
    """Show the value saved as NAME, or the result of the invocation NAME.

    Every type of value is shown as JSON. No code of the project is imported. With --url, the file
    contains bytes and images as they are, a string as text, and other values as JSON.
    """
    from kitaru.runtime.executions.artifacts import find_artifact
    from kitaru.runtime.journal.to_json import as_json

    if is_url:
        signed = client_of(store).artifacts.url(execution, name, lifetime=expires)
        if output.as_json:
            shown = {"exec_id": execution, "artifact": name, **fields_of(signed)}
            output.document(shown, is_permission=True)
            return
        output.permission(signed.url)
        size = counted(signed.size, "byte")
        output.note(f"{signed.name}, {size}. Anybody can read it until {signed.expires_at}.")
        return
    if expires is not None:
        raise UsageError("--expires is that of a URL.", help="Add --url.")
    journal = reader_of(store).executions.get(execution).journal
    found = find_artifact(journal, name)
    value = as_json(journal.fetch(found))
    if output.as_json:
        shown = {"exec_id": execution, "name": name, "type": found.type, "digest": found.digest}
        output.document({**shown, "value": value})
        return
    output.answer(text_of(value))
