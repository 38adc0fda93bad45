"""`kitaru explain`: explain a diagnostic code or a checkpoint's fingerprint."""

from __future__ import annotations

from dataclasses import asdict

import click

from kitaru.cli import options
from kitaru.cli.output import Output
from kitaru.errors import UsageError


@click.command(short_help="Explain a diagnostic code or a fingerprint.")
@click.argument("code", metavar="CODE|FLOW:CHECKPOINT", required=False)
@options.as_json
@options.pass_output
def explain(output: Output, code: str | None) -> None:
    """Explain a diagnostic code, and what to write instead. Without CODE, list all codes.

    With FLOW:CHECKPOINT (path.py:name or module:name), show the checkpoint's fingerprint. Recorded
    results are reused until one of the definitions in the fingerprint changes.
    """
    if code is not None and ":" in code:
        _explain_checkpoint(output, code)
        return
    from kitaru_compiler.diagnostics import catalogue
    from kitaru_compiler.diagnostics.explain import explain as explained

    if code is None:
        listed = [catalogue.load(known) for known in catalogue.codes()]
        if output.as_json:
            output.document({"items": [asdict(rule) for rule in listed], "count": len(listed)})
        for rule in () if output.as_json else listed:
            output.say(f"{rule.code}  {rule.severity:<7}  {rule.name}")
        return
    try:
        rule = catalogue.load(code)
    except UsageError as error:
        help = "\n".join(filter(None, (error.help, "All codes: kitaru explain")))
        raise UsageError(error.message, help=help) from None
    if output.as_json:
        output.document(asdict(rule))
    else:
        output.say(explained(rule).rstrip(), block=True)


def _explain_checkpoint(output: Output, spec: str) -> None:
    from kitaru.cli.render.fingerprint import show, to_json
    from kitaru.ops.fingerprint import fingerprint
    from kitaru.ops.flow_ref import locate

    found = fingerprint(locate(spec))
    if output.as_json:
        output.document(to_json(found))
    else:
        show(found, output)
