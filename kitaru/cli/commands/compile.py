"""`kitaru compile`: write a flow's pipeline for a target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from kitaru.ops.explain import Explanation


@click.command(short_help="Write the pipeline for a target.", epilog=options.FLOW_HELP)
@options.flow
@options.target
@options.directory
@options.compilation
@click.option(
    "--explain",
    "explained",
    is_flag=True,
    help="Explain each cut, and try which change would cut the rest.",
)
@options.store
@options.findings_format
@options.as_json
@options.pass_output
def compile(
    output: Output, flow: str, target: str, directory: Path, granularity: Granularity,
    image: str | None, delivery: str, strict: bool, explained: bool, store: str | None, form: str,
) -> int:  # fmt: skip
    """Write a flow's pipeline for a target, or for every target with `--target all`.

    Your code is neither imported nor run. No network or credentials are needed.

    The start time of containers is an estimate from Kitaru's table for the target, summed over the
    longest path through the flow (see `kitaru target list`). It is not a measurement.

    With --explain, the output lists why each cut is or is not there, what a region keeps and loses,
    and for each region the smallest change that was found to cut it. With `--target all`, it is a
    table of what each change costs.
    """
    asked = request(
        flow, target, directory, granularity=granularity, image=image, delivery=delivery,
        strict=strict, store=store,
    )  # fmt: skip
    from kitaru_compiler.diagnostics.model import SourceError

    try:
        if target == "all":
            warnings = warn_of_local_store(store, target, output)
            return _for_all(asked, output, form, warnings, explained=explained)
        compiled = write(asked, reporting(output, form))
    except SourceError as error:
        if form not in ("sarif", "github"):
            raise
        show_findings(error.diagnostics, error.sources, output, form)
        return 1
    warnings = warn_of_local_store(store, target, output)
    explanation = _explanation(asked) if explained else None
    if output.as_json:
        if form != "sarif":
            output.document({**to_json(compiled), **_explained(explanation), "warnings": warnings})
        return 0
    show(compiled, output)
    output.say(f"deploy   see {compiled.directory / 'DEPLOY.md'}")
    output.say(f"try it   kitaru dry-run {flow} --target {target}{example_inputs(compiled.plan)}")
    if explanation:
        from kitaru.cli.render import explanation as explanation_of

        output.say()
        explanation_of.show(explanation, output)
    return 0


def _explanation(asked: Request) -> Explanation:
    # Only `--explain` needs the module, and the libraries that try changes.
    from kitaru.ops.explain import explain

    return explain(asked)


def _explained(found: Explanation | None) -> dict[str, Any]:
    if found is None:
        return {}
    from kitaru.cli.render import explanation as explanation_of

    return {"explanation": explanation_of.to_json(found)}


def _for_all(
    asked: Request, output: Output, form: str, warnings: list[str], *, explained: bool
) -> int:
    written, refused = compile_all(asked, reporting(output, form))
    explanations = {
        one.target_name: _explanation(replace(asked, target=one.target_name))
        for one in written
        if explained
    }
    if output.as_json:
        if form != "sarif":
            items = [
                {**to_json(one), **_explained(explanations.get(one.target_name))} for one in written
            ]
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
    if explanations:
        from kitaru.cli.render import explanation as explanation_of

        explanation_of.show_all(list(explanations.values()), output)
    return 1 if refused else 0
