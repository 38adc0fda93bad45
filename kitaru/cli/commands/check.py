"""`kitaru check`: find errors in a flow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from kitaru.cli import options
from kitaru.cli.output import Output, counted, show_findings
from kitaru.cli.render.build import data_lines
from kitaru.errors import UsageError
from kitaru.ops.flow_ref import locate

if TYPE_CHECKING:
    from kitaru.ops.check import Checked


@click.command(short_help="Find errors without running anything.", epilog=options.FLOW_HELP)
@options.flow
@click.option("--strict", is_flag=True, help="Treat warnings and notes as errors.")
@click.option("--fix", is_flag=True, help="Change the source where a fix is safe.")
@click.option("--unsafe-fixes", is_flag=True, help="With --fix: also where the meaning may change.")
@click.option(
    "--diff", is_flag=True, help="With --fix: write nothing, and print what would change."
)
@options.findings_format
@options.as_json
@options.pass_output
def check(
    output: Output,
    flow: str,
    strict: bool,
    fix: bool,
    unsafe_fixes: bool,
    diff: bool,
    form: str,
) -> int:
    """Find errors in a flow without importing or running it.

    Exit code 1 if there are errors, and with --fix --diff if there is something to fix.
    """
    if fix:
        return _fix(output, flow, form, strict=strict, unsafe_fixes=unsafe_fixes, diff=diff)
    if unsafe_fixes or diff:
        option = "--unsafe-fixes" if unsafe_fixes else "--diff"
        help = f"kitaru check {flow} --fix --diff"
        raise UsageError(f"The option {option} has no effect without --fix.", help=help)
    from kitaru.ops.check import check as find

    return _show(output, find(locate(flow)), form, strict=strict)


def _fix(
    output: Output, flow: str, form: str, *, strict: bool, unsafe_fixes: bool, diff: bool
) -> int:
    """Fix a flow and show the remaining findings."""
    from kitaru_compiler.diagnostics.render import in_order, to_json

    from kitaru.ops.fix import fix

    fixed = fix(locate(flow), unsafe_fixes=unsafe_fixes, diff=diff)
    changed = [os.path.relpath(file.path) for file, _ in fixed.changes]
    about = {
        "fixed": [to_json(d) for d in in_order(fixed.applied)],
        "changed": changed,
        "diff": fixed.diff,
    }
    if form == "text" and not output.as_json:
        if diff and fixed.diff:
            output.say(fixed.diff.removesuffix("\n"), block=True)
        for finding in in_order(fixed.applied):
            place = f"{finding.span.file}:{finding.span.line}"
            verb = "would fix" if diff else "fixed"
            output.note(f"{verb} {finding.code} {place} {finding.message}", hang=6)
        if changed:
            verb = "would change" if diff else "changed"
            output.note(f"{verb} {', '.join(changed)}: {counted(len(fixed.applied), 'finding')}")
    code = _show(output, fixed.checked, form, strict=strict, about=about)
    return 1 if diff and changed else code


def _show(
    output: Output,
    found: Checked,
    form: str,
    *,
    strict: bool,
    about: dict[str, Any] | None = None,
) -> int:
    """Show findings, in a JSON document with what else there is to report, and return the code."""
    from kitaru_compiler.diagnostics.render import in_order, to_json

    show_findings(found.findings, found.sources, output, form)
    if output.as_json and form != "sarif":
        listed = [to_json(d) for d in in_order(found.findings)]
        output.document({"diagnostics": listed, **(about or {})})
    elif form == "text" and not found.findings:
        output.say(f"{found.location.path}: nothing to report")
    if form == "text" and not output.as_json:
        for line in data_lines(found.data):
            output.say(line, hang=9)
    return 1 if found.is_fatal(strict=strict) else 0
