"""Decides what `kitaru executions` does: what ran, what it waits for, and how to go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from kitaru.cli import options
from kitaru.cli.attend import attend, finish
from kitaru.cli.clients import client_of, url_of
from kitaru.cli.commands.compare import diff, lineage
from kitaru.cli.commands.logs import logs
from kitaru.cli.commands.replay import replay
from kitaru.cli.comparisons import effort, short
from kitaru.cli.execution import (
    COLORS,
    answer_command,
    command,
    moment,
    notes,
    show_execution,
)
from kitaru.cli.output import Output, label, table
from kitaru.cli.remainders import Place, check_stored, submit_rest, write_rest
from kitaru.cli.telling import tell, tell_end
from kitaru.cli.values import pairs, parse_answer
from kitaru.errors import AnswerInvalid, UsageError
from kitaru.wire.records import Status

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru.handle import Handle
    from kitaru.runtime.recording.journal import Journal
    from kitaru.view import ExecutionView


@click.group(short_help="List, show, answer, resume, replay, compare.")
def executions() -> None:
    """What ran, what it waits for, and how to go on."""


for command_of in (logs, replay, diff, lineage):
    executions.add_command(command_of)


@executions.command("list")
@click.option("--flow", metavar="NAME", help="Only executions of this flow.")
@click.option("--status", type=click.Choice(get_args(Status)), help="Only those of this status.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--within",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Look at the newest N executions for those.",
)
@options.store
@options.as_json
@options.pass_output
def list_executions(
    output: Output,
    flow: str | None,
    status: str | None,
    limit: int,
    within: int,
    store: str | None,
) -> None:
    """List executions, newest first."""
    listed = client_of(store).executions
    page = listed.page(flow=flow, status=status, limit=limit, within=within)
    if output.as_json:
        found = {"items": page.items, "count": len(page.items), "looked_at": page.looked_at}
        output.document(found)
        return
    for line in table([_row(item) for item in page.items]):
        output.say(line)
    if not page.items:
        output.say(f"no executions in {url_of(store)}")
    if page.looked_at is not None:
        output.note(f"looked at the newest {page.looked_at:,}; there are older ones: --within N")


@executions.command()
@options.execution
@options.store
@options.as_json
@options.pass_output
def get(output: Output, execution: str, store: str | None) -> None:
    """Show an execution: what it did, what it waits for, its result."""
    from kitaru.cli.progress import failed_attempts, lines

    view = client_of(store).executions.get(execution)
    document = view.to_dict()
    if output.as_json:
        output.document(document)
        return
    output.note(f"began    {moment(view.started_at)}")
    for name, value in view.inputs.items():
        output.note(f"input    {name} = {short(value)}")
    for line in [*lines(view.invocations), *failed_attempts(view.attempts)]:
        output.note(line)
    if view.effort.tokens:
        output.note(f"took     {effort(view.effort)}")
    for line in notes(document):
        output.note(line)
    show_execution(document, output, store=store)


@executions.command("input")
@options.execution
@click.option("--wait", metavar="NAME", help="Which wait; needed when several are pending.")
@click.option("--value", metavar="JSON", help="The answer: JSON when it parses, else text.")
@click.option("--abort", is_flag=True, help="Answer that it shall go no further.")
@options.store
@options.as_json
@options.pass_output
def answer(
    output: Output, execution: str, wait: str | None, value: str | None, abort: bool,
    store: str | None,
) -> int:  # fmt: skip
    """Answer what an execution waits for, and go on with it.

    Without --value it asks, on a terminal.
    """
    from kitaru.runtime.running.waits import pick

    if abort and value is not None:
        raise UsageError("--abort and --value exclude each other.")
    client = client_of(store)
    if abort:
        return _ended(client, client.executions.abort(execution, wait), output, store)
    given = _answer(client, execution, wait, value, output, store)
    journal = client.executions.get(execution).journal
    name, shown = pick(journal, wait).name, _recorded(journal)
    handle = client.executions.input(execution, given, wait=name)
    if tell(journal, name, given, output):
        return finish(execution, client, output, store)
    code = _go_on(client, execution, lambda: handle, output, store, shown)
    refused = any(left.name == name for left in journal.pending_waits())
    return AnswerInvalid.exit_code if refused else code


@executions.command()
@options.execution
@click.option(
    "--submit", is_flag=True,
    help="Hand what is left over to the service that it began on, with the code it began with.",
)  # fmt: skip
@options.sets
@options.place
@options.store
@options.as_json
@options.pass_output
def resume(
    output: Output, execution: str, submit: bool, sets: tuple[str, ...], target: str | None,
    directory: Path, image: str | None, store: str | None,
) -> int:  # fmt: skip
    """Go on with an execution whose process is gone; what is recorded does not run again.

    One that runs on a service goes on there with --submit; with --target the pipeline of what is
    left is written, to be deployed like any other.
    """
    client = client_of(store)
    if submit:
        journal = client.executions.get(execution).journal
        if journal.end() is None:
            return submit_rest(journal, pairs(sets, "--set"), output)
    if target is not None:
        journal = client.executions.get(execution).journal
        check_stored(journal)
        if journal.end() is None:
            return write_rest(journal, Place(target, directory, image), output)
    return _go_on(client, execution, lambda: client.executions.resume(execution), output, store)


@executions.command()
@options.execution
@options.store
@options.as_json
@options.pass_output
def retry(output: Output, execution: str, store: str | None) -> int:
    """Run a failed execution again: what failed runs, what is recorded does not."""
    client = client_of(store)
    return _go_on(client, execution, lambda: client.executions.retry(execution), output, store)


@executions.command()
@options.execution
@options.store
@options.as_json
@options.pass_output
def cancel(output: Output, execution: str, store: str | None) -> int:
    """End an execution for good: wherever it runs, it stops at its next durable operation."""
    client = client_of(store)
    return _ended(client, client.executions.cancel(execution), output, store)


def _ended(client: KitaruClient, view: ExecutionView, output: Output, store: str | None) -> int:
    """Let the orchestrator of a cancelled execution end its run, too, and show it."""
    tell_end(view.journal, output)
    return finish(view.exec_id, client, output, store)


def _go_on(
    client: KitaruClient, execution: str, start: Callable[[], Handle[Any]], output: Output,
    store: str | None, shown: Iterable[str] | None = None,
) -> int:  # fmt: skip
    """Run an execution on where it ran before: in this process, or as the dry run that it is."""
    from kitaru.cli.dry_runs import attend_dry_run

    journal = client.executions.get(execution).journal
    asking = output.interactive
    if journal.execution.mode == "local":
        shown = _recorded(journal) if shown is None else shown
        return attend(start(), client, output, asking=asking, store=store, shown=shown)
    if journal.end() is not None or journal.execution.mode == "deployed":
        start()
        if journal.end() is None and not output.as_json:
            output.note(
                "to go on, hand what is left over to the service: "
                + command("resume", execution, "--submit", store=store)
            )
        return finish(execution, client, output, store)
    return attend_dry_run(
        execution, client, output,
        url=url_of(store), answers={}, asking=asking, store=store,
    )  # fmt: skip


def _recorded(journal: Journal) -> list[str]:
    """Return what the progress need not show; asked before a run goes on, for it may be quick."""
    return [record.id for record in journal.invocations()]


def _answer(
    client: KitaruClient, execution: str, wait: str | None, value: str | None, output: Output,
    store: str | None,
) -> Any:  # fmt: skip
    waits = client.executions.get(execution).to_dict()["waits"]
    pending = [one for one in waits if wait in (None, one["name"])]
    one = pending[0] if len(pending) == 1 else None
    if value is not None:
        return parse_answer(value, one["schema"] if one else {})
    if one is None or not output.interactive:
        raise UsageError(
            "--value is missing.",
            help="\n".join(answer_command(execution, one, store=store) for one in pending)
            or command("get", execution, store=store),
        )
    from kitaru.cli.ask import ask

    return ask(one)


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    status = item["status"]
    return label(status, COLORS[status]), item["exec_id"], item["flow"], moment(item["started_at"])
