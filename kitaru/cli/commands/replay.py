"""`kitaru executions replay`: replay one execution, or several that match a filter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kitaru.cli import options
from kitaru.cli.changes import Asked
from kitaru.cli.clients import client_of
from kitaru.cli.follow import attend, finish
from kitaru.cli.many import agreed, many
from kitaru.cli.output import Output
from kitaru.cli.render.submission import show_submission, write
from kitaru.errors import UsageError
from kitaru.ops.replay import replay as replay_one
from kitaru.ops.resume import Place, check_stored
from kitaru.ops.submit import runs_here
from kitaru.ops.where import parse_where

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kitaru.stores.base import Store


@click.command(short_help="Run an execution again from a chosen point, with changes.")
@options.optional_execution
@many
@click.option(
    "--after", metavar="EXEC", default="",
    help="With --where: only executions older than this one, to continue an interrupted command.",
)  # fmt: skip
@click.option(
    "--from", "start", metavar="ID", help="Rerun this invocation and everything after it."
)
@click.option("--at", type=click.Choice(["failure"]), help="Rerun from the failure.")
@click.option(
    "--reuse-unchanged", is_flag=True,
    help="Reuse each result whose code and arguments are unchanged, and run the other calls.",
)  # fmt: skip
@click.option(
    "--set", "sets", multiple=True, metavar="WHAT=VALUE",
    help="checkpoint.ID=VALUE, wait.NAME=VALUE or model.ALIAS=MODEL. Repeatable.",
)  # fmt: skip
@options.inputs
@click.option(
    "--no-input", is_flag=True, help="Do not prompt: end at a wait, and print how to answer."
)
@options.place
@options.store
@options.as_json
@options.pass_output
def replay(
    output: Output, execution: str | None, wheres: tuple[str, ...], limit: int, yes: bool,
    after: str, start: str | None, at: str | None, reuse_unchanged: bool, sets: tuple[str, ...],
    pairs: tuple[str, ...], inputs_from: str | None, no_input: bool, target: str | None,
    directory: Path, image: str | None, store: str | None,
) -> int:  # fmt: skip
    """Start a new execution that reuses what EXEC recorded before a point, and run the rest.

    EXEC itself does not change. Without --from, --at and --reuse-unchanged, everything runs again.
    The remaining steps of a deployed execution are submitted to its target. With --target, they are
    written as a pipeline instead.

    With --where, the selected executions are listed. With --yes, they are replayed with the same
    changes, and a table compares them. Exit code 1 if one of them failed.
    """
    client = client_of(store)
    asked = Asked(start, at, sets, pairs, inputs_from, reuse_unchanged)
    if execution is None or wheres:
        if execution is not None or not wheres or target is not None:
            raise UsageError(
                "Name one execution, or several with --where.",
                help="kitaru executions replay --where flow=review --set model.fast=openai/gpt-4o",
            )
        return _replay_many(client.store, asked, wheres, limit, after, yes, output)
    journal = client.executions.get(execution).journal
    asking = output.interactive and not no_input
    if target is not None:
        check_stored(journal)
        begun = replay_one(client.store, execution, asked.changes(journal), submits=False).handle
        rest = client.executions.get(begun.exec_id).journal
        return write(rest, Place(target, directory, image), output)
    if runs_here(journal):
        handle = replay_one(client.store, execution, asked.changes(journal)).handle
        return attend(handle, client, output, asking=asking, store=store)
    if journal.execution.mode == "deployed":
        done = replay_one(client.store, execution, asked.changes(journal))
        assert done.submission is not None
        show_submission(done.handle.flow, done.handle.exec_id, done.submission, output)
        return finish(done.handle.exec_id, client, output, store)
    from kitaru.cli.dry_runs import attend_dry_run
    from kitaru.ops.dry_run import begin_replay

    exec_id = begin_replay(client.store, execution, asked.changes(journal))
    return attend_dry_run(exec_id, client, output, answers={}, asking=asking, store=store)


def _replay_many(
    store: Store, asked: Asked, wheres: Sequence[str], limit: int, after: str, yes: bool,
    output: Output,
) -> int:  # fmt: skip
    """Replay the executions that a filter selects, and compare them in a table.

    Returns 1 if a replay failed or could not start, otherwise 0.
    """
    from kitaru.cli.render.cohort import show
    from kitaru.ops.replay_many import replay_each, select

    page = select(store, parse_where(wheres), limit, after)
    if not agreed(page.items, "replay", yes, output):
        return 0

    def begun(exec_id: str) -> None:
        if not output.as_json:
            output.note(f"replaying {exec_id}")

    found = replay_each(store, asked.changes, [one.exec_id for one in page.items], begun)
    show(found, output)
    if page.next is not None and not output.as_json:
        output.note(f"older ones: --after {page.items[-1].exec_id}")
    return 1 if any(one.is_failed for one in found) else 0
