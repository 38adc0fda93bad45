"""Decides what `kitaru deploy` does: compile, compare with what is deployed, keep, tag."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import options
from kitaru.cli.compilation import (
    Compiled,
    Request,
    compile_and_write,
    example_inputs,
    store_in_document,
)
from kitaru.cli.output import Output, label
from kitaru.config import setting
from kitaru.errors import NotFound
from kitaru.wire.plan import Granularity

if TYPE_CHECKING:
    from kitaru_targets.compare import Difference

    from kitaru.runtime.executions.deployments import Deployment
    from kitaru.stores import Store


@click.command(
    short_help="Keep a compiled flow as a version, and let tags point at it.",
    epilog=options.FLOW_HELP,
)  # fmt: skip
@options.flow
@options.target
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG",
    help="Let this tag point at the version, instead of `default`. Repeatable.",
)  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Say what would change, and keep nothing.")
@options.compilation
@options.store
@options.as_json
@options.pass_output
def deploy(
    output: Output, flow: str, target: str, tags: tuple[str, ...], dry_run: bool,
    granularity: Granularity, image: str | None, delivery: str, strict: bool, store: str | None,
) -> None:  # fmt: skip
    """Compile a flow, and keep the build in the store as its next version.

    A build that is deployed already is that version. Says which steps were added, removed and
    changed since the version that the tag points at. Nothing runs, and the target's service is not
    reached: `kitaru invoke` hands a version over to it.
    """
    from kitaru_targets.verification import verify

    from kitaru.runtime.executions.deployments import DEFAULT_TAG, check_tag
    from kitaru.stores import open_store

    chosen = [check_tag(tag) for tag in tags] or [DEFAULT_TAG]
    opened = open_store(setting("store", argument=store).value)
    try:
        with tempfile.TemporaryDirectory(prefix="kitaru-deploy-") as folder:
            wired = store_in_document(store)
            request = Request(
                flow, target, Path(folder), granularity, image, delivery, strict, wired
            )
            compiled = compile_and_write(request, output)
            for warning in verify(compiled.build.directory).warnings:
                output.note(f"{label('warning', 'yellow')}: {warning}")
            change = _change(compiled, opened, chosen[0])
            made = None if dry_run else _deployed(compiled, opened, chosen)
    finally:
        opened.close()
    if output.as_json:
        output.document(_json(compiled, change, made))
    else:
        _show(compiled, change, made, store, output)


def _change(compiled: Compiled, store: Store, tag: str) -> Difference | None:
    """Return how the build differs from what the tag points at, None where that is nothing."""
    from kitaru_targets import deployed
    from kitaru_targets.compare import compare, of_build

    from kitaru.runtime.executions.deployments import Deployments

    deployments, flow = Deployments(store), compiled.plan.flow
    try:
        before = deployments.get(f"{flow}@{tag}")
    except NotFound:
        return None
    with deployed.unpacked(before, store) as old:
        return compare(of_build(old), of_build(compiled.build))


def _deployed(compiled: Compiled, store: Store, tags: list[str]) -> Deployment:
    from kitaru_targets.deployed import deploy

    from kitaru.runtime.executions.deployments import Deployments

    made = deploy(compiled.build, store)
    for tag in tags:
        made = Deployments(store).tag(f"{made.flow}@{made.version}", tag)
    return made


def _json(compiled: Compiled, change: Difference | None, made: Deployment | None) -> dict[str, Any]:
    from kitaru.cli.differences import to_json

    return {
        "flow": compiled.plan.flow,
        "target": compiled.target.name,
        "steps": [step.name for step in compiled.plan.steps],
        "change": None if change is None else to_json(change),
        "deployment": None if made is None else made.to_dict(),
    }


def _show(
    compiled: Compiled, change: Difference | None, made: Deployment | None, store: str | None,
    output: Output,
) -> None:  # fmt: skip
    from kitaru.cli.differences import show

    flow = compiled.plan.flow
    if change is not None:
        show(change, output)
    else:
        steps = ", ".join(step.name for step in compiled.plan.steps)
        output.say(f"{flow} for {compiled.target.name}: nothing to compare with; steps: {steps}")
    if made is None:
        output.say("nothing was deployed: --dry-run")
        return
    where = f" --store {store}" if store else ""
    output.say(f"\n{label('deployed', 'green')} {flow} {made.version}, tags {', '.join(made.tags)}")
    output.say(
        f"invoke   kitaru invoke {flow}@{made.version}{example_inputs(compiled.plan)}{where}"
    )
