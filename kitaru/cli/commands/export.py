"""`kitaru executions export` and `import`: an execution as one file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of
from kitaru.cli.output import Output
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from typing import IO


@click.command(short_help="Write an execution to a file.")
@options.execution
@click.option(
    "--output", "-o", "file", type=click.File("w", encoding="utf-8", lazy=True), default="-",
    metavar="FILE", help="Write to this file. Default: the standard output.",
)  # fmt: skip
@options.store
@options.as_json
@options.pass_output
def export(output: Output, execution: str, file: IO[str], store: str | None) -> None:
    """Write everything that an execution recorded as one JSON document.

    `kitaru executions import` creates the execution in another store. Secrets were masked when they
    were recorded, but prompts, inputs and results are in the file.
    """
    document = client_of(store).executions.export(execution)
    # Only ASCII: no text of the execution drives the terminal that shows it.
    json.dump(document, file, indent=1)
    file.write("\n")
    if file.name == "-":
        return
    exec_id = document["execution"]["exec_id"]
    if output.as_json:
        output.document({"exec_id": exec_id, "file": file.name})
    else:
        output.say(f"Wrote {exec_id} to {file.name}")


@click.command("import", short_help="Create an exported execution in this store.")
@click.argument("file", type=click.File("r", encoding="utf-8"))
@options.store
@options.as_json
@options.pass_output
def import_(output: Output, file: IO[str], store: str | None) -> None:
    """Create the execution in FILE, which `kitaru executions export` wrote, with its id.

    Importing it again changes nothing. FILE may be -, the standard input.
    """
    try:
        document = json.load(file)
    except ValueError as error:
        raise UsageError(
            f"{file.name} is not JSON: {error}.",
            help="Make it again: kitaru executions export EXEC --output run.json",
        ) from None
    exec_id = client_of(store).executions.import_execution(document)
    if output.as_json:
        output.document({"exec_id": exec_id})
    else:
        output.answer(exec_id)
