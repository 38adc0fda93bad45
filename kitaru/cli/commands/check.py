"""`kitaru check`: find errors in a flow."""

from __future__ import annotations

import click

from kitaru.cli import options
from kitaru.cli.output import Output, show_findings
from kitaru.cli.render.build import data_lines
from kitaru.ops.flow_ref import locate


@click.command(short_help="Find errors without running anything.", epilog=options.FLOW_HELP)
@options.flow
@click.option("--strict", is_flag=True, help="Treat warnings and notes as errors.")
@options.findings_format
@options.as_json
@options.pass_output
def check(output: Output, flow: str, strict: bool, form: str) -> int:
    """Find errors in a flow without importing or running it.

    Exit code 1 if there are errors.
    """
    from kitaru_compiler.diagnostics.render import in_order, to_json

    from kitaru.ops.check import check as find

    found = find(locate(flow))
    show_findings(found.findings, found.sources, output, form)
    if output.as_json and form != "sarif":
        output.document({"diagnostics": [to_json(d) for d in in_order(found.findings)]})
    elif form == "text" and not found.findings:
        output.say(f"{found.location.path}: nothing to report")
    if form == "text" and not output.as_json:
        for line in data_lines(found.data):
            output.say(line, hang=9)
    return 1 if found.is_fatal(strict=strict) else 0
