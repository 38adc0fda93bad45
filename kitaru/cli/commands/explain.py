"""Decides what `kitaru explain` says."""

from __future__ import annotations

from dataclasses import asdict

import click

from kitaru.cli import options
from kitaru.cli.output import Output
from kitaru.errors import UsageError


@click.command(short_help="Say what a diagnostic code means.")
@click.argument("code", metavar="CODE", required=False)
@options.as_json
@options.pass_output
def explain(output: Output, code: str | None) -> None:
    """Say what a diagnostic code means and what to write instead; without CODE, list them all."""
    from kitaru_compiler.diagnostics import explain as rules

    if code is None:
        listed = [rules.load(known) for known in rules.codes()]
        if output.as_json:
            output.document({"items": [asdict(rule) for rule in listed], "count": len(listed)})
        for rule in () if output.as_json else listed:
            output.say(f"{rule.code}  {rule.severity:<7}  {rule.name}")
        return
    try:
        rule = rules.load(code)
    except UsageError as error:
        help = "\n".join(filter(None, (error.help, "kitaru explain lists all of them")))
        raise UsageError(error.message, help=help) from None
    if output.as_json:
        output.document(asdict(rule))
    else:
        output.say(rules.explain(rule).rstrip())
