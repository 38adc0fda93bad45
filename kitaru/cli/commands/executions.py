"""`kitaru executions`: list, show, answer, resume, retry and cancel executions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import options
from kitaru.cli.clients import client_of, reader_of
from kitaru.cli.commands.calls import calls, show_calls
from kitaru.cli.commands.compare import diff, lineage
from kitaru.cli.commands.export import export, import_
from kitaru.cli.commands.logs import logs
from kitaru.cli.commands.replay import replay
from kitaru.cli.follow import attend, finish
from kitaru.cli.groups import Group
from kitaru.cli.many import check_one_or_many, many, run_many
from kitaru.cli.output import Output, label
from kitaru.cli.render.comparison import effort, short
from kitaru.cli.render.execution import (
    COLORS,
    JSON_PAGE,
    answer_command,
    command,
    moment,
    notes,
    progress,
    show_execution,
    signals,
    versions,
)
from kitaru.cli.render.submission import show_answer, show_end, show_submission, write
from kitaru.cli.values import pairs
from kitaru.errors import AnswerInvalid, UsageError
from kitaru.ops.resume import Place, check_stored
from kitaru.runtime.engine.questions import parse_answer
from kitaru.status import ExecutionStatus
from kitaru.wire.structs import fields_of

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru.handle import Handle
    from kitaru.ops.cancel import Cancelled
    from kitaru.ops.submit import Submission
    from kitaru.runtime.journal.journal import Journal


@click.group(cls=Group, short_help="List, show, answer, resume, replay and compare.")
def executions() -> None:
    """List executions, answer their waits, and resume, retry, replay or compare them."""


for command_of in (logs, calls, replay, diff, lineage, export, import_):
    executions.add_command(command_of)


@executions.command("list")
@click.option("--flow", metavar="NAME", help="Only executions of this flow.")
@click.option(
    "--status",
    type=click.Choice([*map(str, ExecutionStatus)]),
    help="Only executions with this status.",
)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--within",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    metavar="N",
    help="Search the newest N executions.",
)
@click.option("--after", metavar="EXEC", default="", help="Only executions older than this one.")
@click.option("--tag", metavar="TAG", help="Only executions that were invoked by this tag.")
@options.where
@click.option(
    "--text", metavar="TEXT", default="", help="Only with this in title, inputs or result."
)
@click.option("--parent", metavar="EXEC", help="Only children of this execution.")
@click.option(
    "--page", "number", type=click.IntRange(min=1), default=1, help="Number of the page to show."
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
    after: str,
    tag: str | None,
    wheres: tuple[str, ...],
    text: str,
    parent: str | None,
    number: int,
    store: str | None,
) -> None:
    """List executions, newest first."""
    client = reader_of(store)
    listed = client.executions
    page = listed.page(
        flow=flow,
        status=status,
        limit=limit,
        within=within,
        after=after,
        page=number,
        tag=tag,
        text=text,
        parent=parent,
        where=wheres,
    )
    if output.as_json:
        found = {"items": page.items, "count": len(page.items), "looked_at": page.looked_at}
        output.document({**found, "next": page.next, "total": page.total})
        return
    rows = [_row(item) for item in page.items]
    output.table(rows, empty=f"no {'more ' * (number > 1)}executions in {client.store.url}")
    answered = next((item for item in page.items if item["status"] == "answered"), None)
    if answered is not None:
        output.note(f"answered: {command('resume', answered['exec_id'], store=store)}", hang=2)
    if page.next is not None and len(page.items) == limit:
        shown = f"{'next' if after or number > 1 else 'newest'} {len(page.items):,}"
        of = f" of {page.total:,}" if page.total is not None else ""
        output.note(f"showing the {shown}{of}; older ones: --after {page.next}", hang=2)
    elif page.next is not None:
        looked = f"looked at the newest {page.looked_at:,}; older ones: --after {page.next}"
        output.note(looked, hang=2)


@executions.command()
@options.execution
@options.limit
@click.option("--after", metavar="INVOCATION", default="", help="Only invocations after this one.")
@options.store
@options.as_json
@options.pass_output
def get(output: Output, execution: str, limit: int | None, after: str, store: str | None) -> None:
    """Show an execution: what it did, what it waits for, its result.

    If there are many invocations, the first and the last are shown, and a count per checkpoint.
    """
    from kitaru.cli.render.overview import PAGE, TAIL, show_invocations

    view = reader_of(store).executions.get(execution)
    most = limit or (JSON_PAGE if output.as_json else PAGE)
    seen = view.overview(limit=most, after=after, tail=0 if limit or after else TAIL)
    document = view.as_json(seen)
    if output.as_json:
        output.document(document)
        return
    output.describe()
    output.note(f"began    {moment(view.started_at)}")
    for name, value in document["tags"].items():
        output.note(f"tag      {name} = {value}", hang=9)
    for name, value in document["inputs"].items():
        output.note(f"input    {name} = {short(value)}", hang=9)
    show_invocations(seen, output, exec_id=view.exec_id, store=store)
    for one in document["under_way"]:
        attempt = f", attempt {one['attempt']}" if one["attempt"] > 1 else ""
        output.note(
            f"running  {one['id']}{attempt}  {one['site']}  since {moment(one['began_at'])}"
        )
    for line in progress(document):
        output.note(line, hang=9)
    if document["silent_since"]:
        output.note(
            f"silent   since {moment(document['silent_since'])}: its process may have ended"
        )
    for line in signals(document):
        output.note(line, hang=9)
    more = command("calls", view.exec_id, store=store)
    show_calls(document["calls"], output, more=more)
    if seen.effort.tokens:
        output.note(f"took     {effort(seen.effort)}", hang=9)
    for line in [*notes(document), *versions(document)]:
        output.note(line, hang=9)
    show_execution(document, output, store=store)


@executions.command("input")
@options.execution
@click.option("--wait", metavar="NAME", help="Name of the wait. Required if several are pending.")
@click.option("--value", metavar="JSON", help="The answer: JSON if it parses, otherwise a string.")
@click.option("--abort", is_flag=True, help="Cancel the execution instead of answering.")
@click.option(
    "--submit/--no-submit", default=True,
    help="Submit the remaining steps of a deployed execution to its target.",
)  # fmt: skip
@options.sets
@options.store
@options.as_json
@options.pass_output
def answer(
    output: Output, execution: str, wait: str | None, value: str | None, abort: bool, submit: bool,
    sets: tuple[str, ...], store: str | None,
) -> int:  # fmt: skip
    """Answer what an execution waits for, and continue it.

    A local execution continues in this process. The remaining steps of a deployed execution are
    submitted to its target. Without --value, the command prompts on a terminal.
    """
    from kitaru.loading import is_loadable
    from kitaru.ops.answer import answer as record
    from kitaru.ops.cancel import abort as abort_wait
    from kitaru.runtime.engine.waits import select_wait

    if abort and value is not None:
        raise UsageError("--abort and --value exclude each other.")
    client = client_of(store)
    if abort:
        return _ended(client, abort_wait(client.store, execution, wait), output, store)
    given = _answer(client, execution, wait, value, output, store)
    journal = client.executions.get(execution).journal
    name, shown = select_wait(journal, wait).name, _recorded(journal)
    chosen = pairs(sets, "--set")
    done = record(client.store, execution, given, name, submits=submit, options=chosen)
    if journal.execution.mode == "deployed":
        show_answer(done.notice, output)
        return _follow(client, done.handle, done.submission, output, store, shown)
    if journal.end() is None and not is_loadable(journal.execution):
        flow = journal.execution.flow
        recorded = "The answer is recorded. Only a process that defines the flow can continue it:"
        output.note(recorded, hang=0)
        output.note(f"a .wait() that is already running there, or {flow}.resume({execution!r})")
        return finish(execution, client, output, store)
    code = _go_on(client, execution, lambda: done.handle, output, store, shown)
    refused = name in journal.pending_names()
    return AnswerInvalid.exit_code if refused else code


@executions.command()
@options.execution
@click.argument("inbox", metavar="NAME")
@click.option(
    "--value", metavar="JSON", required=True, help="The message: JSON if it parses, else a string."
)
@options.store
@options.as_json
@options.pass_output
def signal(output: Output, execution: str, inbox: str, value: str, store: str | None) -> None:
    """Send a message to an execution, which reads it with kitaru.inbox(NAME).

    It is stored and numbered, also while the execution waits or its process is gone.
    """
    from kitaru.ops.signal import signal as send

    sent = send(client_of(store).store, execution, inbox, parse_answer(value, {}))
    if output.as_json:
        output.document(fields_of(sent))
        return
    output.say(f"sent     {inbox} {sent.number}", hang=9)


@executions.command()
@options.execution
@click.option(
    "--submit", is_flag=True, hidden=True, help="No effect: a deployed execution is submitted."
)
@click.option(
    "--again", is_flag=True, help="Submit the remaining steps even if a run already has them."
)
@options.sets
@options.place
@options.store
@options.as_json
@options.pass_output
def resume(
    output: Output, execution: str, submit: bool, again: bool, sets: tuple[str, ...],
    target: str | None, directory: Path, image: str | None, store: str | None,
) -> int:  # fmt: skip
    """Resume an execution whose process or run has ended. Recorded calls do not run again.

    The remaining steps of a deployed execution are submitted to its target. With --target, they are
    written as a pipeline instead.
    """
    from kitaru.ops.resume import resume as start

    client = client_of(store)
    journal = client.executions.get(execution).journal
    if submit and journal.execution.mode != "deployed":
        raise UsageError(
            f"The execution {execution} runs on this machine, not on a service.",
            help="Leave --submit out.",
        )
    if target is not None:
        check_stored(journal)
        if journal.end() is None:
            return write(journal, Place(target, directory, image), output)
    if journal.execution.mode == "deployed":
        shown, chosen = _recorded(journal), pairs(sets, "--set")
        done = start(client.store, execution, again=again, options=chosen)
        return _follow(client, done.handle, done.submission, output, store, shown)
    return _go_on(client, execution, lambda: client.executions.resume(execution), output, store)


@executions.command()
@options.optional_execution
@many
@options.store
@options.as_json
@options.pass_output
def retry(
    output: Output, execution: str | None, wheres: tuple[str, ...], limit: int, yes: bool,
    store: str | None,
) -> int:  # fmt: skip
    """Retry a failed execution. Failed checkpoints run again; recorded ones do not.

    With --where, retry each failed execution that it selects. They are listed first.
    """
    from kitaru.ops.retry import retry as start

    check_one_or_many(execution, wheres)
    client = client_of(store)
    if execution is None:
        return run_many(client.store, "retry", wheres, limit, yes, output)
    journal = client.executions.get(execution).journal
    if journal.execution.mode == "deployed":
        shown = _recorded(journal)
        done = start(client.store, execution)
        return _follow(client, done.handle, done.submission, output, store, shown)
    return _go_on(client, execution, lambda: client.executions.retry(execution), output, store)


@executions.command()
@options.optional_execution
@many
@options.store
@options.as_json
@options.pass_output
def cancel(
    output: Output, execution: str | None, wheres: tuple[str, ...], limit: int, yes: bool,
    store: str | None,
) -> int:  # fmt: skip
    """Cancel an execution. It stops at its next durable operation and cannot be resumed.

    With --where, cancel each execution that it selects and that has not ended. They are listed
    first.
    """
    from kitaru.ops.cancel import cancel as end

    check_one_or_many(execution, wheres)
    client = client_of(store)
    if execution is None:
        return run_many(client.store, "cancel", wheres, limit, yes, output)
    return _ended(client, end(client.store, execution), output, store)


def _ended(client: KitaruClient, done: Cancelled, output: Output, store: str | None) -> int:
    """Show a cancelled execution, and whether its orchestrator was notified."""
    show_end(done.notice, output)
    return finish(done.view.exec_id, client, output, store)


def _follow(
    client: KitaruClient, handle: Handle[Any], run: Submission | None, output: Output,
    store: str | None, shown: Iterable[str],
) -> int:  # fmt: skip
    """Show what continues a deployed execution. Follow it if that is a local process."""
    if run is not None and run.process is not None:
        asking = output.interactive
        return attend(handle, client, output, asking=asking, store=store, shown=shown)
    if run is not None:
        show_submission(handle.flow, handle.exec_id, run, output)
    return finish(handle.exec_id, client, output, store)


def _go_on(
    client: KitaruClient, execution: str, start: Callable[[], Handle[Any]], output: Output,
    store: str | None, shown: Iterable[str] | None = None,
) -> int:  # fmt: skip
    """Continue an execution where it ran before: in this process, or as a dry run."""
    from kitaru.cli.dry_runs import attend_dry_run

    journal = client.executions.get(execution).journal
    asking = output.interactive
    if journal.execution.mode == "local":
        shown = _recorded(journal) if shown is None else shown
        return attend(start(), client, output, asking=asking, store=store, shown=shown)
    if journal.end() is not None:
        start()
        return finish(execution, client, output, store)
    return attend_dry_run(execution, client, output, answers={}, asking=asking, store=store)


def _recorded(journal: Journal) -> list[str]:
    """Return the ids that the progress omits. Read them before the run continues."""
    return sorted(journal.recorded())


def _answer(
    client: KitaruClient, execution: str, wait: str | None, value: str | None, output: Output,
    store: str | None,
) -> Any:  # fmt: skip
    waits = client.executions.get(execution).waits_as_json()
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
    from kitaru.runtime.engine.questions import ask

    journal = client.executions.get(execution).journal
    return ask(one, lambda: journal.wait_answer(one["name"]) is not None)


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    status = item["status"]
    started = moment(item["started_at"])
    return label(status, COLORS[status]), item["exec_id"], item["flow"], started, item["title"]
