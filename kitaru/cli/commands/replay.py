"""Decides what `kitaru executions replay` does: one execution again from a point, or a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.attend import attend
from kitaru.cli.changes import Asked, filters
from kitaru.cli.clients import client_of, url_of
from kitaru.cli.cohort import replay_cohort
from kitaru.cli.output import Output
from kitaru.cli.remainders import Place, check_stored, write_rest
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru.runtime.recording.journal import Journal


@click.command(short_help="Run an execution again, from a point, with something changed.")
@click.argument("execution", metavar="[EXEC]", required=False)
@click.option(
    "--where", "wheres", multiple=True, metavar="FIELD=VALUE",
    help="Without EXEC: replay the newest executions with this flow or status. Repeatable.",
)  # fmt: skip
@click.option(
    "--limit", type=click.IntRange(min=1), default=20, show_default=True,
    help="With --where: at most so many.",
)  # fmt: skip
@click.option("--from", "start", metavar="ID", help="Run this invocation and what follows again.")
@click.option("--at", type=click.Choice(["failure"]), help="Run again from where it failed.")
@click.option(
    "--set", "sets", multiple=True, metavar="WHAT=VALUE",
    help="checkpoint.ID=VALUE, wait.NAME=VALUE or model.ALIAS=MODEL. Repeatable.",
)  # fmt: skip
@options.inputs
@click.option("--no-input", is_flag=True, help="Ask nothing: at a wait, end and say so.")
@options.place
@options.store
@options.as_json
@options.pass_output
def replay(
    output: Output, execution: str | None, wheres: tuple[str, ...], limit: int,
    start: str | None, at: str | None, sets: tuple[str, ...], pairs: tuple[str, ...],
    inputs_from: str | None, no_input: bool, target: str | None, directory: Path,
    image: str | None, store: str | None,
) -> int:  # fmt: skip
    """Begin a new execution that takes over what EXEC recorded before a point, and run the rest.

    Nothing of EXEC changes. Without --from and --at everything runs again. With --where many are
    replayed, each in the same way, and a table compares them; exit code 1 when one failed.
    """
    client = client_of(store)
    asked = Asked(start, at, sets, pairs, inputs_from)
    if execution is None or wheres:
        if execution is not None or not wheres or target is not None:
            raise UsageError(
                "Name one execution, or several with --where.",
                help="kitaru executions replay --where flow=review --set model.fast=openai/gpt-4o",
            )
        return replay_cohort(client, asked, filters(wheres), limit, output)
    journal = client.executions.get(execution).journal
    asking = output.interactive and not no_input
    if target is not None:
        check_stored(journal)
        begun = asked.replay(client, execution)
        rest = client.executions.get(begun.exec_id).journal
        return write_rest(rest, Place(target, directory, image), output)
    if journal.execution.mode == "local":
        handle = asked.replay(client, execution)
        return attend(handle, client, output, asking=asking, store=store)
    return _dry_run(asked, journal, client, output, asking, store)


def _dry_run(
    asked: Asked, journal: Journal, client: KitaruClient, output: Output, asking: bool,
    store: str | None,
) -> int:  # fmt: skip
    from kitaru.cli.dry_runs import attend_dry_run, begin_replay

    if journal.execution.mode == "deployed":
        raise UsageError(
            f"The execution {journal.exec_id} does not run here but on its target.",
            help="Write the pipeline that replays it: --target T -o DIR",
        )
    return attend_dry_run(
        begin_replay(asked, journal, client), client, output,
        url=url_of(store), answers={}, asking=asking, store=store,
    )  # fmt: skip
