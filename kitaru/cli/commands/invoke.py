"""`kitaru invoke`: start an execution of a deployed version, on its target or here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kitaru import hints
from kitaru.cli import completion, options
from kitaru.cli.output import Output, label
from kitaru.cli.values import pairs as read_pairs
from kitaru.cli.values import parse_answers, parse_inputs
from kitaru.config import setting
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru.ops.invoke import Invoked
    from kitaru.runtime.executions.deployments import Deployment
    from kitaru.stores import Store

EPILOG = "VERSION is FLOW (its tag `default`), FLOW@TAG or FLOW@vN: see `kitaru flow show FLOW`."


@click.command(short_help="Start an execution of a deployed version.", epilog=EPILOG)
@click.argument("name", metavar="VERSION", shell_complete=completion.deployed_flows)
@click.option(
    "--tag", "named", multiple=True, metavar="TAG|NAME=VALUE",
    help="Tag of the version, or a tag of the execution, by which lists find it. Repeatable.",
)  # fmt: skip
@click.option("--version", metavar="N", help="Number of the version.")
@options.inputs
@click.option("--local", is_flag=True, help="Execute the deployed document on this machine.")
@click.option(
    "--answer", "answers", multiple=True, metavar="WAIT=VALUE",
    help="With --local: answer to a wait, JSON if it parses, otherwise a string. Repeatable.",
)  # fmt: skip
@click.option(
    "--no-input", is_flag=True, help="For a run on this machine: end at a wait; do not prompt."
)
@click.option(
    "--id", "exec_id", metavar="EXEC",
    help="Execution id. Repeating a call with the same id and inputs starts no second run.",
)  # fmt: skip
@options.key
@click.option(
    "--no-wait", is_flag=True, help="With target `local`: start the run, and do not wait for it."
)
@options.sets
@options.store
@options.as_json
@options.pass_output
def invoke(
    output: Output, name: str, named: tuple[str, ...], version: str | None, pairs: tuple[str, ...],
    inputs_from: str | None, local: bool, answers: tuple[str, ...], no_input: bool,
    exec_id: str | None, key: str | None, no_wait: bool, sets: tuple[str, ...], store: str | None,
) -> int:  # fmt: skip
    """Start an execution of a deployed version on its target, or here with --local.

    The execution keeps its version even if the tag moves while it runs or waits. Only the store is
    read; no checkout is needed.
    """
    from kitaru.client import KitaruClient
    from kitaru.ops.advance import Means
    from kitaru.ops.invoke import find
    from kitaru.ops.invoke import invoke as start

    if answers and not local:
        raise UsageError("--answer is for --local.", help="kitaru executions input EXEC --value …")
    if local and (exec_id or key is not None):
        name = "--id" if exec_id else "--key"
        raise UsageError(f"{name} is for runs of a service.", help=f"Omit {name} or --local.")
    client = KitaruClient(setting("store", argument=store).value)
    given = parse_answers(answers)
    of_version = [one for one in named if "=" not in one]
    if len(of_version) > 1:
        raise UsageError("A version has one tag here.", help="--tag stable --tag customer=acme")
    tag = of_version[0] if of_version else None
    tags = read_pairs([one for one in named if "=" in one], "--tag")
    found = find(client.store, name, tag=tag, version=version)
    inputs = _inputs(found, client.store, pairs, inputs_from)
    asking = output.interactive and not no_input
    if local:
        from kitaru.cli.dry_runs import attend_dry_run
        from kitaru.ops.dry_run import begin_version

        dry_run = begin_version(client.store, found, inputs)
        return attend_dry_run(dry_run, client, output, answers=given, asking=asking, store=store)
    means = Means(read_pairs(sets, "--set"))
    done = start(client.store, found, inputs, exec_id=exec_id, key=key, means=means, tags=tags)
    for note in done.run.notes if done.run is not None else ():
        output.note(f"{label('note', 'yellow')}: {note}", hang=6)
    if done.run is None or done.run.process is None or no_wait:
        return _show_started(done, client.store, output)
    from kitaru.cli.follow import attend

    return attend(done.handle, client, output, asking=asking, store=store)


def _inputs(
    version: Deployment, store: Store, pairs: tuple[str, ...], inputs_from: str | None
) -> dict[str, Any]:
    """Return the inputs that the options set."""
    from kitaru.ops.submit import plan_of

    plan = plan_of(store, version)
    texts = {p.name for p in plan.parameters if p.type == "str"}
    return parse_inputs(pairs, inputs_from, texts=texts)


def _show_started(done: Invoked, store: Store, output: Output) -> int:
    exec_id, version, run = done.handle.exec_id, done.version, done.run
    if output.as_json:
        document = {"exec_id": exec_id, "flow": version.flow, "deployment": version.version}
        document["limit"] = done.limit
        at = {"run": run.run_id, "url": run.url} if run is not None else {"run": "", "url": ""}
        output.document({**document, "target": version.target, **at})
        return 0
    head = label("started", "green") if run is not None else label("starting", "cyan")
    if not done.is_new:
        head = label("exists", "cyan")
    elif done.limit:
        head = label("skipped", "yellow") if done.is_skipped else label("queued", "cyan")
    output.say(f"{head}  {version.flow} {version.version}  {exec_id}")
    if done.limit:
        output.say(f"limit    {done.limit}")
    if run is None:
        output.note(_next(done, store))
        return 0
    output.say(f"run      {run.run_id} on {version.target}")
    if run.url:
        output.say(f"see      {run.url}")
    return 0


def _next(done: Invoked, store: Store) -> str:
    """Return what happens next with an execution that has no run."""
    if done.is_skipped:
        return "It is cancelled: the limit allows no further start."
    if done.limit:
        run = hints.command(store, "dispatcher", "run")
        return f"It waits for a place. A dispatcher starts it: {run}"
    if done.is_new:
        return "Another process starts its run."
    return f"See it: {hints.command(store, 'executions', 'get', done.handle.exec_id)}"
