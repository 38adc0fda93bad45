"""`kitaru deploy`: compile a flow, compare it with the deployed version, store it, move tags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import options
from kitaru.cli.output import Output, label
from kitaru.cli.render.build import example_inputs, reporting
from kitaru.config import setting
from kitaru.ops.compile import request
from kitaru.wire.plan import Granularity

if TYPE_CHECKING:
    from kitaru.ops.deploy import Deployed
    from kitaru.stores import Store


@click.command(
    short_help="Store a compiled flow as a version, and tag it.",
    epilog=options.FLOW_HELP,
)  # fmt: skip
@options.flow
@click.option(
    "--target", "-t", "target", metavar="NAME",
    help="Target to compile for; see `kitaru target list`. Default: the stack's target, then "
    "`local`, a process that runs the flow from the store alone.",
)  # fmt: skip
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG",
    help="Move this tag to the version. Repeatable. The first version also gets `default`.",
)  # fmt: skip
@options.exclusive
@click.option("--dry-run", is_flag=True, help="Show what would change, and store nothing.")
@options.compilation
@options.store
@options.as_json
@options.pass_output
def deploy(
    output: Output, flow: str, target: str | None, tags: tuple[str, ...], dry_run: bool,
    granularity: Granularity, image: str | None, delivery: str, strict: bool, store: str | None,
) -> None:  # fmt: skip
    """Compile a flow, and store the build as the flow's next version.

    If the same build is already deployed, that version is used. The output lists the steps that
    were added, removed or changed since the version that the tag points at. Nothing runs, and the
    target's service is not contacted: `kitaru invoke` submits a version to it.
    """
    from kitaru.ops.deploy import LOCAL
    from kitaru.ops.deploy import deploy as keep
    from kitaru.runtime.executions.deployments import check_tag
    from kitaru.stores import open_store

    chosen = [check_tag(tag) for tag in tags]
    asked = request(
        flow, target, Path(), default=LOCAL, granularity=granularity, image=image,
        delivery=delivery, strict=strict, store=store,
    )  # fmt: skip
    opened = open_store(setting("store", argument=store).value)
    try:
        done = keep(asked, opened, chosen, keeps=not dry_run, report=reporting(output))
        for warning in done.warnings:
            output.note(f"{label('warning', 'yellow')}: {warning}", hang=9)
        if output.as_json:
            output.document(_json(done))
        else:
            _show(done, opened, store, output)
    finally:
        opened.close()


def _json(done: Deployed) -> dict[str, Any]:
    from kitaru.cli.render.build_diff import to_json

    compiled, made = done.compiled, done.deployment
    return {
        "flow": compiled.plan.flow,
        "target": compiled.target.name,
        "steps": [step.name for step in compiled.plan.steps],
        "change": None if done.change is None else to_json(done.change),
        "deployment": None if made is None else made.to_dict(),
    }


def _show(done: Deployed, opened: Store, store: str | None, output: Output) -> None:
    from kitaru.cli.render.build_diff import show
    from kitaru.ops.deploy import LOCAL
    from kitaru.runtime.executions.deployments import DEFAULT_TAG, Deployments

    compiled, made = done.compiled, done.deployment
    flow = compiled.plan.flow
    if done.change is not None:
        show(done.change, output)
    else:
        first = f"{flow} for {compiled.target.name}: the first version"
        steps = ", ".join(step.name for step in compiled.plan.steps)
        output.say(first if compiled.target.runs_whole else f"{first}; steps: {steps}", hang=2)
    if made is None:
        output.say("nothing was deployed: --dry-run")
        return
    where = f" --store {store}" if store else ""
    tags = f"tags {', '.join(made.tags)}" if made.tags else "no tag"
    output.say(f"\n{label('deployed', 'green')} {flow} {made.version}, {tags}")
    named = flow if DEFAULT_TAG in made.tags else f"{flow}@{made.version}"
    output.say(f"invoke   kitaru invoke {named}{example_inputs(compiled.plan)}{where}")
    planned = compiled.plan.schedule
    if planned is not None and planned.by == "target":
        title = compiled.target.title
        output.say(f"schedule {title} starts it; create or update the schedule as in DEPLOY.md of")
        output.say(f"         kitaru compile {compiled.plan.file}:{flow} -t {made.target}")
    if made.target == LOCAL and not store:
        output.say(f"from another directory, add: --store {opened.url}")
    if DEFAULT_TAG not in made.tags:
        now = Deployments(opened).tags(flow)[DEFAULT_TAG]
        move = f"kitaru flow tag {flow}@{made.version} {DEFAULT_TAG}{where}"
        output.say(f"default  v{now}; to move it: {move}")
