"""`kitaru compile`: write a flow's pipeline for a target."""

from __future__ import annotations

from pathlib import Path

import click

from kitaru.cli import options
from kitaru.cli.output import Output, counted, label, show_findings
from kitaru.cli.render.build import (
    example_inputs,
    reporting,
    show,
    to_json,
    warn_of_local_store,
)
from kitaru.ops.compile import Request, compile_all, request
from kitaru.ops.compile import compile as write
from kitaru.wire.plan import Granularity


@click.command(short_help="Write the pipeline for a target.", epilog=options.FLOW_HELP)
@options.flow
@options.target
@options.directory
@options.compilation
@options.store
@options.findings_format
@options.as_json
@options.pass_output
def compile(
    output: Output, flow: str, target: str, directory: Path, granularity: Granularity,
    image: str | None, delivery: str, strict: bool, store: str | None, form: str,
) -> int:  # fmt: skip
    """Write a flow's pipeline for a target, or for every target with `--target all`.

    Your code is neither imported nor run. No network or credentials are needed.

    The start time of containers is an estimate from Kitaru's table for the target, summed over the
    longest path through the flow (see `kitaru target list`). It is not a measurement.
    """
    asked = request(
        flow, target, directory, granularity=granularity, image=image, delivery=delivery,
        strict=strict, store=store,
    )  # fmt: skip
    from kitaru_compiler.diagnostics.model import SourceError

    try:
        if target == "all":
            return _for_all(asked, output, form, warn_of_local_store(store, target, output))
        compiled = write(asked, reporting(output, form))
    except SourceError as error:
        if form not in ("sarif", "github"):
            raise
        show_findings(error.diagnostics, error.sources, output, form)
        return 1
    warnings = warn_of_local_store(store, target, output)
    if output.as_json:
        if form != "sarif":
            output.document({**to_json(compiled), "warnings": warnings})
        return 0
    show(compiled, output)
    output.say(f"deploy   see {compiled.directory / 'DEPLOY.md'}")
    output.say(f"try it   kitaru dry-run {flow} --target {target}{example_inputs(compiled.plan)}")
    return 0


def _for_all(asked: Request, output: Output, form: str, warnings: list[str]) -> int:
    written, refused = compile_all(asked, reporting(output, form))
    if output.as_json:
        if form != "sarif":
            items = [to_json(compiled) for compiled in written]
            errors = {name: error.message for name, error in refused.items()}
            found = {"items": items, "count": len(items), "refused": errors}
            output.document({**found, "warnings": warnings})
        return 1 if refused else 0
    rows = [
        (one.target_name, counted(len(one.plan.steps), "step"), f"{one.directory}/")
        for one in written
    ]
    rows += [(label(name, "red"), "refused", str(error)) for name, error in refused.items()]
    output.table(rows)
    return 1 if refused else 0
