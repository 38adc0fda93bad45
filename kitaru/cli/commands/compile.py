"""Decides what `kitaru compile` says."""

from __future__ import annotations

from pathlib import Path

import click

from kitaru.cli import options
from kitaru.cli.compilation import (
    Request,
    compile_and_write,
    compile_for_all,
    example_inputs,
    show,
    store_in_document,
    to_json,
)
from kitaru.cli.output import Output, label, show_findings
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

    Imports and runs nothing of yours, needs no network and no credentials.

    What containers take to start is Kitaru's own table for the target, not a measurement; it is
    summed over the longest way through the flow (see `kitaru target list`).
    """
    wired = store_in_document(store)
    request = Request(flow, target, directory, granularity, image, delivery, strict, wired)
    from kitaru_compiler.diagnostics.model import SourceError

    try:
        if target == "all":
            return _for_all(request, output, form)
        compiled = compile_and_write(request, output, form)
    except SourceError as error:
        if form not in ("sarif", "github"):
            raise
        show_findings(error.diagnostics, error.sources, output, form)
        return 1
    if output.as_json:
        if form != "sarif":
            output.document(to_json(compiled))
        return 0
    show(compiled, output)
    output.say(f"deploy   see {compiled.build.directory / 'DEPLOY.md'}")
    output.say(f"try it   kitaru dry-run {flow} --target {target}{example_inputs(compiled.plan)}")
    return 0


def _for_all(request: Request, output: Output, form: str) -> int:
    written, refused = compile_for_all(request, output, form)
    if output.as_json:
        if form != "sarif":
            items = [to_json(compiled) for compiled in written]
            errors = {name: error.message for name, error in refused.items()}
            output.document({"items": items, "count": len(items), "refused": errors})
        return 1 if refused else 0
    for compiled in written:
        steps = len(compiled.plan.steps)
        output.say(f"{compiled.target.name:<10}  {steps:>3} steps  {compiled.build.directory}/")
    for name, error in refused.items():
        output.say(f"{label(name, 'red')}{' ' * (10 - len(name))}  {error}")
    return 1 if refused else 0
