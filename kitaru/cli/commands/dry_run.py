"""`kitaru dry-run`: compile a flow, and execute the written pipeline on this machine."""

from __future__ import annotations

from pathlib import Path

import click

from kitaru.cli import options
from kitaru.cli.output import Output
from kitaru.cli.render.build import reporting
from kitaru.cli.values import parse_answers, parse_events, parse_inputs
from kitaru.config import setting
from kitaru.ops.compile import compile as write
from kitaru.ops.compile import request
from kitaru.wire.plan import Granularity


@click.command(
    "dry-run", short_help="Compile, then execute the written pipeline here.",
    epilog=options.FLOW_HELP,
)  # fmt: skip
@options.flow
@options.target
@options.inputs
@click.option(
    "--answer", "answers", multiple=True, metavar="WAIT=VALUE",
    help="Answer to a wait: JSON if it parses, otherwise a string. Repeatable.",
)  # fmt: skip
@click.option(
    "--event", "events", multiple=True, metavar="NAME=JSON",
    help="An event that comes when a wait asks for it. Repeatable, in this order.",
)  # fmt: skip
@click.option(
    "--no-input", is_flag=True, help="Do not prompt: end at a wait, and print how to answer."
)
@click.option(
    "--skip-time", is_flag=True,
    help="End sleeps at once, and let waits with a deadline and without an answer expire.",
)  # fmt: skip
@options.rehearsal_directory
@options.compilation
@options.store
@options.as_json
@options.pass_output
def dry_run(
    output: Output, flow: str, target: str, pairs: tuple[str, ...], inputs_from: str | None,
    answers: tuple[str, ...], events: tuple[str, ...], no_input: bool, skip_time: bool,
    directory: Path, granularity: Granularity, image: str | None, delivery: str, strict: bool,
    store: str | None,
) -> int:  # fmt: skip
    """Compile a flow, then execute the written pipeline on this machine.

    Each step is a process that runs the command in the document. Order, conditions, retries and
    waits follow the document.
    """
    from kitaru.cli.dry_runs import attend_dry_run
    from kitaru.client import KitaruClient
    from kitaru.ops.dry_run import begin_dry_run

    url = setting("store", argument=store).value
    given, scripted = parse_answers(answers), parse_events(events)
    asked = request(
        flow, target, directory, granularity=granularity, image=image, delivery=delivery,
        strict=strict, store=url, rehearses=True,
    )  # fmt: skip
    compiled = write(asked, reporting(output))
    texts = {p.name for p in compiled.plan.parameters if p.type == "str"}
    inputs = parse_inputs(pairs, inputs_from, texts=texts)
    exec_id = begin_dry_run(url, compiled, inputs)
    asking = output.interactive and not no_input
    client = KitaruClient(url)
    return attend_dry_run(
        exec_id, client, output, answers=given, asking=asking, store=store, skip_time=skip_time,
        events=scripted,
    )  # fmt: skip
