"""Decides what `kitaru check` says."""

from __future__ import annotations

import click

from kitaru.cli import options
from kitaru.cli.compilation import is_fatal
from kitaru.cli.locate import locate
from kitaru.cli.output import Output, show_findings


@click.command(short_help="Find errors without running anything.", epilog=options.FLOW_HELP)
@options.flow
@click.option("--strict", is_flag=True, help="Warnings and notes are errors.")
@options.findings_format
@options.as_json
@options.pass_output
def check(output: Output, flow: str, strict: bool, form: str) -> int:
    """Find errors in a flow without importing or running it.

    Ends with 1 when there are errors.
    """
    from kitaru_compiler import check as find
    from kitaru_compiler.diagnostics.render import in_order, to_json

    from kitaru.cli.findings import from_here, named_from_here

    location = locate(flow)
    with named_from_here(location.path):
        found = find(location.path, location.flow)
    diagnostics, sources = from_here(*found, location.path)
    show_findings(diagnostics, sources, output, form)
    if output.as_json and form != "sarif":
        output.document({"diagnostics": [to_json(d) for d in in_order(diagnostics)]})
    elif form == "text" and not diagnostics:
        output.say(f"{location.path}: nothing to report")
    return 1 if is_fatal(diagnostics, strict=strict) else 0
