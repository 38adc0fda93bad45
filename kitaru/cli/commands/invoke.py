"""Decides what `kitaru invoke` does: an execution of a deployed version, there or here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import options
from kitaru.cli.output import Output, label
from kitaru.cli.remainders import service_options
from kitaru.cli.values import pairs as read_pairs
from kitaru.cli.values import parse_answers, parse_inputs
from kitaru.config import setting
from kitaru.errors import UsageError

if TYPE_CHECKING:
    from kitaru.runtime.executions.deployments import Deployment
    from kitaru.stores import Store

EPILOG = "VERSION is FLOW (its tag `default`), FLOW@TAG or FLOW@vN: see `kitaru flow show FLOW`."


@click.command(short_help="Start an execution of a deployed version.", epilog=EPILOG)
@click.argument("name", metavar="VERSION")
@options.inputs
@click.option("--local", is_flag=True, help="Execute the deployed document on this machine.")
@click.option(
    "--answer", "answers", multiple=True, metavar="WAIT=VALUE",
    help="With --local: the answer to a wait: JSON when it parses, else text. Repeatable.",
)  # fmt: skip
@click.option("--no-input", is_flag=True, help="With --local: at a wait, end and say so.")
@options.sets
@options.store
@options.as_json
@options.pass_output
def invoke(
    output: Output, name: str, pairs: tuple[str, ...], inputs_from: str | None, local: bool,
    answers: tuple[str, ...], no_input: bool, sets: tuple[str, ...], store: str | None,
) -> int:  # fmt: skip
    """Start an execution of a deployed version on its target, or here with --local.

    The execution keeps that version, wherever its tag moves while it runs or waits.
    """
    from kitaru.cli.dry_runs import attend_dry_run
    from kitaru.client import KitaruClient
    from kitaru.runtime.executions.deployments import Deployments
    from kitaru.runtime.recording import launches
    from kitaru.stores import open_store
    from kitaru.wire.ids import new_execution_id
    from kitaru.wire.records import LaunchRecord

    if answers and not local:
        raise UsageError("--answer is for --local.", help="kitaru executions input EXEC --value …")
    url = setting("store", argument=store).value
    given = parse_answers(answers)
    exec_id = new_execution_id()
    opened = open_store(url)
    try:
        version = Deployments(opened).get(name)
        inputs = _inputs(version, opened, pairs, inputs_from)
        launches.remember(opened, exec_id, LaunchRecord(version.flow, inputs, version.number))
        if not local:
            chosen = {**service_options(version.target), **read_pairs(sets, "--set")}
            return _submit(version, opened, exec_id, inputs, chosen, output)
    finally:
        opened.close()
    return attend_dry_run(
        exec_id, KitaruClient(url), output,
        url=url, answers=given, asking=output.interactive and not no_input, store=store,
    )  # fmt: skip


def _inputs(
    version: Deployment, store: Store, pairs: tuple[str, ...], inputs_from: str | None
) -> dict[str, Any]:
    """Return the inputs that are given, checked against the version's own."""
    from kitaru_targets.common import parameters

    from kitaru.runtime.executions.deployments import Deployments
    from kitaru.wire.plan import Plan

    plan = Plan.from_json(Deployments(store).read(version, "plan.json"))
    texts = {p.name for p in plan.parameters if p.type == "str"}
    inputs = parse_inputs(pairs, inputs_from, texts=texts)
    parameters.values(plan, inputs)
    return inputs


def _submit(
    version: Deployment, store: Store, exec_id: str, inputs: Mapping[str, Any],
    given: Mapping[str, str], output: Output,
) -> int:  # fmt: skip
    from kitaru_targets import deployed

    run = deployed.invoke(version, store, inputs=inputs, exec_id=exec_id, options=given)
    if output.as_json:
        document = {"exec_id": exec_id, "flow": version.flow, "deployment": version.version}
        output.document({**document, "target": version.target, "run": run.run_id, "url": run.url})
        return 0
    output.say(f"{label('started', 'green')}  {version.flow} {version.version}  {exec_id}")
    output.say(f"run      {run.run_id} on {version.target}")
    if run.url:
        output.say(f"see      {run.url}")
    return 0
